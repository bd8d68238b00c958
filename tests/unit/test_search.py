"""The search for a composite's mask, on made-up answers: what halving keeps, what it costs, what the target asks."""

from itertools import count

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven"]


@pytest.fixture(scope="module")
def spec():
    from amask.data.tasks import parse_task

    return parse_task("gr-asr")


@pytest.fixture(scope="module")
def make():
    """Candidates by number, each with other heads on."""
    from amask.composer.candidates import Candidate
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    identity = Identity(Geometry((16,)), "f" * 16, "tiny")

    def candidate(number):
        bits = torch.tensor([[bool(number >> bit & 1) for bit in range(16)]])
        return Candidate(f"c{number}", HeadMask(bits, identity))

    return candidate


def references(clips):
    return [f"{'female' if at % 2 else 'male'}|{WORDS[at % 8]}" for at in range(clips)]


def stub(make, right, own, asked=None):
    """Answers: a candidate is right on the first so many percent of every eight clips, else it says what is in no form."""
    from amask.composer.candidates import mask_key

    shares = {mask_key(make(number).mask): share for number, share in right.items()}
    alone = {mask_key(mask): part for part, mask in enumerate(own.values())}

    def ask(masks, clips):
        if asked is not None:
            asked.append((len(masks), len(clips)))
        found = []
        for mask in masks:
            heads = mask_key(mask)
            if heads in alone:
                found.append([references(at + 1)[at].split("|")[alone[heads]] for at in clips])
            else:
                found.append([references(at + 1)[at] if at % 8 < shares[heads] * 8 / 100 else "?" for at in clips])
        return found

    return ask


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=14), st.integers(1, 40))
def test_the_best_is_never_dropped_where_it_is_best_in_every_round(spec, make, rights, clips):
    """A candidate has the same number of eight words right in every clip, so that every round ranks them as all clips do."""
    from amask.composer.candidates import mask_key
    from amask.composer.search import search, winner

    right = {mask_key(make(number).mask): share for number, share in enumerate(rights, start=1)}
    own = {"gr": make(1000).mask, "asr": make(1001).mask}
    whole = {mask_key(own["gr"]): "male", mask_key(own["asr"]): " ".join(WORDS)}

    def answer(heads):
        return whole.get(heads) or "male|" + " ".join([*WORDS[: right[heads]], *["?x"] * (8 - right[heads])])

    ask = lambda masks, some: [[answer(mask_key(mask))] * len(some) for mask in masks]  # noqa: E731
    candidates = [make(number) for number in range(1, len(rights) + 1)]
    results = list(search(spec, candidates, own, ["male|" + " ".join(WORDS)] * clips, ask))
    last = winner(results)
    assert last.clips == clips
    assert right[mask_key(last.candidate.mask)] == max(rights)
    assert last.part_scores[1].value == pytest.approx(100 * (8 - max(rights)) / 8)


def test_json_in_another_order_than_it_is_held_to_is_not_in_the_form(make):
    """When the mask is used, its answers are held to the keys in their order: that would be another answer than was measured."""
    from amask.composer.search import Target, judge
    from amask.data.tasks import parse_task

    spec = parse_task("gr-asr-json")
    right = ['{"gr": "male", "asr": "one"}', '{"gr": "female", "asr": "two"}']
    turned = ['{"asr": "one", "gr": "male"}', '{"asr": "two", "gr": "female"}']
    own = {"gr": 100.0, "asr": 0.0}
    results = [judge(spec, make(1), said, own, right, Target(), enough=2) for said in (right, turned)]
    assert [(result.ifr, result.reached) for result in results] == [(100.0, True), (0.0, False)]


def test_few_clips_reach_no_target_where_there_are_more(spec, make):
    from amask.composer.search import search

    own = {"gr": make(1000).mask, "asr": make(1001).mask}
    ask = stub(make, {1: 100}, own)
    few = list(search(spec, [make(1)], own, references(3), ask))
    assert [result.ifr for result in few] == [100.0]
    assert not few[-1].reached
    assert list(search(spec, [make(1)], own, references(3), ask, enough=3))[-1].reached


def test_of_twelve_candidates_only_the_best_two_answer_all_clips(spec, make):
    from amask.composer.search import search

    right = {number: 8 * number for number in range(1, 13)}
    own = {"gr": make(1000).mask, "asr": make(1001).mask}
    asked = []
    results = list(search(spec, [make(n) for n in right], own, references(96), stub(make, right, own, asked)))
    assert [sum(r.clips == clips for r in results) for clips in (12, 24, 48, 96)] == [12, 6, 3, 2]
    assert asked == [(14, 2), (14, 10), (8, 12), (5, 24), (4, 48)]
    assert {r.candidate.name for r in results if r.clips == 96} == {"c12", "c11"}


