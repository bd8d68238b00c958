"""What a name means: the default of each model, who takes its place, and what is found for a task."""

import json
from pathlib import Path

import pytest
import torch

CLIPS = "c" * 16


def identity(name: str = "tiny"):
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity

    return Identity(Geometry((4, 4, 4)), f"fingerprint of {name}", name)


def make(seed: int = 0, dev: float | None = None, *, task: str = "gr", model: str = "tiny", clips: str = CLIPS, **lineage):
    """A mask of 3 layers × 4 heads, trained unless the lineage says otherwise."""
    from amask.data.tasks import parse_task
    from amask.mask_bank.mask import HeadMask

    return HeadMask.from_logits(
        torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)),
        identity(model),
        task=parse_task(task),
        lineage={"operation": "train", "dev_data": clips} | lineage,
        scores={} if dev is None else {"dev": dev},
    )


def all_on(dev: float | None = None):
    mask = make(0, dev)
    return mask.with_(bits=torch.ones(3, 4, dtype=torch.bool), logits=torch.ones(3, 4))


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def bank(tmp_path: Path, told: list[str]):
    from amask.mask_bank.bank import MaskBank

    return MaskBank(tmp_path / "bank", warn=told.append)


@pytest.fixture
def layered(tmp_path: Path):
    """An empty bank before a bundled one with gr@1 (94.0) and asr@1 (WER 2.0)."""
    from amask.mask_bank.bank import MaskBank

    bundled = MaskBank(tmp_path / "bundled")
    bundled.add(make(1, 94.0), "gr")
    bundled.add(make(2, -2.0, task="asr"), "asr")
    return MaskBank(tmp_path / "bank", bundled.folder)


def added(bank, mask, name: str = "gr") -> tuple[str, bool, str]:
    """Add a mask: its full name, whether it is the default, the note; and what the bank says of it agrees."""
    result = bank.add(mask, name)
    assert (result.stored.spec in bank.defaults()) == result.default
    assert (bank.get(name, mask.identity).spec == result.stored.spec) == result.default
    return result.stored.spec, result.default, result.note


def test_the_first_mask_is_the_default(bank) -> None:
    assert added(bank, make()) == ("gr@1", True, "")
    assert not (bank.folder / "gr" / "default.json").exists()


def test_a_new_mask_takes_the_place_only_if_it_is_no_worse_on_the_same_clips(layered) -> None:
    worse = "gr@1 stays the default: on the same dev clips gr@2 is worse (acc 14.0) than gr@1 (acc 94.0); to use it: "
    assert added(layered, make(3, 14.0)) == ("gr@2", False, worse + "amask bank use gr@2")
    unlike = "gr@1 stays the default: they have not been scored on the same dev clips; to use it: amask bank use gr@"
    assert added(layered, make(4, 100.0, clips="other")) == ("gr@3", False, unlike + "3")
    assert added(layered, make(5)) == ("gr@4", False, unlike + "4")
    assert added(layered, make(6, 94.0)) == ("gr@5", True, "gr@5 is now the default, in place of gr@1")
    assert added(layered, make(7, 93.9))[1] is False
    assert added(layered, make(8, 99.0))[1] is True
    assert layered.get("gr").version == 7


def test_masks_without_any_dev_data_are_not_scored_on_the_same(bank) -> None:
    for seed, dev in ((0, 1.0), (1, 2.0)):
        mask = make(seed, dev)
        bank.add(mask.with_(lineage={"operation": "train"}), "gr")
    assert bank.get("gr").version == 1


def test_lower_word_errors_are_better_and_shown_as_such(layered) -> None:
    note = added(layered, make(3, -12.5, task="asr"), "asr")[2]
    assert "asr@2 is worse (wer 12.5) than asr@1 (wer 2.0)" in note
    assert added(layered, make(4, -1.9, task="asr"), "asr")[1] is True


