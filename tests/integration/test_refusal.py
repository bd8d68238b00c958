"""A mask of one model is never used on another: every way in refuses it by name and geometry, and leaves no trace.

The other model is a random Qwen2-Audio of 2×4 heads; the pocket model has more.
"""

import importlib.util
import itertools
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

POCKET = "pocket ("
CODE = "0123456789abcdef"

# Every command there is, and whether it brings a mask and a model, or two masks, together. Whoever adds one that does
# adds it here and to CALLS below.
COMMANDS = {
    "run": True,
    "compose": True,
    "eval": True,
    "bank compare": True,
    "bank import": True,
    "bank train": True,
    "bank list": False,
    "bank show": False,
    "bank export": False,
    "bank use": False,
    "bank verify": False,
    "bank remove": False,
    "predict": False,  # no model is loaded
    "predictor train": False,
    "predictor eval": False,
    "predictor show": False,
    "predictor reset": False,
    "predictor sensitivity": False,  # looks masks up for its own model
    "ablate": False,  # likewise
    "report": False,  # likewise
    "bank push": False,
    "bank pull": False,
    "serve": False,  # likewise, by name
    "batch": False,  # by the pipeline, as run does
    "doctor": False,
}
# {tiny}: a mask of the other model in the user's bank; {file}: the same in a file; {twin}: a mask with the pocket
# model's geometry and other weights; {pth}: a mask of 40×40 heads in the authors' layout; {other}: the other model.
CALLS = {
    "run --mask NAME": "run {clip} --mask {tiny}",
    "run --mask NAME@VERSION": "run {clip} --mask {tiny}@1",
    "run --mask FILE": "run {clip} --mask {file}",
    "run --mask, same geometry": "run {clip} --mask {twin}",
    "run --mask, bundled": "run {clip} --mask gr --model {other}",
    "run --mask, several clips": "run {clip} {clip} --mask {tiny} --json",
    "run --task": "run {clip} --task gr --model {other}",
    "run --instruction": "run {clip} --instruction what's~the~speaker's~gender --model {other}",
    "compose": "compose gr AND {tiny}",
    "compose, the first": "compose {tiny} OR gr",
    "compose, alone": "compose NOT {tiny}",
    "compose, votes": "compose 2 OF ( gr , asr , {tiny} )",
    "compose, same geometry": "compose gr MINUS {twin}",
    "compose, bundled": "compose gr AND asr --model {other} --name both",
    "compose --json": "compose gr AND {tiny} --json",
    "compose --pipe": "compose gr AND asr --pipe --model {other}",
    "eval": "eval {tiny}",
    "eval, bundled": "eval gr@1 --model {other}",
    "eval --json": "eval asr {twin} --json --predictions predictions.jsonl",
    "bank train --start": "bank train gr --start {tiny} --steps 1",
    "bank train --start, same geometry": "bank train gr --start {twin} --steps 1",
    "bank train --start, bundled": "bank train gr --start gr --steps 1 --model {other}",
    "bank compare": "bank compare gr {tiny}",
    "bank compare, the first": "bank compare {tiny} gr --json",
    "bank compare FILE": "bank compare {file} gr",
    "bank compare, same geometry": "bank compare gr {twin}",
    "bank import --vouch": "bank import {pth} --vouch --model pocket",
    "bank import --vouch, the other": "bank import {pth} --vouch --model {other} --name theirs",
}


def texts(answers) -> list[str]:
    return [answer.text for answer in answers]


@pytest.fixture(scope="session")
def folder(root, tmp_path_factory) -> Path:
    """The other model, as a folder."""
    spec = importlib.util.spec_from_file_location("tiny_models", root / "tests" / "unit" / "conftest.py")
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    model, processor = tiny.build_tiny_qwen2_audio()
    place = tmp_path_factory.mktemp("models") / "other"
    model.save_pretrained(place)
    processor.save_pretrained(place)
    return place


@pytest.fixture(scope="session")
def other(folder):
    """The other model, loaded."""
    from amask.lalm.registry import load_model

    return load_model(str(folder), "cpu")


@pytest.fixture
def tiny(other):
    """A mask of the other model."""
    from amask.data.tasks import parse_task
    from amask.mask_bank.mask import HeadMask

    bits = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0]], dtype=torch.bool)
    return HeadMask(bits=bits, identity=other.identity, task=parse_task("ser"))


