"""`amask.batch`: clips of every kind that Python has, the same answers as the pipeline's, and going on after a stop."""

import pickle

import numpy as np
import pytest


@pytest.fixture
def clips(root):
    folder = root / "docs" / "clips"
    return [folder / "woman.opus", folder / "man.opus"]


def texts_by_id(done) -> dict[str, str]:
    return {row["id"]: row["text"] for row in done.table().to_pylist()}


def test_a_list_of_clips_of_every_kind(pipe, clips, wave, tmp_path, monkeypatch):
    import amask

    woman, man = clips
    monkeypatch.chdir(woman.parent)
    mixed = [
        str(woman),
        "man.opus",
        man.read_bytes(),
        (wave, 16_000),
        {"id": "mine", "audio": {"bytes": woman.read_bytes(), "path": None}, "label": "x"},
        {"array": wave * np.float32(0.5), "sampling_rate": 16_000},
        amask.NamedClip("called", woman),
        {"nothing": 1},
        "no such file.wav",
        (object(), 16_000),
        woman.open("rb"),
    ]
    done = amask.batch(mixed, tmp_path / "out", model=pipe, task="gr", part_rows=4)
    rows = {row["path"]: row for row in done.table().to_pylist()}
    assert (done.answered, done.failed, done.skipped) == (11, 3, 0)
    good = [str(woman), "man.opus", "clip 3", "clip 4", "clip 5", "clip 6", "called", "clip 11"]
    assert [rows[name]["text"] for name in good] == ["female", "male", "male", *["female"] * 5]
    assert rows["clip 5"]["id"] == "mine"
    assert {name for name in rows if rows[name]["error"]} == {"clip 8", "no such file.wav", "clip 10"}
    again = amask.batch(mixed[:-1], tmp_path / "out", model=pipe, task="gr")
    assert (again.answered, again.skipped) == (0, 10)


def test_tables_and_data_sets_keep_their_ids(pipe, clips, tmp_path):
    import datasets
    import pandas as pd
    import pyarrow as pa

    import amask

    wanted = {"w": pipe(clips[0], task="gr").text, "m": pipe(clips[1], task="gr").text}
    rows = {"id": ["w", "m"], "audio": [{"bytes": clip.read_bytes(), "path": clip.name} for clip in clips], "age": [1, 2]}
    paths = {"key": ["w", "m"], "path": [str(clip) for clip in clips]}
    decoded = datasets.Dataset.from_dict(rows | {"audio": [str(clip) for clip in clips]}).cast_column("audio", datasets.Audio())
    sources = [
        pa.table(rows),
        pd.DataFrame(rows),
        pd.DataFrame(paths),
        datasets.Dataset.from_dict(rows),
        decoded,
        decoded.to_iterable_dataset(),
    ]
    for at, source in enumerate(sources):
        done = amask.batch(source, tmp_path / str(at), model=pipe, task="gr")
        assert texts_by_id(done) == wanted, type(source)
        assert amask.batch(source, tmp_path / str(at), model=pipe, task="gr").skipped == 2


def test_it_is_the_command_s_function(amask, pipe, root, tmp_path):
    """What the command wrote is not answered again, and the other way round."""
    from amask import batch

    folder, out = root / "docs" / "clips", tmp_path / "out"
    assert amask("batch", folder, out, "--task", "gr").exit_code == 0
    done = batch(folder, out, task="gr")
    assert (done.answered, done.skipped) == (0, 2)
    sorted(out.glob("*.parquet"))[0].unlink()
    assert batch(folder, out, model=pipe, task="gr").answered == 2


def test_a_stop_loses_no_part(pipe, clips, tmp_path):
    import amask

    class Stop(Exception):
        pass

    def stop(done: int) -> None:
        if done == 2:
            raise Stop

    many = [amask.NamedClip(str(at), clips[at % 2]) for at in range(5)]
    with pytest.raises(Stop):
        amask.batch(many, tmp_path, model=pipe, task="gr", part_rows=1, on_progress=stop)
    done = amask.batch(iter(many), tmp_path, model=pipe, task="gr")
    assert (done.answered, done.skipped) == (3, 2)
    assert sorted(row["path"] for row in done.table().to_pylist()) == list("01234")


def test_what_makes_no_sense_is_said(pipe, clips, tmp_path):
    import pyarrow as pa

    import amask
    from amask.errors import DataError, InstructionError

    with pytest.raises(DataError, match="put it into a list"):
        amask.batch(clips[0].read_bytes(), tmp_path, model=pipe, task="gr")
    with pytest.raises(DataError, match="has no audio"):
        amask.batch(pa.table({"a": [1]}), tmp_path, model=pipe, task="gr")
    with pytest.raises(InstructionError, match="unknown option 'tsak'"):
        amask.batch(clips, tmp_path, model=pipe, tsak="gr")
    with pytest.raises(InstructionError, match="got both"):
        amask.batch(clips, tmp_path, "transcribe", model=pipe, route=pipe.route(task="gr"))
    amask.batch(clips, tmp_path, model=pipe, task="gr")
    with pytest.raises(DataError, match="answers another request"):
        amask.batch(clips, tmp_path, model=pipe, task="asr")


def test_a_pipeline_goes_to_other_processes_without_its_model(pipe, clips):
    from amask import Pipeline
    from amask.errors import InstructionError

    sent = pickle.dumps(pipe)
    assert len(sent) < 10_000  # no weights
    assert pickle.loads(sent)(clips[0], task="gr").text == "female"
    with pytest.raises(InstructionError, match="loaded model"):
        pickle.dumps(Pipeline(pipe.model))


def test_the_command_s_pipeline_is_sent_to_other_processes(tmp_path):
    """Its bank names damaged files on stderr, once each, which does not travel."""
    from amask.cli.common import open_pipeline

    sent = pickle.loads(pickle.dumps(open_pipeline("pocket", tmp_path / "bank", "auto")))
    assert sent.bank.folder == tmp_path / "bank"
    assert "gr" in sent.bank
