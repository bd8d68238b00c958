"""The bank: versions, several processes, the bundled bank behind it, and all that can be wrong with it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch


def make(seed: int = 0, fingerprint: str = "f" * 16, model: str = "tiny", task: str = "gr"):
    """A mask of 3 layers × 4 heads."""
    from amask.data.tasks import parse_task
    from amask.mask_bank.mask import HeadMask

    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
    return HeadMask.from_logits(logits, identity(fingerprint, model), task=parse_task(task))


def identity(fingerprint: str, name: str, heads: tuple[int, ...] = (4, 4, 4)):
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity

    return Identity(Geometry(heads), fingerprint, name)


@pytest.fixture
def bank(tmp_path: Path):
    """An empty bank whose folder is not there yet."""
    from amask.mask_bank.bank import MaskBank

    return MaskBank(tmp_path / "some" / "bank")


@pytest.fixture
def layered(tmp_path: Path):
    """A bank with gr@2, before a bundled one with gr@1 and asr@1."""
    from amask.mask_bank.bank import MaskBank

    bundled = MaskBank(tmp_path / "bundled")
    bundled.add(make(1), "gr")
    bundled.add(make(2, task="asr"), "asr")
    layered = MaskBank(tmp_path / "bank", tmp_path / "bundled")
    layered.add(make(3), "gr")
    return layered


def specs(bank) -> list[str]:
    return [stored.spec for stored in bank.list()]


def one_line(caught) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_versions_count_up(bank) -> None:
    assert bank.list() == bank.names() == ()
    assert [bank.add(make(seed), "gr").stored.spec for seed in range(3)] == ["gr@1", "gr@2", "gr@3"]
    assert [bank.get(f"gr@{seed + 1}").digest for seed in range(3)] == [make(seed).digest for seed in range(3)]
    assert specs(bank) == ["gr@1", "gr@2", "gr@3"]
    assert bank.get("gr@3").path == bank.folder / "gr" / "3.safetensors"


def test_versions_go_beyond_nine(bank) -> None:
    for seed in range(11):
        bank.add(make(seed), "gr")
    assert specs(bank)[-1] == "gr@11"


def test_a_snapshot_stays_as_the_bank_was(layered, monkeypatch) -> None:
    from amask.mask_bank import versions

    kept = layered.snapshot()
    assert (specs(kept), kept.defaults()) == (["asr@1", "gr@1", "gr@2"], {"asr@1", "gr@1"})
    assert layered.add(make(4), "gr").stored.spec == "gr@3"
    layered.use("gr@3")
    layered.add(make(5), "ser")
    with monkeypatch.context() as patched:
        patched.setattr(versions, "read_versions", None)
        assert (specs(kept), kept.defaults()) == (["asr@1", "gr@1", "gr@2"], {"asr@1", "gr@1"})
        assert kept.for_task("gr").spec == "gr@1"
    assert (specs(layered), layered.for_task("gr").spec) == (["asr@1", "gr@1", "gr@2", "gr@3", "ser@1"], "gr@3")


def test_a_mask_added_through_a_snapshot_is_compared_with_what_is_there_now(layered) -> None:
    kept = layered.snapshot()
    assert kept.names() == ("asr", "gr")
    assert layered.add(make(4), "gr").stored.spec == kept.add(make(4), "gr").stored.spec == "gr@3"


def test_the_same_mask_gives_the_same_bytes(bank, tmp_path: Path) -> None:
    from amask.mask_bank.bank import MaskBank

    other = MaskBank(tmp_path / "other")
    assert bank.add(make(), "gr").stored.path.read_bytes() == other.add(make(), "gr").stored.path.read_bytes()


def test_the_bundled_bank_lies_behind(layered) -> None:
    assert specs(layered) == ["asr@1", "gr@1", "gr@2"]
    assert layered.get("asr").path.is_relative_to(layered.bundled)
    assert layered.add(make(4, task="asr"), "asr").stored.spec == "asr@2"
    assert not (layered.folder / "asr" / "1.safetensors").exists()


def test_ones_own_file_stands_before_a_bundled_one_of_the_same_version(layered) -> None:
    from amask.mask_bank.bank import MaskBank

    MaskBank(layered.bundled).add(make(9), "gr")  # a later release bundles a gr@2
    assert layered.get("gr@2").digest == make(3).digest
    assert specs(layered) == ["asr@1", "gr@1", "gr@2"]


def test_an_absent_bundled_bank_is_an_empty_one(tmp_path: Path) -> None:
    from amask.mask_bank.bank import MaskBank

    assert MaskBank(tmp_path / "bank", tmp_path / "none").list() == ()


def test_a_name_means_the_mask_that_fits_the_model(bank) -> None:
    from amask.errors import MaskError

    bank.add(make(0, "a" * 16, "small"), "gr")
    bank.add(make(1, "a" * 16, "small"), "gr")
    bank.add(make(2, "b" * 16, "large"), "gr")
    assert bank.get("gr").version == 3
    assert bank.get("gr", identity("a" * 16, "small")).version == 1
    assert bank.get("gr", identity("b" * 16, "large")).version == 3
    with pytest.raises(MaskError) as caught:
        bank.get("gr", identity("c" * 16, "other", (8, 8)))
    assert one_line(caught) == (
        "mask 'gr@3' is for large (3×4 heads, bbbbbbbbbbbbbbbb); "
        "this model is other (2×8 heads, cccccccccccccccc); see 'amask bank list'"
    )
    with pytest.raises(MaskError, match="gr@3' is for large"):
        bank.get("gr@3", identity("a" * 16, "small"))


def test_unknown_names_are_answered_by_near_ones(bank) -> None:
    from amask.errors import BankError

    with pytest.raises(BankError, match="is empty; see 'amask bank train'"):
        bank.get("gr")
    for name in ("gr", "asr", "s2tt"):
        bank.add(make(), name)
    with pytest.raises(BankError, match=r"no mask 'ars' in the bank; did you mean asr\? there are asr, gr, s2tt"):
        bank.get("ars")
    with pytest.raises(BankError, match="no mask 'gr@7' in the bank; there is gr@1$"):
        bank.get("gr@7")


@pytest.mark.parametrize(
    "spec",
    ["", " ", "GR", "..", "../gr", "gr/../gr", "/etc/passwd", "a/b", "a\\b", "~", ".gr", "-gr", "gr|asr", "gr\n", "gr\0",
     "gr@", "gr@0", "gr@x", "gr@-1", "gr@1@2", "@1", "gr@²", "ｇr", "gr.safetensors", "g" * 101],
)  # fmt: skip
def test_what_is_not_a_name_is_refused_everywhere(bank, spec: str) -> None:
    from amask.errors import BankError

    bank.add(make(), "gr")
    for act in (bank.get, bank.remove, lambda name: bank.add(make(), name)):
        with pytest.raises(BankError, match="is not a mask's name") as caught:
            act(spec)
        one_line(caught)
    assert len(list(bank.folder.rglob("*.safetensors"))) == 1
    assert len(list(bank.folder.parent.iterdir())) == 1


def test_a_version_is_not_chosen_by_the_caller(bank) -> None:
    from amask.errors import BankError

    with pytest.raises(BankError, match="without @7"):
        bank.add(make(), "gr@7")


def test_damaged_files_are_told_and_the_rest_is_served(bank) -> None:
    from amask.errors import MaskError

    for name in ("asr", "gr"):
        bank.add(make(), name)
    path = bank.add(make(1), "gr").stored.path
    path.write_bytes(path.read_bytes()[:100])
    assert specs(bank) == ["asr@1", "gr@1"]
    ((found, problem),) = bank.verify()
    assert found == path
    assert str(path) in problem
    with pytest.raises(MaskError, match="damaged"):
        bank.get("gr@2")
    assert bank.add(make(2), "gr").stored.spec == "gr@3"
    assert bank.remove("gr@2") == path
    assert bank.verify() == ()


def test_files_out_of_place_are_told(bank) -> None:
    from amask.errors import MaskError

    path = bank.add(make(), "gr").stored.path
    shutil.copy(path, path.with_name("2.safetensors"))
    shutil.copy(path, path.with_name("new.safetensors"))
    (bank.folder / "Large").mkdir()
    shutil.copy(path, bank.folder / "Large" / "1.safetensors")
    (path.parent / ".1.safetensors.0.part").write_bytes(b"left by a kill")
    with pytest.raises(MaskError, match="holds gr@1"):
        bank.get("gr@2")
    problems = {str(found.relative_to(bank.folder)): problem for found, problem in bank.verify()}
    assert set(problems) == {"gr/2.safetensors", "gr/new.safetensors", "Large/1.safetensors"}
    assert specs(bank) == ["gr@1"]


def test_links_do_not_lead_out_of_the_bank(bank, tmp_path: Path) -> None:
    from amask.errors import BankError
    from amask.mask_bank.bank import MaskBank

    outside = MaskBank(tmp_path / "outside").add(make(), "gr").stored.path
    bank.add(make(), "asr")
    (bank.folder / "gr").symlink_to(outside.parent)
    (bank.folder / "asr" / "2.safetensors").symlink_to(outside)
    for act in (bank.get, bank.remove, lambda name: bank.add(make(), name)):
        with pytest.raises(BankError, match="leads out of the bank"):
            act("gr")
    with pytest.raises(BankError, match="leads out of the bank"):
        bank.get("asr@2")
    assert specs(bank) == ["asr@1"]
    assert len(bank.verify()) == 2
    bank.remove("asr@2")  # the link, not what it leads to
    assert outside.exists()


def test_a_bank_may_be_reached_by_a_link(bank, tmp_path: Path) -> None:
    from amask.mask_bank.bank import MaskBank

    bank.add(make(), "gr")
    (tmp_path / "link").symlink_to(bank.folder)
    linked = MaskBank(tmp_path / "link")
    assert linked.get("gr").version == 1
    assert linked.add(make(1), "gr").stored.version == 2
    linked.remove("gr@1")
    assert specs(bank) == ["gr@2"]


def test_remove(layered) -> None:
    from amask.errors import BankError

    with pytest.raises(BankError, match=r"several versions: say which of gr@1, gr@2"):
        layered.remove("gr")
    with pytest.raises(BankError, match="bundled"):
        layered.remove("gr@1")
    with pytest.raises(BankError, match="bundled"):
        layered.remove("asr")
    assert not layered.remove("gr@2").exists()
    assert specs(layered) == ["asr@1", "gr@1"]
    layered.add(make(), "ser")
    layered.remove("ser")
    assert "ser" not in layered.names()


def test_unwritable_and_unreadable_folders(tmp_path: Path) -> None:
    from amask.errors import BankError
    from amask.mask_bank.bank import MaskBank

    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    for folder in (in_the_way, in_the_way / "bank"):
        with pytest.raises(BankError, match=r"cannot write to bank .*AMASK_BANK") as caught:
            MaskBank(folder).add(make(), "gr")
        assert str(folder) in one_line(caught)
    with pytest.raises(BankError, match="cannot read bank"):
        MaskBank(in_the_way).list()


def test_files_where_folders_should_be(bank) -> None:
    from amask.errors import BankError

    bank.add(make(), "gr")
    (bank.folder / "asr").write_text("not a folder")
    (bank.folder / "gr" / "2.safetensors").mkdir()
    assert specs(bank) == ["gr@1"]
    assert len(bank.verify()) == 1
    assert bank.add(make(1), "gr").stored.version == 3
    with pytest.raises(BankError, match="cannot write to bank"):
        bank.add(make(), "asr")
    with pytest.raises(BankError, match="no mask 'asr'"):
        bank.get("asr")
    with pytest.raises(BankError, match="cannot remove"):
        bank.remove("gr@2")


def test_links_in_a_circle_are_told(bank) -> None:
    from amask.errors import MaskError

    path = bank.add(make(), "gr").stored.path
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(MaskError, match="no such file"):
        bank.get("gr")
    assert len(bank.verify()) == 1


def test_a_write_that_fails_is_told(bank, monkeypatch: pytest.MonkeyPatch) -> None:
    from amask.errors import FileError

    def refuse(_source: Path, _target: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("os.link", refuse)
    with pytest.raises(FileError, match="Read-only file system"):
        bank.add(make(), "gr")
    assert bank.list() == bank.verify() == ()


ADD_SOME = """
import random
import sys
from pathlib import Path
import torch
from amask.lalm.gating import Geometry
from amask.lalm.identity import Identity
from amask.mask_bank.bank import MaskBank
from amask.mask_bank.mask import HeadMask