@pytest.fixture
def gr():
    """A bundled mask of the pocket model."""
    from amask.mask_bank.bank import MaskBank

    return MaskBank.default().get("gr").mask


def twin_of(mask):
    """The same bits for another model of the same geometry."""
    return mask.with_(identity=replace(mask.identity, fingerprint=CODE, name="twin"))


@pytest.fixture
def names(tiny, gr, folder, clip, tmp_path, monkeypatch) -> dict[str, str]:
    """What the calls name; the masks are in the user's bank, and the working folder is the test's."""
    from amask.mask_bank.bank import MaskBank
    from amask.mask_bank.files import save_mask

    bank = MaskBank.default()
    assert bank.add(tiny, "tiny").stored.version == bank.add(twin_of(gr), "twin").stored.version == 1
    save_mask(tiny, "tiny", 1, tmp_path / "tiny.safetensors")
    torch.save({"model": {"tensor": torch.linspace(-3, 3, 40 * 41)}}, tmp_path / "salmonn.pth")
    monkeypatch.chdir(tmp_path)
    files = {"file": tmp_path / "tiny.safetensors", "pth": tmp_path / "salmonn.pth", "other": folder, "clip": clip}
    return {"tiny": "tiny", "twin": "twin"} | {name: str(path) for name, path in files.items()}


def contents(*folders: Path) -> dict[Path, tuple[int, bytes]]:
    """Everything below some folders: when it was changed, and what it holds."""
    paths = itertools.chain.from_iterable(folder.rglob("*") for folder in folders)
    return {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in paths}


@pytest.mark.parametrize("call", CALLS)
def test_commands_refuse(amask, names, call, tmp_path, folder, pocket_geometry):
    places = (tmp_path, folder, Path(os.environ["AMASK_BANK"]).parent)
    before = contents(*places)
    done = amask(*(word.replace("~", " ").format(**names) for word in CALLS[call].split()))
    assert done.exit_code == 1
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("amask: understood as gr")]
    assert len(lines) == 1, lines
    theirs = f"{names['other']} (2×4 heads"
    if "{pth}" in CALLS[call]:
        model, geometry = ("pocket", str(pocket_geometry)) if "pocket" in call + CALLS[call] else (names["other"], "2×4")
        assert f"a model of {geometry} ({model})" in lines[0]
        assert "40×40 heads have that length (SALMONN 13B" in lines[0]
    elif "twin" in CALLS[call]:
        assert f"is for twin ({pocket_geometry} heads" in lines[0]
        assert f"this model is pocket ({pocket_geometry} heads" in lines[0]
    else:
        assert POCKET in lines[0]
        assert theirs in lines[0]
    assert contents(*places) == before


def test_every_command_is_looked_at():
    import typer

    from amask.cli.main import app

    def walk(command, path):
        subcommands = getattr(command, "commands", {})
        return [" ".join(path)] if not subcommands else [w for n, c in subcommands.items() for w in walk(c, (*path, n))]

    found = set(walk(typer.main.get_command(app), ()))
    assert found == COMMANDS.keys(), "a command is new or gone: say here whether it brings a mask and a model together"
    takes_masks = {name for name, takes in COMMANDS.items() if takes}
    assert {name for name in takes_masks if not any(call.startswith(name) for call in CALLS.values())} == set()


def test_a_name_stands_for_the_mask_that_fits(amask, names, clip):
    """A newer mask of another model does not hide an older one of this model."""
    from amask.mask_bank.bank import MaskBank

    bank = MaskBank.default()
    foreign = bank.add(bank.get("tiny"), "gr").stored
    done = amask("run", clip, "--task", "gr")
    assert (done.exit_code, done.stdout) == (0, "female\n")
    done = amask("run", clip, "--mask", foreign.spec)
    assert done.exit_code == 1
    assert f"mask '{foreign.spec}' is for" in done.stderr


