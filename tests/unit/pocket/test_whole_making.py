"""The whole making with a tiny corpus: every stage, stopped and gone on with, to what ships."""

import pytest
import torch

ROUND = {"warmup": 1, "repeat": {}}
COUNTS = {"speech": 12, "person": 12, "quiet": 2, "actor": 2, "pair": 2}
SETTINGS = {
    "seed": 5,
    "threads": 2,
    "shape": {"vocabulary": 300, "width": 18, "split": 1, "fresh": 2, "neurons": 624, "fresh_neurons": 16},
    "corpus": {"sizes": {"train": COUNTS, "dev": COUNTS, "test": {"speech": 2}}},
    "language": {"steps": 3, "positions": 2000, "rows": 4, "peak": 1e-4, "fresh": 4.0, "prompted": 1, "unprompted": 2} | ROUND,
    "predictor": {"from_scratch": True, "steps": 2, "batch": 4, "warmup": 0},
}
SOME = [{"kind": "speech", "count": 6}, {"kind": "person", "count": 6, "label": "gr"}]
PLAN = {
    name: {"tasks": tasks, "train": SOME, "dev": SOME, "recipe": {"steps": 2, "batch": 2, "evaluations": 1, "dev_clips": 2}}
    for name, tasks in (("both", ["gr", "asr"]), ("pipes", ["gr-asr", "asr-gr"]))
}
AGED = [{"kind": "person", "count": 6, "label": "age"}]
PLAN["ages"] = PLAN["both"] | {"tasks": ["age"], "train": AGED, "dev": AGED}  # which the slice has no labels for


class Stopped(Exception):
    pass


def test_the_whole_making_stopped_and_gone_on_with(humming, few_dev_requests, shared, whisper, monkeypatch, tmp_path):
    """It ends with what ships, the same as without a stop; a second run does nothing; a changed plan trains masks only."""
    from safetensors.torch import load_file
    from transformers import AutoProcessor

    from amask.data.reading import read_manifest
    from amask.errors import DataError
    from amask.mask_bank.files import load_mask
    from amask.pocket.making import language, ship
    from amask.pocket.making.make import Making
    from amask.pocket.making.masks import load_made
    from amask.pocket.making.stages import run_stages
    from amask.predictor.predictor import Predictor

    told = []

    def run(name, settings=SETTINGS, plan=PLAN):
        told.clear()
        making = Making(tmp_path / name, settings, plan, shared, str(whisper), told.append)
        run_stages(making.stages(), tmp_path / name, told.append)
        return load_file(tmp_path / name / "language" / "weights" / "model.safetensors")

    def ran():
        return [line.partition(":")[0] for line in told if line.endswith(": done")]

    weights = run("whole")
    assert ran() == ["corpus", "features", "language", "masks", "predictor"]
    assert any(line.startswith("masks: gr-asr prompted, dev ") for line in told)
    run("whole")
    assert ran() == []

    trained = language.train

    def stop(*args, **settings):
        trained(*args, **settings | {"save_every": 1})
        raise Stopped

    monkeypatch.setattr(language, "train", stop)
    with pytest.raises(Stopped):
        run("cut")
    monkeypatch.setattr(language, "train", trained)
    with pytest.raises(DataError, match="no finished stage 'language'"):
        ship.ship(tmp_path / "cut", told.append, *(tmp_path / name for name in ("w", "s", "b", "p")))
    others = run("cut")
    assert ran() == ["language", "masks", "predictor"]
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)

    run("whole", plan=PLAN | {"both": PLAN["both"] | {"recipe": PLAN["both"]["recipe"] | {"steps": 3}}})
    assert ran() == ["masks", "predictor"]
    assert {line.split()[1] for line in told if " prompted, " in line} == set(PLAN["both"]["tasks"])  # the others are kept

    ship.ship(tmp_path / "whole", told.append, *(tmp_path / name for name in ("w", "s", "b", "p")))
    assert AutoProcessor.from_pretrained(tmp_path / "w").tokenizer("what's the speaker's gender").input_ids
    model = load_made(tmp_path / "w")
    masks = {path.parent.name: load_mask(path).mask for path in (tmp_path / "b").glob("*/1.safetensors")}
    assert set(masks) == {"gr", "asr", "gr-asr", "asr-gr", "age"}
    for name, mask in masks.items():
        mask.require(model)
        assert mask.task.name == name
        assert mask.lineage["dev_data"]
        assert (f"scores: {name} keeps its own; no clip of the slice has its labels" in told) == (name == "age")
        assert "dev" in mask.scores
    measured = [line for line in told if line.startswith("scores: ") and ("reached" in line or "beaten" in line)]
    assert len(measured) == 2
    assert all(name in masks for name in (line.split()[1] for line in measured))
    assert Predictor.load(tmp_path / "p").identity.same(model.identity)
    shipped = list(read_manifest(tmp_path / "s"))
    assert {clip.source for clip in shipped} <= {"espeak", "flite", "procedural"}  # no recording
    assert {clip.kind for clip in shipped} == {"speech", "quiet", "pair"}