def test_what_never_answers_in_the_form_goes_no_further_where_another_does(spec, make):
    """Of nine candidates one is in the form: after a glance it and the parts' own masks alone answer all that is left."""
    from amask.composer.search import search, winner

    own = {"gr": make(1000).mask, "asr": make(1001).mask}
    for right, alone in (
        ({number: 100 if number == 7 else 0 for number in range(1, 10)}, True),
        (dict.fromkeys(range(1, 10), 0), False),
    ):
        asked = []
        results = list(search(spec, [make(n) for n in right], own, references(48), stub(make, right, own, asked)))
        assert asked[0][0] == 9 + 2
        assert (asked[1:] == [(1 + 2, 46)]) == alone
        assert winner(results).clips == 48
        assert not alone or winner(results).candidate.name == "c7"


def test_a_budget_of_answers_is_kept(spec, make):
    from amask.composer.search import Budget, search, winner

    right = {number: 99 for number in range(1, 9)}
    own = {"gr": make(1000).mask, "asr": make(1001).mask}
    for answers in (1, 10, 60, 150, 300):
        asked = []
        ask = stub(make, right, own, asked)
        results = list(search(spec, [make(n) for n in right], own, references(64), ask, budget=Budget(answers=answers)))
        assert sum(masks * clips for masks, clips in asked) <= max(answers, 10)  # one clip for all, at least
        assert winner(results).clips == sum(clips for _, clips in asked)


def test_a_budget_of_seconds_ends_the_search_at_the_pace_so_far(spec, make):
    from amask.composer.search import Budget, search

    right = {number: 99 for number in range(1, 9)}
    own = {"gr": make(1000).mask, "asr": make(1001).mask}
    asked, ticks = [], count()
    answer = stub(make, right, own, asked)

    def ask(masks, clips):  # one second an answer
        for _ in range(len(masks) * len(clips)):
            next(ticks)
        return answer(masks, clips)

    clock = lambda: float(str(ticks)[6:-1])  # noqa: E731 - reads the counter without moving it
    list(search(spec, [make(n) for n in right], own, references(64), ask, budget=Budget(seconds=200.0, clock=clock)))
    assert 190 <= sum(masks * clips for masks, clips in asked) <= 200


def test_masks_with_the_same_heads_answer_once(spec, make):
    from amask.composer.search import search

    own = {"gr": make(1).mask, "asr": make(2).mask}
    asked = []
    results = list(search(spec, [make(1), make(2), make(3)], own, references(8), stub(make, {3: 99}, own, asked)))
    assert asked[0][0] == 3
    assert next(r for r in results if r.candidate.name == "c3").exact == 100.0


def judged(spec, make, answers, own, clips=100, **target):
    from amask.composer.search import Target, judge, score_part_masks

    return judge(spec, make(1), answers, score_part_masks(spec, own, references(clips)), references(clips), Target(**target))


def test_the_target_by_hand(spec, make):
    right = references(100)
    own = {"gr": [r.split("|")[0] for r in right], "asr": [r.split("|")[1] for r in right]}
    perfect = judged(spec, make, right, own)
    assert (perfect.ifr, perfect.exact, perfect.reached, perfect.loss) == (100.0, 100.0, True, 0.0)

    one_out_of_form = ["?", *right[1:]]
    result = judged(spec, make, one_out_of_form, own)
    assert result.ifr == 99.0
    assert [(f.part, f.metric, f.value, f.own, f.behind) for f in result.part_scores] == [
        ("gr", "acc", 99.0, 100.0, 1.0),
        ("asr", "wer", 1.0, 0.0, 1.0),
    ]
    assert result.reached  # 99 % and one point behind: just
    assert not judged(spec, make, one_out_of_form, own, points=0.5).reached
    assert not judged(spec, make, ["?", "?", *right[2:]], own).reached

    wrong_words = ["male|one one", "female|two", *right[2:]]  # two substitutions or insertions and one more: WER 3
    worse = judged(spec, make, wrong_words, own)
    assert worse.ifr == 100.0
    assert not worse.reached
    own["asr"][:3] = ["seven", "seven", "seven"]  # the own mask is as bad: WER 3
    assert judged(spec, make, wrong_words, own).reached


def test_a_target_is_not_reached_on_a_few_clips_only(spec, make):
    right = references(10)
    own = {"gr": [r.split("|")[0] for r in right], "asr": [r.split("|")[1] for r in right]}
    assert not judged(spec, make, right, own, clips=10).reached


@pytest.mark.parametrize(("text", "seconds", "answers"), [("90s", 90.0, None), ("3m", 180.0, None), ("2000", None, 2000)])
def test_budgets_in_words(text, seconds, answers):
    from amask.composer.search import parse_budget

    budget = parse_budget(text)
    assert (budget.seconds, budget.answers) == (seconds, answers)


@pytest.mark.parametrize("text", ["", "s", "0", "-3s", "5h", "1.5s", "ten"])
def test_budgets_that_are_none(text):
    from amask.composer.search import parse_budget
    from amask.errors import MaskError

    with pytest.raises(MaskError, match="cannot read the budget"):
        parse_budget(text)
