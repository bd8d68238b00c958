"""Intents: only possible ones, and their probabilities against a count by hand."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

PARTS = ("asr", "gr", "ser", "age")


@pytest.fixture(scope="module")
def possible():
    from amask.predictor.intent import intent_space

    return intent_space(PARTS)


def scores(part, form, none):
    from amask.predictor.intent import IntentScores

    return IntentScores(torch.tensor([part], dtype=torch.float32), torch.tensor([form]), torch.tensor([none]))


def test_all_that_is_possible_is_there_once(possible):
    four, pairs, triples = 4, 4 * 3, 4 * 3 * 2
    assert len(possible.intents) == four + 2 * pairs + 2 * triples + 1
    assert len(set(possible.intents)) == len(possible.intents)


def test_nothing_impossible_is_there(possible):
    for intent in possible.intents:
        assert len(set(intent.parts)) == len(intent.parts)
        assert (intent.form == "plain") == (len(intent.parts) < 2)


numbers = st.floats(-8, 8, width=32)


@settings(deadline=None)
@given(st.lists(numbers, min_size=15, max_size=15), st.lists(numbers, min_size=2, max_size=2), numbers)
def test_probabilities_are_those_of_a_count_by_hand(part, form, none):
    from amask.predictor.intent import Intent, intent_space

    possible = intent_space(PARTS)
    rows = [part[at : at + 5] for at in (0, 5, 10)]
    weights = {}
    for chosen in itertools.product(range(5), repeat=3):
        said = [PARTS[at] for at in chosen if at < 4]
        if not said or len(set(said)) < len(said) or [at < 4 for at in chosen] != sorted([at < 4 for at in chosen], reverse=True):
            continue  # a part twice, a gap before a part, or nothing
        weight = math.exp(sum(row[at] for row, at in zip(rows, chosen, strict=True)))
        shares = [math.exp(each) / sum(map(math.exp, form)) for each in form]
        if len(said) == 1:
            weights[Intent((said[0],))] = weight
        else:
            weights[Intent(tuple(said), "pipe")] = weight * shares[0]
            weights[Intent(tuple(said), "json")] = weight * shares[1]
    probs = possible.log_probs(scores(rows, form, none))[0].exp()
    serves = 1 / (1 + math.exp(none))
    assert float(probs[-1]) == pytest.approx(1 - serves, abs=1e-4)
    for intent, weight in weights.items():
        assert float(probs[possible.index(intent)]) == pytest.approx(serves * weight / sum(weights.values()), abs=1e-4)


@settings(deadline=None)
@given(st.lists(numbers, min_size=15, max_size=15), st.lists(numbers, min_size=4, max_size=4), numbers)
def test_the_letters_move_chances_among_single_tasks_only(part, single_task, none):
    """The network's chances count to the power of `NETWORK_WEIGHT`, the n-grams' as they are."""
    from amask.predictor.intent import NETWORK_WEIGHT, intent_space

    possible = intent_space(PARTS)
    given_scores = scores([part[at : at + 5] for at in (0, 5, 10)], [0.5, -0.5], none)
    before = possible.log_probs(given_scores)[0].exp().tolist()
    after = possible.probs(given_scores, torch.tensor([single_task]))[0].tolist()
    assert after[4:] == pytest.approx(before[4:], abs=1e-5)
    weighed = [prob**NETWORK_WEIGHT * math.exp(each) for prob, each in zip(before[:4], single_task, strict=True)]
    assert after[:4] == pytest.approx([sum(before[:4]) * each / max(sum(weighed), 1e-30) for each in weighed], abs=1e-4)


def test_a_training_may_come_after_reading():
    from amask.predictor.intent import IntentSpace, intent_space

    whole = intent_space(PARTS)
    possible = IntentSpace(whole.intents, whole.slots, whole.form)
    given_scores = scores([[0.0] * 5] * 3, [0.0, 0.0], 0.0)
    with torch.inference_mode():
        possible.probs(given_scores, torch.zeros(1, 4))
    given_scores.part.requires_grad_()
    possible.log_probs(given_scores)[0, 0].backward()
    assert given_scores.part.grad is not None


def test_a_part_that_fills_two_slots_is_never_read_twice(possible):
    """The trial's `gr|gr`: the second place takes its next best part."""
    part = [[0, 9, 0, 0, 0], [1, 9, 0, 0, -5], [0, 0, 0, 0, 9]]
    probs = possible.log_probs(scores(part, [3.0, 0.0], -9.0))[0]
    assert str(possible.intents[int(probs.argmax())]) == "gr|asr"


def test_chances_of_parts_are_sums_over_intents(possible):
    probs = torch.rand(len(possible.intents), generator=torch.Generator().manual_seed(0))
    for part, prob in possible.task_marginals(probs).items():
        having = [float(c) for c, intent in zip(probs, possible.intents, strict=True) if part in intent.parts]
        assert prob == pytest.approx(sum(having), rel=1e-4)


@pytest.mark.parametrize(
    ("parts", "form", "text"),
    [((), "plain", ""), (("gr",), "plain", "gr"), (("gr", "asr"), "pipe", "gr|asr"), (("asr", "gr"), "json", "{asr,gr}")],
)
def test_a_reading_as_text(parts, form, text):
    from amask.predictor.intent import Intent

    assert str(Intent(parts, form)) == text
