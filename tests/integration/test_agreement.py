"""What is measured is what is served: `amask eval` and `amask run` give the same answers."""

import json
from dataclasses import replace

import pytest

TASKS = ("gr", "ser", "asv", "asr", "gr-asr", "gr-asr-json")
CLIPS = 4  # a task; benchmarks/agreement.py takes more
LONGEST = 3.5  # seconds


@pytest.fixture(scope="module")
def pipe():
    import amask
    from amask.mask_bank.bank import BUNDLED

    return amask.pipeline("pocket", BUNDLED)


@pytest.mark.parametrize("task", TASKS)
def test_an_evaluation_answers_as_the_pipeline_does(pipe, task, tmp_path):
    from amask.data.reading import read_manifest
    from amask.evaluation.evaluate import evaluate
    from amask.evaluation.predictions import read
    from amask.pocket import SLICE

    manifest = read_manifest(SLICE)
    manifest = replace(manifest, clips=tuple(clip for clip in manifest if (clip.duration or 0) < LONGEST))
    settings = {"prompts": 0, "seeds": 0, "others": 0, "clips": CLIPS, "unconstrained": False, "max_new_tokens": 60}
    evaluate(pipe.model, task, manifest, pipe.bank, predictions=tmp_path / "p.jsonl", **settings)
    made = [each for each in read(tmp_path / "p.jsonl") if each.condition == "mask"]
    assert len(made) == CLIPS
    paths = [manifest.folder / each.path for each in made]
    served = pipe(paths, mask=made[0].mask, max_new_tokens=60)
    assert [result.text for result in served] == [each.answer for each in made]


def test_a_task_of_ones_own_has_one_figure_everywhere(amask, root, tmp_path):
    """Three wake words as a folder and as JSON lines: in training, in `eval` and in `run` the mask's answers are one."""
    from amask.data.manifest import Clip, write_manifest
    from amask.data.reading import read_manifest
    from amask.pocket import SLICE

    manifest = read_manifest(SLICE)
    spoken = [clip for clip in manifest if clip.kind == "speech" and clip.labels.get("gr")]
    spoken.sort(key=lambda clip: clip.duration or 0)
    chosen = [clip for label in ("female", "male") for clip in [c for c in spoken if c.labels["gr"] == label][:9]]
    word = {"female": "hey anna", "male": "hey otto"}
    (tmp_path / "set").mkdir()
    rows = []
    for at, clip in enumerate(chosen):
        split = ("train", "dev", "test")[at % 3]
        folder = tmp_path / "set" / split / word[clip.labels["gr"]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{at}.opus").write_bytes(manifest.path(clip).read_bytes())
        path = str((folder / f"{at}.opus").relative_to(tmp_path))
        rows.append(Clip(path=path, labels={"wake": word[clip.labels["gr"]]}, split=split))
    write_manifest(rows, tmp_path / "rows.jsonl")
    task = '[wake]\nmetric = "acc"\nlabels = ["hey anna", "hey otto"]\ncolumn = "{}"\nwordings = ["which wake word"]\n'
    figures = []
    for data, column in ((tmp_path / "set", "label"), (tmp_path / "rows.jsonl", "wake")):
        (tmp_path / "own.toml").write_text(task.format(column))
        common = ["--data", data, "--tasks", tmp_path / "own.toml", "--bank", tmp_path / f"bank-{column}", "--json"]
        trained = amask("bank", "train", "wake", "--steps", "2", "--batch", "4", *common)
        assert trained.exit_code == 0, trained.stderr
        dev = json.loads(trained.stdout)["scores"]["dev"]
        done = amask("eval", "wake", "--split", "dev", "--prompts", "0", "--seeds", "0", "--others", "0", *common)
        assert done.exit_code == 0, done.stderr
        (table,) = json.loads(done.stdout)["tables"]
        measured = next(row for row in table["rows"] if row["condition"] == "mask")["served"]["value"]
        clips = [path for path in sorted((tmp_path / "set" / "dev").rglob("*.opus"))]
        ran = amask("run", "--mask", "wake", "--bank", tmp_path / f"bank-{column}", "--json", *clips)
        assert ran.exit_code == 0, ran.stderr
        texts = [json.loads(line)["text"] for line in ran.stdout.splitlines()]
        right = sum(text == path.parent.name for text, path in zip(texts, clips, strict=True))
        figures.append((dev, measured, round(100 * right / len(clips), 2)))
    for dev, measured, served in figures:
        assert (dev, measured) == pytest.approx((served, served), abs=0.01)
    assert figures[0][1:] == figures[1][1:]
