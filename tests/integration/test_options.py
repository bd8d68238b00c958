"""Options that contradict each other, or cannot be what they say: one line at once, before any model is loaded."""

import json

import pytest

CLIP = "docs/clips/woman.opus"
REFUSED = {
    "run {clip} --mask gr --mode parallel": "mode is for a composite by",
    "run {clip} --prompt x --mode one-pass": "mode is for a composite by",
    "run {clip} --task gr_THEN_asr --mode parallel": "a plan have one way",
    "run {clip} --task gr-asr-json --keys ,": "a name is empty",
    "run {clip} --mask gr --keys a,b": "keys name the parts of a task",
    "run {clip} --task gr --predicted-bits": "predicted bits are those of an instruction",
    "run {clip} --task gr --fallback prompt": "there is no instruction",
    "run {clip} --task gr-asr-json --schema {schema} --long split": "a schema holds one answer",
    "run {clip} --task gr-asr-json --schema {deep}": "cannot read schema",
    "compose gr AND asr --json --name both@2": "gets its version from the bank",
    "compose gr AND asr --json --name Both": "is not a mask's name",
    "compose gr AND asr --json --steps 0": "cannot train with steps 0",
    "compose gr AND asr --json --png x.pdf": "ends in .png or .svg",
    "compose gr AND asr --json --keys ,": "a name is empty",
    "compose gr AND asr --json --no-train --retrain": "contradict each other",
    "compose gr AND asr --json --budget ²": "cannot read the budget",
    "predictor sensitivity gr-asr": "single tasks of amask's own",
    "predictor sensitivity gr --picture x.foo": "ends in .png or .svg",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_is_said_at_once(amask, root, tmp_path, monkeypatch, line):
    def load(*_arguments, **_settings):
        raise AssertionError("a model was loaded")

    for place in ("compose", "predictor"):
        monkeypatch.setattr(f"amask.cli.{place}.open_model", load)
    monkeypatch.setattr("amask.cli.common.open_model", load)
    places = {"clip": root / CLIP, "schema": tmp_path / "schema.json", "deep": tmp_path / "deep.json"}
    places["schema"].write_text('{"type": "object"}', encoding="utf-8")
    places["deep"].write_text('{"a":' * 100_000, encoding="utf-8")
    done = amask(*(word.replace("_", " ").format(**places) for word in line.split(" ")))
    assert done.exit_code == 1
    assert REFUSED[line] in " ".join(done.stderr.split())
    assert done.stdout == ""


def test_a_schema_is_for_one_answer(amask, root, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}', encoding="utf-8")
    for task in ("gr-ser-json", "gr THEN asr"):
        done = amask("run", root / CLIP, "--task", task, "--schema", schema)
        assert done.exit_code == 1
        assert "a schema holds one answer" in done.stderr
    held = amask("run", root / CLIP, "--mask", "gr", "--schema", schema, "--max-new-tokens", 3)
    assert held.exit_code == 0
    assert isinstance(json.loads(held.stdout)["n"], int | float)


def test_what_no_mask_serves_is_prompted_where_that_is_asked_for(amask, root):
    refused = amask("run", root / CLIP, "--instruction", "book a flight to london")
    assert refused.exit_code == 1
    done = amask("run", root / CLIP, "--instruction", "book a flight to london", "--fallback", "prompt", "--json")
    row = json.loads(done.stdout)
    assert done.exit_code == 0
    assert (row["mode"], row["prompt"], row["mask"]) == ("prompt", "book a flight to london", None)
    assert "prompting the model with it instead" in done.stderr


def test_the_predicted_bits_are_run_where_that_is_asked_for(amask, root, pocket_geometry):
    done = amask("run", root / CLIP, "--instruction", "what's the speaker's gender", "--predicted-bits", "--json")
    row = json.loads(done.stdout)
    assert (row["task"], row["mode"], row["mask"]) == ("gr", "one-pass", "predicted bits")
    assert 0 < row["heads_on"] < pocket_geometry.total
    assert "understood as gr (speaker's gender) by the predicted bits" in done.stderr


def test_keys_are_the_answers(amask, root):
    done = amask("run", root / CLIP, "--task", "gr-ser-json", "--keys", "who,mood")
    assert done.exit_code == 0
    assert list(json.loads(done.stdout)) == ["who", "mood"]


@pytest.mark.parametrize("said", ["gender and transcript as json", "what's the speaker's gender", "emotion, then the words"])
def test_predict_and_run_choose_the_same_route(amask, root, said):
    row = json.loads(amask("predict", said, "--json").stdout)
    ran = json.loads(amask("run", root / CLIP, "--instruction", said, "--json").stdout)
    assert [row[name] for name in ("task", "mode", "mask", "heads_on")] == [
        ran[name] for name in ("task", "mode", "mask", "heads_on")
    ]