def test_a_mask_of_another_task_or_form_never_takes_the_place(bank) -> None:
    bank.add(make(0, 50.0), "mine")
    for task in ("ser", "gr-asr", "gr-asr-json"):
        _, default, note = added(bank, make(1, 90.0, task=task), "mine")
        assert not default
        assert f"they are not for the same task ({task}, gr)" in note


def test_other_wordings_of_a_task_do_not_make_it_another(bank) -> None:
    mask = make(1, 90.0)
    part = mask.task.parts[0].model_copy(update={"wordings": ("who is it",)})
    bank.add(make(0, 50.0), "gr")
    assert added(bank, mask.with_(task=mask.task.model_copy(update={"parts": (part,)})))[1] is True


def test_all_heads_on_is_nobodys_default_but_for_want_of_another(layered) -> None:
    _, default, note = added(layered, all_on(100.0))
    assert not default
    assert note == "gr@1 stays the default: all of its heads are on; to use it: amask bank use gr@2"
    _, default, note = added(layered, all_on(100.0), "mine")
    assert default
    assert note == "mine@1 is the default, as there is no other mine for tiny, although all of its heads are on"
    assert added(layered, make(1), "mine") == ("mine@2", True, "mine@2 is now the default, in place of mine@1")


def test_an_import_is_nobodys_default_but_for_want_of_another(layered) -> None:
    foreign = make(3, 100.0, operation="import")
    assert added(layered, foreign)[1:] == (
        False,
        "gr@1 stays the default: it was trained elsewhere and imported; to use it: amask bank use gr@2",
    )
    assert added(layered, make(4, operation="import"), "theirs")[1] is True
    imported = make(5, operation="import", model="imported")
    assert added(layered, imported)[1] is True  # the only one for its model
    assert layered.get("gr").version == 1  # but not what the name means


def test_each_model_has_its_default(bank) -> None:
    for seed, dev, model in ((0, 50.0, "small"), (1, 10.0, "large"), (2, 40.0, "small"), (3, 20.0, "large")):
        bank.add(make(seed, dev, model=model), "gr")
    assert [bank.get("gr", identity(model)).version for model in ("small", "large")] == [1, 4]
    assert bank.defaults() == {"gr@1", "gr@4"}
    assert json.loads((bank.folder / "gr" / "default.json").read_text()) == {"fingerprint of large": 4}


def test_the_default_is_chosen_by_hand(layered) -> None:
    from amask.errors import BankError, MaskError

    for seed, dev in ((3, 10.0), (4, 20.0)):
        layered.add(make(seed, dev), "gr")
    assert layered.use("gr@2").spec == "gr@2" == layered.get("gr").spec
    assert added(layered, make(5, 5.0))[1] is False
    assert added(layered, make(6, 10.0))[1] is True
    assert layered.use("gr@1").path.is_relative_to(layered.bundled)
    assert layered.get("gr").spec == "gr@1"
    assert layered.use("asr").spec == "asr@1"
    with pytest.raises(BankError, match="several versions: say which of gr@1, gr@2.* to use"):
        layered.use("gr")
    with pytest.raises(BankError, match="no mask 'gr@9'"):
        layered.use("gr@9")
    (layered.folder / "gr" / "2.safetensors").write_bytes(b"damaged")
    with pytest.raises(MaskError, match="damaged"):
        layered.use("gr@2")


def test_a_poor_mask_chosen_by_hand_stays_until_it_is_beaten(bank) -> None:
    bank.add(make(0, 90.0), "gr")
    bank.add(all_on(50.0), "gr")
    bank.use("gr@2")
    assert added(bank, make(1))[1] is False
    assert added(bank, make(2, 60.0))[1] is True


