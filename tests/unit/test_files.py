"""A mask's file: the same bytes for the same mask, and no damage goes unnoticed."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch


@pytest.fixture(scope="module")
def mask():
    """Three layers of 2, 3 and 1 heads."""
    from amask.data.tasks import parse_task
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    return HeadMask.from_logits(
        torch.tensor([[4.0, -0.5, 0], [0, 1e-30, -1e-30], [-4, 0, 0]]),
        Identity(Geometry((2, 3, 1)), "0123456789abcdef", "tiny"),
        task=parse_task("gr"),
        lineage={"operation": "train", "seed": 1, "note": "Geschlecht ♀"},
        scores={"acc": 0.95},
    )


@pytest.fixture
def path(tmp_path: Path, mask) -> Path:
    """The mask's file."""
    from amask.mask_bank.files import save_mask

    save_mask(mask, "gr", 2, tmp_path / "2.safetensors")
    return tmp_path / "2.safetensors"


def same(one, other) -> bool:
    """Equal in every attribute."""
    names = ("identity", "task", "lineage", "scores")
    if any(getattr(one, name) != getattr(other, name) for name in names) or not torch.equal(one.bits, other.bits):
        return False
    if one.logits is None or other.logits is None:
        return one.logits is other.logits
    return torch.equal(one.logits.view(torch.int32), other.logits.view(torch.int32))