def refused(call, *fragments) -> None:
    from amask.errors import MaskError

    with pytest.raises(MaskError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert all(fragment in message for fragment in fragments), message


def test_masks_do_not_combine(gr, tiny, other):
    from amask.composer.algebra import evaluate, evaluate_logits, sum_logits
    from amask.composer.expression import parse

    theirs = f"{other.name} (2×4 heads"
    twin = twin_of(gr)
    before = [mask.bits.clone() for mask in (gr, tiny, twin)]
    for one, two in itertools.permutations((gr, tiny, twin), 2):
        about = [str(mask.identity) for mask in (one, two)]
        for combine in ("__and__", "__or__", "__xor__", "__sub__", "jaccard"):
            refused(lambda one=one, two=two, combine=combine: getattr(one, combine)(two), *about)
    refused(lambda: sum_logits([gr, gr, tiny]), POCKET, theirs)
    for expression in ("a & b", "a | b", "a ^ b", "a MINUS b", "1 OF (a, a, b)", "3 OF (a, a, b)", "NOT (a OR NOT b)"):
        for by in (evaluate, evaluate_logits):
            refused(lambda text=expression, by=by: by(parse(text), {"a": gr, "b": tiny}.__getitem__), POCKET, theirs)
    assert all(torch.equal(mask.bits, bits) for mask, bits in zip((gr, tiny, twin), before, strict=True))


def test_the_bank_gives_no_mask_of_another_model(names, other, tmp_path):
    from amask.mask_bank.bank import MaskBank, open_mask

    bank = MaskBank.default()
    theirs = f"this model is {other.name} (2×4 heads"
    for spec in ("gr", f"gr@{bank.get('gr').version}"):
        refused(lambda spec=spec: bank.get(spec, other), f"is for {POCKET}", theirs)
        refused(lambda spec=spec: open_mask(spec, bank, other), f"is for {POCKET}", theirs)
    refused(lambda: bank.get("gr").require(other), f"is for {POCKET}", theirs)
    pocket = bank.get("gr").mask
    for spec in ("tiny", names["file"]):
        refused(lambda spec=spec: open_mask(spec, bank, pocket), f"is for {other.name} (2×4", f"this model is {POCKET}")
    assert open_mask("tiny", bank, other).identity == other.identity


@pytest.fixture(scope="session")
def features(other):
    """Two clips as the other model hears them."""
    rng = np.random.default_rng(0)
    return other.encode([rng.normal(0, 0.1, length).astype(np.float32) for length in (8_000, 16_000)])


def test_a_training_does_not_start_from_it(gr, other, features, tmp_path):
    from amask.data.tasks import parse_task
    from amask.mask_bank.recipe import Recipe
    from amask.mask_bank.training import LabelledClips, MaskTrainer, TrainingJob

    clips = LabelledClips(features, ({"gr": "male"}, {"gr": "female"}), ("a", "b"))
    jobs = [TrainingJob(parse_task("gr"), 1), TrainingJob(parse_task("gr"), 2, gr)]
    refused(
        lambda: MaskTrainer(other, jobs, clips, clips, Recipe(), checkpoints=tmp_path / "t"),
        f"is for {POCKET}",
        f"this model is {other.name} (2×4 heads",
    )
    assert not list(tmp_path.iterdir())


def test_an_evaluation_does_not_try_it(gr, other, features, tmp_path):
    from amask.data.manifest import Clip, Manifest
    from amask.data.tasks import parse_task
    from amask.evaluation.harness import predict, trials

    clips = Manifest((Clip(path="a", labels={"gr": "male"}), Clip(path="b", labels={"gr": "female"})), tmp_path)
    task = parse_task("gr")
    for trial in trials(task, gr, prompts=1, seeds=1):
        if trial.mask is not None:
            refused(lambda trial=trial: predict(other, features, clips.clips, task, trial), POCKET, f"{other.name} (2×4 heads")


def test_gates_of_another_geometry_are_refused(gr, other, features):
    """Gates are numbers without a name: what can be told of them is their shape, and both are said."""
    from amask.errors import ModelError

    before = texts(other.answer(features, max_new_tokens=4))
    for shape in ((8, 64), (2, 8, 64), (4, 2), (2, 5), (3, 4), (2, 1, 4)):
        gates = torch.ones(shape)
        for call in (other.answer, lambda heard, gates: other.loss(heard, ["x", "y"], gates)):
            with pytest.raises(ModelError) as caught:
                call(features, gates)
            expected = f"gates for {shape[-2]} × {shape[-1]} heads do not fit {other.name}, a model of 2×4"
            assert expected in str(caught.value)
    with pytest.raises(ModelError, match="gates for 3 rows and audio for 2"):
        texts(other.answer(features, torch.ones(3, 2, 4), max_new_tokens=4))
    assert texts(other.answer(features, max_new_tokens=4)) == before
