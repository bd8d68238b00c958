"""The one writer: whole or not at all, and one error that says where and why."""

import ast
from pathlib import Path

import pytest


@pytest.fixture
def write_atomic():
    from amask.data.atomic_write import write_atomic

    return write_atomic


def refused(write, *arguments, **named) -> str:
    from amask.errors import FileError

    with pytest.raises(FileError) as caught:
        write(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_written_and_replaced(write_atomic, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"", b"\r\n\0\xff" * 1000):
        write_atomic(content, path)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("code", [28, 122, 30])
def test_a_full_disk_leaves_what_was_there_and_nothing_else(
    write_atomic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, code: int
) -> None:
    import os

    path = tmp_path / "file"
    write_atomic(b"old", path)

    def fail(*_arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(failing, fail)
    message = refused(write_atomic, b"new", path)
    advice = "choose a folder that can be written" if code == 30 else "free some room"
    assert message == f"cannot write {path}: {os.strerror(code)}; {advice}"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written(write_atomic, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    assert "No such file or directory" in refused(write_atomic, b"", tmp_path / "none" / "file")
    assert "Not a directory" in refused(write_atomic, b"", tmp_path / "file" / "x")
    assert "directory" in refused(write_atomic, b"", tmp_path / "folder")
    assert "File exists" in refused(write_atomic, b"", tmp_path / "file" / "x", parents=True)
    assert "null byte" in refused(write_atomic, b"", tmp_path / "a\0b")
    assert "too long" in refused(write_atomic, b"", tmp_path / ("x" * 300))
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_folders_are_made_when_asked_for(write_atomic, tmp_path: Path) -> None:
    write_atomic(b"new", tmp_path / "some" / "folder" / "file", parents=True)
    assert (tmp_path / "some" / "folder" / "file").read_bytes() == b"new"


@pytest.mark.parametrize("links", [True, False])
def test_an_exclusive_write_spares_what_is_there(
    write_atomic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_links(_source: Path, _target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")  # as on FAT file systems

    if not links:
        monkeypatch.setattr("os.link", no_links)
    path = tmp_path / "file"
    write_atomic(b"old", path, exclusive=True)
    with pytest.raises(FileExistsError) as caught:
        write_atomic(b"new", path, exclusive=True)
    assert type(caught.value) is FileExistsError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_it_is_the_only_writer(root: Path) -> None:
    """Nobody else has half-written files with names of their own, to be moved into place."""
    found = set()
    for room in ("data", "lalm", "mask_bank", "composer", "predictor", "serving", "evaluation", "cli"):
        for path in (root / room).rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if any(isinstance(node, ast.Constant) and str(node.value).endswith((".part", ".tmp")) for node in nodes):
                found.add(path.relative_to(root).as_posix())
    assert found == {"data/atomic_write.py"}