def test_a_damaged_default_does_not_hide_the_others(bank, told: list[str]) -> None:
    from amask.errors import MaskError

    bank.add(make(0, 1.0), "gr")
    path = bank.add(make(1, 2.0), "gr").stored.path
    path.write_bytes(path.read_bytes()[:100])
    assert bank.get("gr").version == 1
    assert len(told) == 1
    assert str(path) in told[0]
    with pytest.raises(MaskError, match="damaged"):
        bank.get("gr@2")
    (path.parent / "1.safetensors").write_bytes(b"")
    with pytest.raises(MaskError, match=r"2\.safetensors is damaged"):
        bank.get("gr")
    assert added(bank, make(3)) == ("gr@3", True, "")


@pytest.mark.parametrize("content", ["", "[]", '{"f": "1"}', '{"f": true}', '{"f"', "[" * 10**5])
def test_a_damaged_choice_is_told_and_mended_by_the_next(bank, told: list[str], content: str) -> None:
    for seed in range(2):
        bank.add(make(seed), "gr")
    bank.use("gr@2")
    choices = bank.folder / "gr" / "default.json"
    choices.write_text(content)
    assert bank.get("gr").version == 1
    assert told == [f"{choices} is damaged, so its choice is lost; choose again by 'amask bank use gr@VERSION'"]
    assert [path for path, _ in bank.verify()] == [choices]
    bank.use("gr@2")
    assert bank.get("gr").version == 2
    assert bank.verify() == ()


def test_a_choice_of_what_is_not_there_counts_for_nothing(bank) -> None:
    bank.add(make(), "gr")
    (bank.folder / "gr" / "default.json").write_text(json.dumps({identity().fingerprint: 7}))
    assert bank.get("gr").version == 1


def test_a_version_is_never_given_again(bank) -> None:
    for seed in range(3):
        bank.add(make(seed), "gr")
    for version in (3, 1, 2):
        bank.remove(f"gr@{version}")
    assert bank.names() == ()
    assert added(bank, make(4)) == ("gr@4", True, "")
    assert added(bank, make(0))[0] == "gr@5"


def test_the_default_is_removed(bank) -> None:
    for seed, dev in ((0, 1.0), (1, 3.0), (2, 2.0)):
        bank.add(make(seed, dev), "gr")
    assert bank.get("gr").version == 2
    bank.remove("gr@2")
    assert bank.get("gr").version == 1
    assert json.loads((bank.folder / "gr" / "default.json").read_text()) == {}


def test_the_same_mask_is_not_stored_twice(layered) -> None:
    layered.add(make(3), "gr")
    for seed, expected in ((1, ("gr@1", True)), (3, ("gr@2", False))):
        spec, default, note = added(layered, make(seed, 100.0, clips="other"))
        assert (spec, default) == expected
        assert note == f"{spec} is the same mask, so it is not stored again"
    both = layered.get("gr") & layered.get("asr")
    assert [added(layered, both, "both")[0] for _ in range(2)] == ["both@1"] * 2
    assert added(layered, make(1), "other")[0] == "other@1"  # a name of its own
    assert added(layered, make(1, 94.0, composition={"target": 99}))[0] == "gr@3"  # a record that gr@1 does not have


def test_parents_are_named_by_version_and_content(layered) -> None:
    layered.add(make(3, 99.0), "gr")
    parents = (layered.get("gr") & layered.get("asr")).lineage["parents"]
    assert parents == [
        {"mask": "gr@2", "task": "gr", "digest": make(3).digest},
        {"mask": "asr@1", "task": "asr", "digest": make(2, task="asr").digest},
    ]


def test_masks_are_found_by_task_whatever_they_are_called(bank) -> None:
    from amask.data.tasks import parse_task
    from amask.errors import BankError, MaskError

    bank.add(make(0, task="gr-ser"), "both")
    bank.add(make(1, task="asr"), "gr-asr")  # a misleading name
    for task in ("gr-ser", "gr|ser", "GR | ser", parse_task("gr-ser")):
        assert bank.for_task(task, identity()).spec == "both@1"
    with pytest.raises(BankError, match=r"no mask for the task 'gr-asr' in the bank; .*there are masks for asr, gr-ser"):
        bank.for_task("gr-asr")
    with pytest.raises(MaskError, match=r"'both@1' is for tiny .* this model is other"):
        bank.for_task("gr-ser", identity("other"))
    with pytest.raises(BankError, match="it has no mask of any task for this model"):
        bank.for_task("gr", identity("other"))
    assert [task.name for task in bank.tasks()] == [task.name for task in bank.tasks(identity())] == ["asr", "gr-ser"]
    assert bank.tasks(identity("other")) == ()


