"""`amask eval` with the pocket model and the slice that ships."""

import json

import pytest

QUICK = ["--prompts", "2", "--seeds", "1", "--others", "0", "--clips", "4", "--max-new-tokens", "25"]
CONDITIONS = ("mask", "prompt", "unprompted", "random")


@pytest.fixture
def predictions():
    """The predictions of a file."""
    from amask.evaluation.predictions import read

    return read


def test_rows_come_of_the_predictions(amask, tmp_path, predictions):
    kept = tmp_path / "kept.jsonl"
    done = amask("eval", "gr", "gr", "gr-asr", *QUICK, "--predictions", kept, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["predictions"], found["errors"], found["skipped"]) == (str(kept), [], 0)
    assert [[(row["task"], row["condition"]) for row in table["rows"]] for table in found["tables"]] == [
        [(task, condition) for condition in CONDITIONS] for task in ("gr", "gr-asr")
    ]
    for row in (row for table in found["tables"] for row in table["rows"]):
        assert row["clips"] == 4
        for figures in (row["served"], row["unconstrained"]):
            assert figures["low"] <= figures["value"] <= figures["high"]
    # The table can be had again from the predictions alone.
    from dataclasses import asdict

    from amask.data.tasks import parse_task
    from amask.evaluation.summary import summarise

    made = predictions(kept)
    assert len(made) == 2 * 5 * 4
    again = [summarise(parse_task(table["task"]), made, table["measured_on"]) for table in found["tables"]]
    assert json.loads(json.dumps([asdict(table) for table in again])) == found["tables"]


def test_what_cannot_be_measured_does_not_keep_the_rest(amask, tmp_path):
    """The slice has no ages, which is said first; the other table comes, and the exit status says that something failed."""
    done = amask("eval", "gr", "age", *QUICK, "--json", "--bank", tmp_path / "mine")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert [row["condition"] for table in found["tables"] for row in table["rows"]] == list(CONDITIONS)
    assert [(error["task"], error["error"].partition(";")[0]) for error in found["errors"]] == [
        ("age", "no test clip of the data has labels for age")
    ]
    # Each run has a file of its own, beside the bank that was named.
    done = amask("eval", "gr", *QUICK, "--bank", tmp_path / "mine")
    assert done.exit_code == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "mine-predictions").iterdir()) == ["0001.jsonl", "0002.jsonl"]
    assert f"predictions go to {tmp_path / 'mine-predictions' / '0002.jsonl'}" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == list(CONDITIONS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["age"], "no test clip of the data has labels for age"),
        (["grr"], "unknown task 'grr'; did you mean gr"),
        (["gr", "--split", "nowhere"], "no nowhere clip of the data has labels for gr"),
    ],
)
def test_what_cannot_be_measured_at_all_is_one_line(amask, arguments, message):
    done = amask("eval", *arguments, *QUICK)
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.strip().count("\n") == 0


def test_bad_clips_and_tasks_of_ones_own(amask, tmp_path):
    from amask.data.manifest import write_manifest
    from amask.data.reading import read_manifest
    from amask.pocket import SLICE

    manifest = read_manifest(SLICE)
    clips = [clip.model_copy(update={"path": str(manifest.path(clip))}) for clip in manifest if clip.kind == "speech"]
    clips = [clip for clip in clips if clip.split == "test" and "gr" in clip.labels][:6]
    bad = [clips[0].model_copy(update={"path": "missing.opus"}), clips[1].model_copy(update={"labels": {"gr": "F"}})]
    write_manifest([*clips[2:], *bad], tmp_path / "clips.jsonl")
    (tmp_path / "own.toml").write_text('[voice]\nmetric = "acc"\nlabels = ["female", "male"]\ncolumn = "gr"\n')
    call = [
        "eval",
        "voice",
        "--data",
        tmp_path / "clips.jsonl",
        "--tasks",
        tmp_path / "own.toml",
        *QUICK,
        "--clips",
        "8",
        "--json",
    ]
    done = amask(*call)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "'F' is not a label of voice" in done.stderr
    done = amask(*call, "--skip-bad")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["skipped"] == 2
    assert "2 clips are left out" in done.stderr
    rows = [row for table in found["tables"] for row in table["rows"]]
    assert [(row["task"], row["condition"], row["clips"]) for row in rows] == [("voice", "unprompted", 4)]
