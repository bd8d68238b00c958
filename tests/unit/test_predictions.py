"""Predictions survive the way to disk and back, and no file is ever written over."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def predictions():
    from amask.evaluation import predictions

    return predictions


@pytest.fixture
def some(predictions):
    about = {"path": "clips/a.opus", "task": "s2tt", "reference": "die tür"}
    return [
        predictions.Prediction(condition="mask", mask="s2tt@1", answer="die tür", likelihoods={"yes": 0.75, "no": 0.25}, **about),
        predictions.Prediction(
            condition="prompt", wording="say it in German", answer='"a"\n\u2028\x85\r\t|', truncated=True, **about
        ),
        predictions.Prediction(condition="unprompted", answer="", **about),
    ]


def test_round_trip(predictions, some, tmp_path):
    path = tmp_path / "new" / "p.jsonl"
    with predictions.PredictionLog(path) as log:
        log.add(some[:1])
        assert predictions.read(path) == some[:1]  # on disk at once
        log.add(some[1:])
    assert predictions.read(path) == some
    assert [file.name for file in path.parent.iterdir()] == ["p.jsonl"]
    lines = path.read_text(encoding="utf-8").split("\n")
    assert list(json.loads(lines[0])) == ["path", "task", "condition", "mask", "answer", "reference", "likelihoods"]
    assert list(json.loads(lines[2])) == ["path", "task", "condition", "answer", "reference"]
    assert "die tür" in lines[0]


def test_path_that_is_not_utf8(predictions, tmp_path):
    odd = predictions.Prediction(path="\udce4.wav", task="gr", condition="random", answer="male", reference="male")
    with predictions.PredictionLog(tmp_path / "p.jsonl") as log:
        log.add([odd])
    assert predictions.read(tmp_path / "p.jsonl") == [odd]


def test_no_run_writes_over_another(predictions, some, tmp_path):
    from amask.errors import DataError

    path = tmp_path / "p.jsonl"
    with predictions.PredictionLog(path) as log:
        log.add(some)
    with pytest.raises(DataError, match="p.jsonl is there already, and predictions are never written over"):
        predictions.PredictionLog(path)
    assert predictions.read(path) == some


def test_runs_are_numbered_also_beside_one_another(predictions, some, tmp_path):
    folder = tmp_path / "bank-predictions"
    with predictions.PredictionLog.numbered(folder) as one, predictions.PredictionLog.numbered(folder) as two:
        one.add(some[:1])
        two.add(some[1:])
    (folder / "mine.jsonl").write_text("")
    (folder / "0009.jsonl").write_text("")
    with predictions.PredictionLog.numbered(folder) as three:
        pass
    assert [each.path.name for each in (one, two, three)] == ["0001.jsonl", "0002.jsonl", "0010.jsonl"]
    assert predictions.read(one.path) + predictions.read(two.path) == some


def test_a_place_that_cannot_be_written_is_said(predictions, tmp_path):
    from amask.errors import FileError

    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "p.jsonl", tmp_path / "file" / "more" / "p.jsonl"):
        with pytest.raises(FileError, match="cannot write predictions .*choose another place"):
            predictions.PredictionLog(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_a_full_disk_is_said(predictions, some, tmp_path, monkeypatch):
    from amask.errors import FileError

    full = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 (the log closes it)
    monkeypatch.setattr(predictions, "_create", lambda _: full)
    with (
        pytest.raises(FileError, match="cannot write predictions .*p.jsonl: No space left on device; free some room"),
        predictions.PredictionLog(tmp_path / "p.jsonl") as log,
    ):
        log.add(some)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no predictions"),
        ("{", "line 1: not JSON"),
        ("[]", "line 1: line: "),
        ('{"path": "a", "task": "gr", "condition": "guess", "answer": "", "reference": ""}', "line 1: condition: "),
        ('{"path": "a", "task": "gr", "condition": "mask", "answer": "", "reference": "", "extra": 1}', "line 1: extra: "),
        ('\n{"path": "a", "task": "gr", "condition": "mask", "answer": ""}', "line 2: reference: "),
    ],
)
def test_malformed_files_are_refused(predictions, tmp_path, text, message):
    from amask.errors import DataError

    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        predictions.read(tmp_path / "p.jsonl")


def test_missing_file_is_refused(predictions, tmp_path):
    from amask.errors import DataError

    with pytest.raises(DataError, match="cannot read predictions .*: No such file or directory"):
        predictions.read(tmp_path / "none.jsonl")
