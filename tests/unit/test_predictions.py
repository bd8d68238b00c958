"""Predictions survive the way to disk and back, and a failed write leaves what was there."""

import json

import pytest


@pytest.fixture
def predictions():
    from amask.evaluation import predictions

    return predictions


@pytest.fixture
def some(predictions):
    about = {"path": "clips/a.opus", "task": "s2tt", "reference": "die tür"}
    return [
        predictions.Prediction(how="mask", answer="die tür", **about),
        predictions.Prediction(how="prompt", wording="say it in German", answer='"a"\n\u2028\x85\r\t|', **about),
        predictions.Prediction(how="none", answer="", **about),
    ]


def test_round_trip(predictions, some, tmp_path):
    path = tmp_path / "new" / "p.jsonl"
    predictions.write(some, path)
    assert predictions.read(path) == some
    assert [file.name for file in path.parent.iterdir()] == ["p.jsonl"]
    first = path.read_text(encoding="utf-8").split("\n")[0]
    assert list(json.loads(first)) == ["path", "task", "how", "wording", "answer", "reference"]
    assert "die tür" in first


def test_path_that_is_not_utf8(predictions, tmp_path):
    odd = predictions.Prediction(path="\udce4.wav", task="gr", how="random", answer="male", reference="male")
    predictions.write([odd], tmp_path / "p.jsonl")
    assert predictions.read(tmp_path / "p.jsonl") == [odd]


def test_an_unwritable_place_is_told(predictions, some, tmp_path):
    from amask.errors import FileError

    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileError, match=r"cannot write .*p\.jsonl: "):
        predictions.write(some, tmp_path / "file" / "p.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no predictions"),
        ("{", "line 1: not JSON"),
        ("[]", "line 1: line: "),
        ('{"path": "a", "task": "gr", "how": "guess", "answer": "", "reference": ""}', "line 1: how: "),
        ('\n{"path": "a", "task": "gr", "how": "mask", "answer": ""}', "line 2: reference: Field required"),
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