def refused(path: Path) -> str:
    """The one line that says why a file is not read."""
    from amask.errors import MaskError
    from amask.mask_bank.files import load_mask

    with pytest.raises(MaskError) as caught:
        load_mask(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def forge(mask, path: Path, *, tensors: dict | None = None, without: str = "", **changes) -> None:
    """Write a file whose checksum is right although its content is not."""
    from amask.mask_bank import files

    whole = files.to_bytes(mask, "gr", 2)
    arrays = safetensors.numpy.load(whole) | (tensors or {})
    record = {key: value for key, value in files._record_of(whole).items() if key not in ("checksum", without)} | changes
    text = json.dumps(record | {"checksum": files._checksum(record, arrays)})
    path.write_bytes(safetensors.numpy.save(arrays, metadata={"amask": text}))


def test_round_trip(path: Path, mask) -> None:
    from amask.mask_bank.files import load_mask, save_mask

    stored = load_mask(path)
    assert (stored.name, stored.version, stored.path, stored.spec) == ("gr", 2, path, "gr@2")
    assert same(stored.mask, mask)
    plain = ~mask
    save_mask(plain, "not-gr", 1, path)  # also over a file that is there
    assert same(load_mask(path).mask, plain)
    assert [child.name for child in path.parent.iterdir()] == [path.name]


def test_golden_bytes() -> None:
    from amask.data.tasks import Task, TaskSpec
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.files import to_bytes
    from amask.mask_bank.mask import HeadMask

    task = TaskSpec(parts=(Task(name="gr", metric="acc", labels=("a", "b")),))
    mask = HeadMask.from_logits(torch.tensor([[4.0, -0.5]]), Identity(Geometry((2,)), "f", "m"), task=task, lineage={"seed": 1})
    header = (
        rb'{"__metadata__":{"amask":"{\"checksum\":\"c20774971ef6c36dac7c5b99c875b3a157a09ac97596265d0a800d1ca022889d\",'
        rb"\"fingerprint\":\"f\",\"format\":2,\"heads\":[2],"
        rb'\"lineage\":{\"seed\":1},\"model\":\"m\",\"name\":\"gr\",\"scores\":{},\"task\":{\"parts\":[{\"labels\":[\"a\",\"b\"],\"metric\":\"acc\",\"name\":\"gr\"}]},\"version\":3}"},'
        rb'"logits":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},'
        rb'"bits":{"dtype":"U8","shape":[1,2],"data_offsets":[8,10]}}'
    )
    header += b" " * (-len(header) % 8)
    assert to_bytes(mask, "gr", 3) == struct.pack("<Q", len(header)) + header + struct.pack("<2f", 4, -0.5) + b"\1\0"


def test_every_changed_byte_is_noticed(path: Path, mask) -> None:
    from amask.errors import MaskError
    from amask.mask_bank.files import from_bytes

    whole = path.read_bytes()
    for flip in (0x01, 0x20, 0xFF):
        for at in range(len(whole)):
            damaged = bytearray(whole)
            damaged[at] ^= flip
            try:
                assert same(from_bytes(bytes(damaged), path).mask, mask)  # such as \u00FC for \u00fc: the same content
            except MaskError as error:
                assert "\n" not in str(error)


def test_every_cut_is_noticed(path: Path) -> None:
    from amask.errors import MaskError
    from amask.mask_bank.files import from_bytes

    whole = path.read_bytes()
    for length in range(len(whole)):
        with pytest.raises(MaskError):
            from_bytes(whole[:length], path)
    with pytest.raises(MaskError):
        from_bytes(whole + b"\0", path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not a whole safetensors file"),
        (b"PK\x03\x04 something else", "not a whole safetensors file"),
        (struct.pack("<Q", 2**63) + b"{}", "not a whole safetensors file"),
        (safetensors.numpy.save({"bits": np.ones((1, 2), np.uint8)}), "not a mask of amask"),
        (safetensors.numpy.save({"bits": np.ones((1, 2), np.uint8)}, metadata={"other": "{}"}), "not a mask of amask"),
        (safetensors.numpy.save({"bits": np.ones((1, 2), np.uint8)}, metadata={"amask": "[]"}), "not a JSON object"),
        (safetensors.numpy.save({"bits": np.ones((1, 2), np.uint8)}, metadata={"amask": "["}), "cannot be read"),
        (safetensors.numpy.save({"bits": np.ones((1, 2), np.uint8)}, metadata={"amask": "[" * 10**5}), "cannot be read"),
    ],
)
def test_foreign_files(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "1.safetensors"
    path.write_bytes(content)
    assert why in refused(path)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "absent.safetensors")
    assert "no such file" in refused(tmp_path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "1.safetensors"
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole: takes no space
    assert "larger than 16 MiB" in refused(path)


@pytest.mark.parametrize(
    ("forgery", "why"),
    [
        ({"format": 1}, "format 1"),
        ({"version": 0}, "version"),
        ({"version": "2"}, "version"),
        ({"without": "fingerprint"}, "fingerprint"),
        ({"extra": 1}, "extra"),
        ({"heads": []}, "heads"),
        ({"heads": [2, -3, 1]}, "heads"),
        ({"heads": [10**12] * 3}, "shape"),
        ({"heads": [2, 2, 1]}, "shape"),
        ({"heads": [3, 1, 1]}, "bits do not agree with its logits"),
        ({"tensors": {"bits": np.full((3, 3), 2, np.uint8)}}, "0 or 1"),
        ({"tensors": {"bits": np.ones((3, 3), np.uint8)}}, "do not agree"),
        ({"tensors": {"bits": np.ones((3, 3), np.float32)}}, "shape"),
        ({"tensors": {"logits": np.full((3, 3), np.nan, np.float32)}}, "finite"),
        ({"tensors": {"logits": np.zeros((3, 3), np.float64)}}, "shape"),
        ({"tensors": {"gates": np.zeros(1, np.float32)}}, "shape"),
        ({"scores": {"acc": "high"}}, "scores.acc"),
    ],
)
def test_a_right_checksum_does_not_make_it_right(tmp_path: Path, mask, forgery: dict, why: str) -> None:
    path = tmp_path / "1.safetensors"
    forge(mask, path, **forgery)
    assert why in refused(path)


@pytest.mark.parametrize("wrong", [{"lineage": {"data": Path("x")}}, {"scores": {"acc": float("nan")}}])
def test_what_json_cannot_hold_is_refused(tmp_path: Path, mask, wrong: dict) -> None:
    from amask.errors import MaskError
    from amask.mask_bank.files import save_mask

    with pytest.raises(MaskError, match="lineage or scores hold what JSON cannot"):
        save_mask(mask.with_(**wrong), "gr", 1, tmp_path / "1.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_mask(path: Path, mask, monkeypatch: pytest.MonkeyPatch) -> None:
    from amask.errors import FileError
    from amask.mask_bank.files import load_mask, save_mask

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileError, match="No space left on device"):
        save_mask(~mask, "gr", 2, path)
    assert same(load_mask(path).mask, mask)
