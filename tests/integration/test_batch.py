"""`amask batch` on the pocket model: every kind of input, bad clips, and going on after a stop."""

import json
import shutil
import signal
import time

import pytest


@pytest.fixture
def folder(root, tmp_path):
    """Two clips, and one that is none."""
    where = tmp_path / "clips"
    (where / "inner").mkdir(parents=True)
    shutil.copy(root / "docs" / "clips" / "woman.opus", where / "woman.opus")
    shutil.copy(root / "docs" / "clips" / "man.opus", where / "inner" / "man.opus")
    (where / "bad.wav").write_bytes(b"no audio")
    return where


def rows_of(out) -> list[dict]:
    import pyarrow.parquet as pq

    return [row for part in sorted(out.glob("*.parquet")) for row in pq.read_table(part).to_pylist()]


def test_a_folder_is_answered_once_and_a_bad_clip_is_a_row(amask, folder, tmp_path):
    from amask import pipeline

    out = tmp_path / "out"
    first = amask("batch", folder, out, "--task", "gr", "--json", "--part-rows", "2")
    assert first.exit_code == 0, first.stderr
    assert json.loads(first.stdout) == {"answered": 3, "failed": 1, "skipped": 0, "out": str(out)}
    rows = {row["path"]: row for row in rows_of(out)}
    pipe = pipeline("pocket")
    for name in ("woman.opus", "inner/man.opus"):
        wanted = pipe(folder / name, task="gr", long="split")
        assert (rows[name]["text"], json.loads(rows[name]["parts"])) == (wanted.text, dict(wanted.parts))
        assert rows[name]["error"] is None
    assert rows["bad.wav"]["text"] is None
    assert "bad.wav" in rows["bad.wav"]["error"]
    before = rows_of(out)
    sorted(out.glob("*.parquet"))[0].unlink()  # as if it had been killed before this part was written
    again = json.loads(amask("batch", folder, out, "--task", "gr", "--json", "--part-rows", "2").stdout)
    assert again["answered"] + again["skipped"] == 3
    assert 0 < again["answered"] < 3
    assert {row["id"]: row for row in rows_of(out)} == {row["id"]: row for row in before}
    assert len(rows_of(out)) == 3
    other = amask("batch", folder, out, "--task", "asr")
    assert other.exit_code == 1
    assert "answers another request" in other.stderr


def test_parquet_keeps_its_ids(folder, tmp_path, amask):
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = (folder / "woman.opus").read_bytes()
    rows = [
        {"id": "a", "audio": {"bytes": data, "path": None}},
        {"id": "b", "audio": {"bytes": b"none", "path": "x.wav"}},
        {"id": "a", "audio": {"bytes": data, "path": None}},
        {"id": "c", "audio": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    assert amask("batch", tmp_path / "in.parquet", tmp_path / "out", "--mask", "gr").exit_code == 0
    found = {row["id"]: row for row in rows_of(tmp_path / "out")}
    assert sorted(found) == ["a", "b", "c"]
    assert found["a"]["text"]
    assert found["b"]["error"]
    assert found["c"]["error"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_again_and_again_no_clip_is_lost_or_twice(amask, process, wave, tmp_path, assert_same_rows):
    """The command is killed while it answers, twice; the table is that of a run without a kill."""
    import numpy as np
    import soundfile

    clips, out = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    for at in range(40):
        soundfile.write(clips / f"{at:02}.wav", wave * np.float32(1 - at / 100), 16_000)
    options = ("--task", "gr|asr", "--part-rows", "1", "--json")
    for parts in (1, 4):
        run = process("batch", clips, out, *options)
        while run.poll() is None and len(list(out.glob("part-*.parquet"))) < parts:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        _, said = run.communicate(timeout=120)
        assert parts <= len(rows_of(out)) < 40, said
    before = len(rows_of(out))
    done = json.loads(amask("batch", clips, out, *options).stdout)
    assert (done["answered"], done["skipped"]) == (40 - before, before)
    assert amask("batch", clips, tmp_path / "wanted", *options).exit_code == 0
    found = rows_of(out)
    assert len({row["id"] for row in found}) == len(found) == 40
    assert_same_rows(found, rows_of(tmp_path / "wanted"))


def test_a_folder_without_clips_is_one_line(amask, tmp_path):
    (tmp_path / "in").mkdir()
    found = amask("batch", tmp_path / "in", tmp_path / "out", "--task", "gr")
    assert found.exit_code == 1
    assert len(found.stderr.strip().splitlines()) == 1
