"""Candidates of a composite: each set of heads once, worked by hand on a model of one layer and four heads."""

import pytest
import torch


@pytest.fixture
def mask():
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    identity = Identity(Geometry((4,)), "f" * 16, "tiny")
    return lambda *logits: HeadMask.from_logits(torch.tensor([logits]).float(), identity)


def heads(candidates):
    return {each.name: "".join(str(int(bit)) for bit in each.mask.bits[0]) for each in candidates}


def test_of_two_parts_by_hand(mask):
    from amask.composer.candidates import find_candidates
    from amask.composer.expression import parse

    a, b = mask(3, 1, -1, -1), mask(1, -3, 1.5, -5)
    found = heads(find_candidates(parse("a AND b"), {"a": a, "b": b}))
    # sums: 4 -2 .5 -6; twice a: 7 -1 -.5 -7 is AND again; twice b: 5 -5 2 -11 is the sum again, and b.
    assert found == {"a AND b": "1000", "a": "1100", "b": "1010", "a OR b": "1110"}


def test_weighted_sums_prefer_a_part(mask):
    from amask.composer.candidates import find_candidates
    from amask.composer.expression import parse

    a, b = mask(3, -1, 1, -1), mask(-4, 3, -1, 0.5)
    found = heads(find_candidates(parse("a"), {"a": a, "b": b}))
    assert found == {"a": "1010", "b": "0101", "a OR b": "1111", "logits a + b": "0110", "logits 2 a + b": "1110"}
    # twice b: -5 5 -1 0 is b


def test_of_three_parts_has_the_majority_and_empty_masks_are_left_out(mask):
    from amask.composer.candidates import find_candidates
    from amask.composer.expression import parse

    parts = {"a": mask(9, 9, -1, -1), "b": mask(9, -1, 9, -1), "c": mask(-1, 9, 9, 9)}
    found = heads(find_candidates(parse("a AND b AND c"), parts))
    assert "a AND b AND c" not in found  # no head is on in all
    assert found["2 OF (a, b, c)"] == "1110"


def test_relatives_come_first_and_the_nearest_of_them_before_the_others(mask, tmp_path):
    from amask.composer.candidates import find_candidates, find_relatives
    from amask.composer.expression import parse
    from amask.data.tasks import parse_task
    from amask.mask_bank.bank import MaskBank

    bank = MaskBank(tmp_path)
    names = ["asr", "asr-gr", "asr-gr-json", "gr-asr", "gr-asr-json", "gr-ser"]
    for at, name in enumerate(names):
        bank.add(mask(*[9 if at + 1 >> bit & 1 else -9 for bit in range(4)]).with_(task=parse_task(name)), name)
    relatives = find_relatives(bank.list(), parse_task("gr-asr-json"), mask(1, 1, 1, 1))
    assert [each.name for each in relatives] == ["gr-asr-json", "gr-asr", "asr-gr-json", "asr-gr"]
    found = find_candidates(parse("a"), {"a": mask(1, 1, 1, 1), "b": mask(1, 1, 1, -1)}, relatives)
    assert [each.name for each in found[:5]] == ["gr-asr-json@1", "gr-asr@1", "asr-gr-json@1", "asr-gr@1", "a"]


def test_composites_of_some_parts_come_after_those_of_all_the_nearest_three(mask, tmp_path):
    from amask.composer.candidates import find_relatives
    from amask.data.tasks import parse_task
    from amask.mask_bank.bank import MaskBank

    bank = MaskBank(tmp_path)
    names = ["asr-gr", "gr-asr", "gr-asr-json", "ser-gr-json", "asr-gr-ser", "gr-s2tt", "gr"]
    for at, name in enumerate(names):
        bank.add(mask(*[9 if at + 1 >> bit & 1 else -9 for bit in range(4)]).with_(task=parse_task(name)), name)
    relatives = find_relatives(bank.list(), parse_task("gr-ser-asr-json"), mask(1, 1, 1, 1))
    assert [each.name for each in relatives] == ["asr-gr-ser", "gr-asr-json", "gr-asr", "ser-gr-json"]
