"""`amask predict` and `amask predictor`: rows, refusals and their exit status."""

import json

import pytest


def test_an_instruction_as_json(amask, pocket_geometry):
    done = amask("predict", "what's the speaker's gender", "--json")
    row = json.loads(done.stdout)
    assert done.exit_code == 0
    assert (row["decision"], row["task"], row["mode"]) == ("mask", "gr", "one-pass")
    assert row["mask"].startswith("gr@")
    assert 0 < row["heads_on"] <= pocket_geometry.total
    assert 0.5 < row["confidence"] <= 1
    assert row["neighbours"][0]["task"] == "gr"
    assert len(row["neighbours"]) == 2


def test_a_mask_is_drawn(amask):
    done = amask("predict", "gender")
    assert done.exit_code == 0
    assert "gr (speaker's gender), " in done.stdout
    assert "heads on" in done.stdout


def test_a_composite_that_the_bank_has_no_mask_for(amask):
    row = json.loads(amask("predict", "the emotion and the transcript", "--json").stdout)
    assert (row["decision"], row["task"], row["mode"], row["heads_on"]) == ("composite", "ser-asr", "parallel", None)


def test_raw_bits(amask):
    row = json.loads(amask("predict", "gender", "--predicted-bits", "--json").stdout)
    assert (row["task"], row["mode"], row["mask"]) == ("gr", "one-pass", "predicted bits")
    assert row["heads_on"] > 0


def test_a_refusal(amask):
    done = amask("predict", "book a flight to london")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "no mask serves the instruction 'book a flight to london'; the nearest tasks are" in done.stderr
    assert done.stderr.strip().count("\n") == 0
    as_json = amask("predict", "book a flight to london", "--json")
    assert as_json.exit_code == 1
    row = json.loads(as_json.stdout)
    assert (row["decision"], row["task"], row["heads_on"]) == ("refuse", None, None)


def test_nothing(amask):
    done = amask("predict", "  ")
    assert done.exit_code == 1
    assert "the instruction is empty" in done.stderr


def test_lines_in_and_rows_out(process):
    """Invisible characters, halves of characters and Latin-1 are instructions like others, and cost no other line its row."""
    said = b"what is said\n\nwhat is the weather like\ngender then transcript as json\n"
    odd = ["\u200b".encode(), b"\xff\xfe gr\xfc\xdfe", "\x00\ufe0f".encode(), b"gender"]
    started = process("predict", "-", "--json", stdin=True, text=False)
    stdout, _ = started.communicate(said + b"\n".join(odd), timeout=120)
    rows = [json.loads(line) for line in stdout.decode().splitlines()]
    assert started.returncode == 0
    assert [row["instruction"] for row in rows[:4]] == said.decode().split("\n")[:-1]
    assert [row["decision"] for row in rows[:4]] == ["mask", "refuse", "refuse", "composite"]
    assert [row["task"] for row in rows[:4]] == ["asr", None, None, "gr-asr-json"]
    assert [rows[at]["decision"] for at in (4, 6, 7)] == ["refuse", "refuse", "mask"]
    assert (len(rows), rows[7]["instruction"]) == (8, "gender")


def test_show(amask):
    about = json.loads(amask("predictor", "show", "--json").stdout)
    assert about["encoder"] == "static"
    assert set(about["tasks"]) == {"asr", "gr", "ser", "asv", "aac", "osr", "s2tt", "age"}
    assert about["parameters"] < 1_100_000
    assert amask("predictor", "show").exit_code == 0


@pytest.mark.slow
def test_a_predictor_of_ones_own_is_used(amask, few_dev_requests, tmp_path):
    tasks = tmp_path / "tasks.toml"
    tasks.write_text('[intent]\nmetric = "acc"\nlabels = ["on", "off"]\nwordings = ["what is to be switched"]\n')
    done = amask("predictor", "train", "--tasks", tasks, "--steps", "2", "--out", tmp_path / "own.safetensors")
    assert done.exit_code == 0, done.stderr
    about = json.loads(amask("predictor", "show", "--predictor", tmp_path / "own.safetensors", "--json").stdout)
    assert "intent" in about["tasks"]
    assert not list(tmp_path.glob("*.checkpoint"))


def test_the_second_stage_takes_the_tasks_that_the_data_have(amask, few_dev_requests, tmp_path):
    """The bundled bank has a mask for `age`, of which no clip of the slice has a label for training."""
    from amask.data.manifest import write_manifest
    from amask.data.reading import read_manifest
    from amask.pocket import SLICE

    manifest = read_manifest(SLICE)
    some = [clip.model_copy(update={"path": str(manifest.path(clip))}) for clip in manifest if clip.kind == "speech"]
    some.sort(key=lambda clip: clip.duration or 0)
    few = [clip for split, count in (("train", 8), ("dev", 4)) for clip in [c for c in some if c.split == split][:count]]
    write_manifest(few, tmp_path / "some.jsonl")
    stages = ("--steps", "1", "--end-to-end", "1", "--data", tmp_path / "some.jsonl", "--out", tmp_path / "own.safetensors")
    done = amask("predictor", "train", *stages, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["lineage"]["tuning"]["steps"] == 1
    write_manifest([some[0].model_copy(update={"labels": {"intent": "on"}})], tmp_path / "other.jsonl")
    done = amask("predictor", "train", "--steps", "1", "--end-to-end", "1", "--data", tmp_path / "other.jsonl")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no train clip of the data has labels for a task of the masks" in done.stderr


def test_a_damaged_predictor_is_named(amask, tmp_path):
    (tmp_path / "p.safetensors").write_bytes(b"rubbish")
    done = amask("predict", "gender", "--predictor", tmp_path / "p.safetensors")
    assert done.exit_code == 1
    assert "p.safetensors" in done.stderr


def test_no_masks_of_a_model(amask):
    done = amask("predictor", "train", "--model", "nothing", "--steps", "1")
    assert done.exit_code == 1
    assert "no masks of 'nothing'" in done.stderr


def test_how_a_score_moves_with_the_words(amask, tmp_path):
    picture = tmp_path / "spread.png"
    done = amask("predictor", "sensitivity", "gr", "--clips", 3, "--wordings", 2, "--picture", picture, "--json")
    rows = json.loads(done.stdout)
    assert [(row["condition"], row["seen"]) for row in rows] == [
        (how, seen) for seen in (True, False) for how in ("prompt", "mask", "bits")
    ]
    assert all(len(row["values"]) == 2 and 0 <= row["worst"] <= row["mean"] <= 100 for row in rows)
    assert picture.read_bytes().startswith(b"\x89PNG")
