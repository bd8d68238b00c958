"""The search for a composite's mask, on made-up answers: what halving keeps, and what it costs."""

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

    def ask(jobs, clips):
        if asked is not None:
            asked.append((len(jobs), len(clips)))
        found = []
        for mask, task in jobs:
            heads = mask_key(mask)
            if len(task.parts) == 1:
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
    from amask.composer.search import best_result, search

    right = {mask_key(make(number).mask): share for number, share in enumerate(rights, start=1)}
    own = {"gr": make(1000).mask, "asr": make(1001).mask}
    whole = {mask_key(own["gr"]): "male", mask_key(own["asr"]): " ".join(WORDS)}

    def answer(heads):
        return whole.get(heads) or "male|" + " ".join([*WORDS[: right[heads]], *["?x"] * (8 - right[heads])])

    ask = lambda jobs, some: [[answer(mask_key(mask))] * len(some) for mask, _ in jobs]  # noqa: E731
    candidates = [make(number) for number in range(1, len(rights) + 1)]
    results = list(search(spec, candidates, own, ["male|" + " ".join(WORDS)] * clips, ask))
    last = best_result(results)
    assert last.clips == clips
    assert right[mask_key(last.candidate.mask)] == max(rights)
    assert last.part_scores[1].value == pytest.approx(100 * (8 - max(rights)) / 8)


def test_json_in_another_order_than_it_is_held_to_is_not_in_the_form():
    """When the mask is used, its answers are held to the keys in their order: that would be another answer than was measured."""
    from amask.composer.search import score_composite, score_of
    from amask.data.tasks import parse_task

    spec = parse_task("gr-asr-json")
    right = ['{"gr": "male", "asr": "one"}', '{"gr": "female", "asr": "two"}']
    turned = ['{"asr": "one", "gr": "male"}', '{"asr": "two", "gr": "female"}']
    assert [score_of(score_composite(spec, said, right), "ifr").value for said in (right, turned)] == [100.0, 0.0]


def test_of_twelve_candidates_only_the_best_two_answer_all_clips(spec, make):
    from amask.composer.search import search

    right = {number: 8 * number for number in range(1, 13)}
    own = {"gr": make(1000).mask, "asr": make(1001).mask}
    asked = []
    results = list(search(spec, [make(n) for n in right], own, references(96), stub(make, right, own, asked)))
    assert [sum(r.clips == clips for r in results) for clips in (12, 24, 48, 96)] == [12, 6, 3, 2]
    assert asked == [(14, 12), (8, 12), (5, 24), (4, 48)]
    assert {r.candidate.name for r in results if r.clips == 96} == {"c12", "c11"}


def test_a_budget_of_answers_is_kept(spec, make):
    from amask.composer.search import Budget, best_result, search

    right = {number: 99 for number in range(1, 9)}
    own = {"gr": make(1000).mask, "asr": make(1001).mask}
    for answers in (1, 10, 60, 150, 300):
        asked = []
        ask = stub(make, right, own, asked)
        results = list(search(spec, [make(n) for n in right], own, references(64), ask, budget=Budget(answers=answers)))
        assert sum(masks * clips for masks, clips in asked) <= max(answers, 10)  # one clip for all, at least
        assert best_result(results).clips == sum(clips for _, clips in asked)


def test_a_budget_of_seconds_ends_the_search_at_the_pace_so_far(spec, make):
    from amask.composer.search import Budget, search

    right = {number: 99 for number in range(1, 9)}
    own = {"gr": make(1000).mask, "asr": make(1001).mask}
    asked, ticks = [], count()
    answer = stub(make, right, own, asked)

    def ask(jobs, clips):  # one second an answer
        for _ in range(len(jobs) * len(clips)):
            next(ticks)
        return answer(jobs, clips)

    clock = lambda: float(str(ticks)[6:-1])  # noqa: E731 - reads the counter without moving it
    list(search(spec, [make(n) for n in right], own, references(64), ask, budget=Budget(seconds=200.0, clock=clock)))
    assert 190 <= sum(masks * clips for masks, clips in asked) <= 200


def test_part_masks_are_candidates_too(spec, make):
    from amask.composer.search import search

    own = {"gr": make(1).mask, "asr": make(2).mask}
    asked = []
    results = list(search(spec, [make(1), make(2), make(3)], own, references(8), stub(make, {1: 0, 2: 0, 3: 99}, own, asked)))
    assert asked[0][0] == 5  # a part's own mask is held to the part, a candidate of the same heads to the composite
    assert next(r for r in results if r.candidate.name == "c3").exact == 100.0


def test_scores_by_hand(spec, make):
    from amask.composer.search import score_candidate, score_part_masks

    right = references(100)
    own = {"gr": [r.split("|")[0] for r in right], "asr": [r.split("|")[1] for r in right]}

    def scored(answers):
        return score_candidate(spec, make(1), answers, score_part_masks(spec, own, right), right)

    perfect = scored(right)
    assert (perfect.ifr, perfect.exact, perfect.loss) == (100.0, 100.0, 0.0)
    result = scored(["?", *right[1:]])
    assert result.ifr == 99.0
    assert [(part.part, part.metric, part.value, part.own, part.gap) for part in result.part_scores] == [
        ("gr", "acc", 99.0, 100.0, 1.0),
        ("asr", "wer", 1.0, 0.0, 1.0),
    ]
    assert result.loss == 2.0  # one point out of form, one behind in each part


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
