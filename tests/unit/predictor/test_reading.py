"""Readings: only possible ones, and their probabilities against a count by hand."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

PARTS = ("asr", "gr", "ser", "age")


@pytest.fixture(scope="module")
def possible():
    from amask.predictor.reading import possible_readings

    return possible_readings(PARTS)


def scores(part, form, none):
    from amask.predictor.reading import Scores

    return Scores(torch.tensor([part], dtype=torch.float32), torch.tensor([form]), torch.tensor([none]))


def test_all_that_is_possible_is_there_once(possible):
    four, pairs, triples = 4, 4 * 3, 4 * 3 * 2
    assert len(possible.readings) == four + 2 * pairs + 2 * triples + 1
    assert len(set(possible.readings)) == len(possible.readings)


def test_nothing_impossible_is_there(possible):
    for reading in possible.readings:
        assert len(set(reading.parts)) == len(reading.parts)
        assert (reading.form == "plain") == (len(reading.parts) < 2)


numbers = st.floats(-8, 8, width=32)


@settings(deadline=None)
@given(st.lists(numbers, min_size=15, max_size=15), st.lists(numbers, min_size=2, max_size=2), numbers)
def test_probabilities_are_those_of_a_count_by_hand(part, form, none):
    from amask.predictor.reading import Reading, possible_readings

    possible = possible_readings(PARTS)
    rows = [part[at : at + 5] for at in (0, 5, 10)]
    weights = {}
    for chosen in itertools.product(range(5), repeat=3):
        said = [PARTS[at] for at in chosen if at < 4]
        if not said or len(set(said)) < len(said) or [at < 4 for at in chosen] != sorted([at < 4 for at in chosen], reverse=True):
            continue  # a part twice, a gap before a part, or nothing
        weight = math.exp(sum(row[at] for row, at in zip(rows, chosen, strict=True)))
        shares = [math.exp(each) / sum(map(math.exp, form)) for each in form]
        if len(said) == 1:
            weights[Reading((said[0],))] = weight
        else:
            weights[Reading(tuple(said), "pipe")] = weight * shares[0]
            weights[Reading(tuple(said), "json")] = weight * shares[1]
    chances = possible.log_chances(scores(rows, form, none))[0].exp()
    serves = 1 / (1 + math.exp(none))
    assert float(chances[-1]) == pytest.approx(1 - serves, abs=1e-4)
    for reading, weight in weights.items():
        assert float(chances[possible.index(reading)]) == pytest.approx(serves * weight / sum(weights.values()), abs=1e-4)


@settings(deadline=None)
@given(st.lists(numbers, min_size=15, max_size=15), st.lists(numbers, min_size=4, max_size=4), numbers)
def test_the_letters_move_chances_among_single_tasks_only(part, alone, none):
    """The network's chances count to the power of `SURE`, the letters' as they are."""
    from amask.predictor.reading import SURE, possible_readings

    possible = possible_readings(PARTS)
    given_scores = scores([part[at : at + 5] for at in (0, 5, 10)], [0.5, -0.5], none)
    before = possible.log_chances(given_scores)[0].exp().tolist()
    after = possible.chances(given_scores, torch.tensor([alone]))[0].tolist()
    assert after[4:] == pytest.approx(before[4:], abs=1e-5)
    weighed = [chance**SURE * math.exp(each) for chance, each in zip(before[:4], alone, strict=True)]
    assert after[:4] == pytest.approx([sum(before[:4]) * each / max(sum(weighed), 1e-30) for each in weighed], abs=1e-4)


def test_a_training_may_come_after_reading():
    from amask.predictor.reading import Possible, possible_readings

    whole = possible_readings(PARTS)
    possible = Possible(whole.readings, whole.slots, whole.form)
    given_scores = scores([[0.0] * 5] * 3, [0.0, 0.0], 0.0)
    with torch.inference_mode():
        possible.chances(given_scores, torch.zeros(1, 4))
    given_scores.part.requires_grad_()
    possible.log_chances(given_scores)[0, 0].backward()
    assert given_scores.part.grad is not None


def test_a_part_that_fills_two_slots_is_never_read_twice(possible):
    """The trial's `gr|gr`: the second place takes its next best part."""
    part = [[0, 9, 0, 0, 0], [1, 9, 0, 0, -5], [0, 0, 0, 0, 9]]
    chances = possible.log_chances(scores(part, [3.0, 0.0], -9.0))[0]
    assert str(possible.readings[int(chances.argmax())]) == "gr|asr"


def test_chances_of_parts_are_sums_over_readings(possible):
    chances = torch.rand(len(possible.readings), generator=torch.Generator().manual_seed(0))
    for part, chance in possible.of_parts(chances).items():
        having = [float(c) for c, reading in zip(chances, possible.readings, strict=True) if part in reading.parts]
        assert chance == pytest.approx(sum(having), rel=1e-4)


@pytest.mark.parametrize(
    ("parts", "form", "text"),
    [((), "plain", ""), (("gr",), "plain", "gr"), (("gr", "asr"), "pipe", "gr|asr"), (("asr", "gr"), "json", "{asr,gr}")],
)
def test_a_reading_as_text(parts, form, text):
    from amask.predictor.reading import Reading

    assert str(Reading(parts, form)) == text