bank = MaskBank(Path(sys.argv[1]))
model = Identity(Geometry((4, 4, 4)), "f", "tiny")
print("ready", flush=True)
sys.stdin.readline()
for at in range(int(sys.argv[2])):
    score = random.random()
    lineage = {"operation": "train", "dev_data": "d"}
    mask = HeadMask.from_logits(torch.randn(3, 4), model, lineage=lineage, scores={"dev": score})
    print(bank.add(mask, "gr").stored.version, bank.add(mask, "gr").stored.version)
"""


def test_processes_that_add_at_once_get_versions_of_their_own_and_the_best_is_the_default(tmp_path: Path) -> None:
    from amask.mask_bank.bank import MaskBank

    bank, count = MaskBank(tmp_path / "bank"), 20
    command = [sys.executable, "-c", ADD_SOME, str(bank.folder), str(count)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:
        workers = (one, other)
        assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 2
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        pairs = [[line.split() for line in worker.stdout.read().splitlines()] for worker in workers]
    assert all(first == again for each in pairs for first, again in each)
    versions = [[int(first) for first, _ in each] for each in pairs]
    assert sorted(versions[0] + versions[1]) == list(range(1, 2 * count + 1))
    assert all(one == sorted(one) for one in versions)
    assert len(bank.list()) == 2 * count
    assert bank.verify() == ()
    left = {path.name for path in (bank.folder / "gr").iterdir()}
    assert left - {"default.json"} == {f"{version}.safetensors" for version in range(1, 2 * count + 1)}  # nothing half-written
    assert bank.get("gr").scores["dev"] == max(stored.scores["dev"] for stored in bank.list())


def test_open_takes_names_and_paths(bank, tmp_path: Path) -> None:
    from amask.errors import BankError, MaskError
    from amask.mask_bank.bank import open_mask

    stored = bank.add(make(), "gr").stored
    assert open_mask("gr", bank).spec == "gr@1"
    assert open_mask(str(stored.path), bank).spec == "gr@1"
    moved = shutil.copy(stored.path, tmp_path / "mine.safetensors")
    assert open_mask(str(moved), bank, identity("f" * 16, "tiny")).task_name == "gr"
    with pytest.raises(MaskError, match="'gr@1' is for tiny .* this model is other"):
        open_mask(str(moved), bank, identity("e" * 16, "other"))
    with pytest.raises(MaskError, match="there is no such file"):
        open_mask(str(tmp_path / "none.safetensors"), bank)
    with pytest.raises(BankError, match="is not a mask's name"):
        open_mask("some/folder", bank)


def test_default_bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from amask.mask_bank.bank import BUNDLED, MaskBank, default_folder

    monkeypatch.setenv("AMASK_BANK", str(tmp_path / "mine"))
    assert default_folder() == tmp_path / "mine"
    assert (MaskBank.default().folder, MaskBank.default().bundled) == (tmp_path / "mine", BUNDLED)
    monkeypatch.setenv("AMASK_BANK", "")
    assert default_folder().parts[-2:] == ("amask", "bank")


def test_describe(bank) -> None:
    from amask.mask_bank.files import describe

    mask = make().with_(lineage={"operation": "train"}, scores={"acc": 0.5})
    assert describe(bank.add(mask, "gr").stored) == {
        "name": "gr",
        "version": 1,
        "task": "gr",
        "model": "tiny",
        "heads_on": mask.heads_on,
        "heads_total": 12,
        "geometry": [4, 4, 4],
        "fixed_layers": [],
        "fingerprint": "f" * 16,
        "digest": mask.digest,
        "lineage": {"operation": "train"},
        "scores": {"acc": 0.5},
    }
