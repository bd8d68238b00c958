"""One pass or parallel: which is chosen for what the bank has."""

import pytest
import torch


@pytest.fixture
def bank(tmp_path):
    from amask.mask_bank.bank import MaskBank

    return MaskBank(tmp_path)


@pytest.fixture
def add(bank):
    """Stores a mask of a task; `reached` is what its composition's record says, None for no record."""
    from amask.data.tasks import parse_task
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    identity = Identity(Geometry((8,)), "f" * 16, "tiny")
    numbers = iter(range(1, 200))

    def store(task, reached=None, keys=(), name=None):
        bits = torch.tensor([[bool(next(numbers) >> bit & 1) for bit in range(8)]])
        lineage = {} if reached is None else {"composite": {"reached": reached}}
        return bank.add(HeadMask(bits, identity, task=parse_task(task, keys=keys), lineage=lineage), name or task).stored

    store.identity = identity
    return store


def way(bank, add, task, how="auto", keys=()):
    from amask.data.tasks import parse_task
    from amask.serving.routing import find_way

    found = find_way(bank, parse_task(task, keys=keys), add.identity, how)
    return found.how, [mask.spec for mask in found.masks], found.why


def test_one_pass_where_a_mask_reached_its_target(bank, add):
    for task in ("gr", "asr"):
        add(task)
    add("gr-asr")
    add("gr-asr", reached=False)
    assert way(bank, add, "gr|asr") == (
        "parallel",
        ["gr@1", "asr@1"],
        "gr-asr in parallel by gr@1, asr@1, since gr-asr@1 was never measured against a target; see 'amask compose --help'",
    )
    add("gr-asr", reached=True)
    assert way(bank, add, "gr|asr")[:2] == ("one-pass", ["gr-asr@3"])
    assert way(bank, add, "gr|asr", "parallel")[:2] == ("parallel", ["gr@1", "asr@1"])


def test_the_newest_record_of_a_mask_counts(bank, add):
    """A search on more clips may say of the same heads that they do not reach the target after all."""
    for task in ("gr", "asr"):
        add(task)
    first = add("gr-asr", reached=True)
    again = first.with_(lineage={"composite": {"reached": False}})
    assert bank.add(again, "gr-asr").stored.version == 2
    assert bank.add(again, "gr-asr").stored.version == 2  # nothing new to tell
    assert way(bank, add, "gr|asr")[0] == "parallel"


def test_parallel_where_there_is_no_mask_for_the_whole(bank, add):
    for task in ("gr", "asr", "ser"):
        add(task)
    how, masks, why = way(bank, add, "ser|gr|asr")
    assert (how, masks) == ("parallel", ["ser@1", "gr@1", "asr@1"])
    assert "no mask does it in one pass" in why


def test_other_keys_are_another_answer(bank, add):
    from amask.errors import BankError

    for task in ("gr", "asr"):
        add(task)
    add("gr-asr-json", reached=True)
    assert way(bank, add, "gr-asr-json")[0] == "one-pass"
    assert way(bank, add, "gr-asr-json", keys=["GR", "ASR"])[0] == "parallel"
    with pytest.raises(BankError, match="no mask does gr-asr-json with the keys GR, ASR; gr-asr-json@1 has gr, asr"):
        way(bank, add, "gr-asr-json", "one-pass", keys=["GR", "ASR"])


def test_one_pass_where_a_part_has_no_mask(bank, add):
    add("gr")
    add("gr-asr", reached=False)
    how, masks, why = way(bank, add, "gr|asr")
    assert (how, masks) == ("one-pass", ["gr-asr@1"])
    assert "no mask for the task 'asr'" in why


def test_what_is_not_there_is_said(bank, add):
    from amask.errors import BankError

    add("gr")
    with pytest.raises(BankError, match="no mask for the task 'asr'"):
        way(bank, add, "gr|asr")
    with pytest.raises(BankError, match="no mask for the task 'gr-asr'"):
        way(bank, add, "gr|asr", "one-pass")
    with pytest.raises(BankError, match="is one task"):
        way(bank, add, "gr", "parallel")
    assert way(bank, add, "gr") == ("one-pass", ["gr@1"], "")