def test_of_several_masks_for_a_task_the_default_of_its_name_is_found(bank) -> None:
    bank.add(make(0, 50.0), "aaa")
    assert bank.for_task("gr").spec == "aaa@1"
    bank.add(make(1, 10.0), "gr")
    bank.add(make(2, 20.0), "gr")
    assert bank.for_task("gr").spec == "gr@2"
    bank.add(make(3, task="ser"), "mixed")
    bank.add(make(4, task="asr"), "mixed")  # not the default of its name, but the only one for its task
    assert bank.for_task("asr").spec == "mixed@2"
    bank.add(make(5, model="other"), "gr")
    assert bank.for_task("gr", identity("other")).spec == "gr@3"
    assert bank.for_task("gr", identity()).spec == "gr@2"


def test_json_keys_are_found_where_they_are_asked_for(bank) -> None:
    from amask.data.tasks import parse_task

    keyed = parse_task("gr-asr-json", keys=("gender", "text"))
    bank.add(make(0, task="gr-asr-json"), "gr-asr-json")
    assert bank.for_task(keyed).spec == "gr-asr-json@1"  # for want of a better one
    bank.add(make(1).with_(task=keyed), "mine")
    assert bank.for_task(keyed).spec == "mine@1"
    assert bank.for_task("gr-asr-json").spec == "gr-asr-json@1"


def test_a_task_that_amask_does_not_know_is_a_task_like_others(bank) -> None:
    from amask.data.tasks import Task, TaskSpec

    orders = TaskSpec(parts=(Task(name="orders", metric="acc", labels=("tea", "coffee")),))
    bank.add(make(0).with_(task=orders), "coffee")
    bank.add(make(1).with_(task=None), "nothing")
    assert bank.for_task("orders").task == orders
    assert bank.tasks() == (orders,)
    assert [stored.spec for stored in bank.list()] == ["coffee@1", "nothing@1"]


def test_a_bank_is_a_mapping_of_names(bank, layered) -> None:
    assert (len(bank), list(bank), bool(bank)) == (0, [], False)
    assert (len(layered), list(layered)) == (2, ["asr", "gr"])
    assert layered["gr"].spec == layered["gr@1"].spec == "gr@1"
    assert [spec in layered for spec in ("gr", "gr@1", "gr@2", "ser", "not a name", 1)] == [True, True, *[False] * 4]
    assert repr(layered) == f"MaskBank({str(layered.folder)!r}, 2 names)"
    (bank.folder.parent / "file").write_text("in the way")
    assert "unreadable" in repr(type(bank)(bank.folder.parent / "file"))


def test_without_anybody_to_tell_damage_is_a_warning(bank) -> None:
    from amask.mask_bank.bank import MaskBank

    for seed in range(2):
        path = bank.add(make(seed), "gr").stored.path
    path.write_bytes(b"")
    with pytest.warns(UserWarning, match=r"2\.safetensors is damaged"):
        assert MaskBank(bank.folder).get("gr").version == 1


def test_a_name_that_is_held_is_waited_for_and_then_refused(bank, monkeypatch: pytest.MonkeyPatch) -> None:
    from amask.errors import BankError
    from amask.mask_bank import versions

    monkeypatch.setattr(versions, "LOCK_TIMEOUT_S", 0.1)
    with (
        versions.locked(bank.folder, "gr"),
        pytest.raises(BankError, match=r"another process has held .*gr\.lock"),
    ):
        bank.add(make(), "gr")
    assert added(bank, make())[0] == "gr@1"
