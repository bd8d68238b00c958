"""What `bank train` and `compose` share: from options to a training with a progress bar. Imported by commands only."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pydantic

from ..data.manifest import Manifest
from ..data.metrics import score
from ..data.tasks import TaskSpec, parse_task
from ..errors import AmaskError, BankError
from ..lalm.base import LALM
from ..mask_bank.bank import MaskBank, open_mask
from ..mask_bank.defaults import Added
from ..mask_bank.files import save_mask
from ..mask_bank.mask import HeadMask
from ..mask_bank.recipe import COMPOSITE, PAPER, Recipe
from ..mask_bank.training import Examples, Job, MaskTrainer
from ..mask_bank.versions import parse_spec
from .common import err, hear, open_data, open_model, progress


def parse_seeds(text: str) -> list[int]:
    """`1,2,3` → [1, 2, 3]."""
    try:
        seeds = [int(word) for word in text.split(",")]
    except ValueError:
        seeds = [-1]
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise AmaskError(f"--seeds {text!r}: expected different whole numbers from 0, such as 1,2,3")
    return seeds


def recipe_for(tasks: Sequence[str], paper: bool = False, **changes: int | float | None) -> Recipe:
    """The paper's recipe or the usual one for some tasks, with some settings changed; None changes nothing."""
    given = {key: value for key, value in changes.items() if value is not None}
    composites = all(parse_task(task).form != "plain" for task in tasks)
    base = PAPER if paper else COMPOSITE if composites else Recipe()
    if "steps" in given and given["steps"] < base.warmup * 4:
        given["warmup"] = int(given["steps"]) // 4
    try:
        return Recipe.model_validate(base.model_dump() | given)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise AmaskError(f"--{first['loc'][0]}: {first['msg'].lower()}, got {first['input']}") from None


def judge(task: TaskSpec, answers: list[str], references: list[str]) -> float:
    """The headline metric as a figure of merit: word errors count downwards."""
    head = score(task, answers, references)[0]
    return -head.value if head.better == "lower" else head.value


def examples(model: LALM, manifest: Manifest, needed: list[TaskSpec]) -> tuple[Examples, Examples]:
    """Encode the clips that serve any of the tasks: those to learn from, and those to try masks on.

    Where the manifest has no dev clips, every tenth clip to learn from is one.
    """
    chosen = [c for c in manifest if any(set(task.names) <= c.labels.keys() for task in needed)]
    dev = [clip for clip in chosen if clip.split == "dev"]
    train = [clip for clip in chosen if clip.split == "train"]
    if not dev:
        dev, train = train[::10], [clip for at, clip in enumerate(train) if at % 10]
    sets = []
    for clips, words in ((train, "listening"), (dev, "listening (dev)")):
        if not clips:
            names = ", ".join(task.name for task in needed)
            raise AmaskError(f"the data has no clips to learn {names} from; give a manifest that has with --data")
        part = Manifest(tuple(clips), manifest.folder)
        sets.append(Examples(hear(model, part, words), tuple(clip.labels for clip in clips)))
    return sets[0], sets[1]


def train_masks(
    tasks: list[str],
    seeds: list[int],
    recipe: Recipe,
    model_name: str,
    data: Path | None,
    name: str | None,
    out_file: Path | None,
    bank: MaskBank,
    device: str,
    dtype: str = "auto",
    start: HeadMask | str | None = None,
    model: LALM | None = None,
) -> list[Added]:
    """Train one mask for each task and seed, all in one pass, and store them; `start` may be a mask's name, version or file."""
    specs = [parse_task(task) for task in tasks]
    names = [name or spec.name for spec in specs]
    for each in names:
        if parse_spec(each)[1] is not None:
            raise BankError(f"a stored mask gets its version from the bank; say --name {each.partition('@')[0]}")
    if out_file and (len(specs) * len(seeds) > 1 or out_file.suffix != ".safetensors"):
        raise AmaskError("--out takes one .safetensors file, so one task and one seed")
    manifest = open_data(data)
    for spec in specs:
        if not manifest.select(None, spec.names):
            raise AmaskError(f"no clip of the data has labels for {spec.name}; give a manifest that has with --data")
    model = model or open_model(model_name, device, dtype)
    if isinstance(start, str):
        start = open_mask(start, bank, model)
    if start is not None:
        start.require(model)
    _check_writable(bank)
    train, dev = examples(model, manifest, specs)
    jobs = [Job(spec, seed, start) for spec in specs for seed in seeds]
    checkpoint = bank.folder / ".training" / f"{'+'.join(names)}.pt"
    trainer = MaskTrainer(model, jobs, train, dev, recipe, judge, checkpoint)
    _run(trainer)
    added = [bank.add(mask, names[specs.index(job.task)]) for job, mask in zip(jobs, trainer.masks, strict=True)]
    checkpoint.unlink(missing_ok=True)
    if out_file:
        save_mask(added[0].stored, added[0].stored.name, added[0].stored.version, out_file)
    return added


def _check_writable(bank: MaskBank) -> None:
    """Find out before the training, not after it."""
    probe = bank.folder / ".training"
    try:
        probe.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=probe):
            pass
    except OSError as error:
        raise BankError(
            f"cannot write to bank {bank.folder}: {error.strerror}; choose another with --bank or AMASK_BANK"
        ) from None


def _run(trainer: MaskTrainer) -> None:
    step = 0
    try:
        with progress("training " + ", ".join(job.task.name for job in trainer.jobs), trainer.recipe.steps) as tell:
            for now in trainer.run():
                if step == 0 and now.step > 1:
                    err.print(f"amask: going on from step {now.step - 1}")
                step = now.step
                masks = (
                    f"{job.task.name} loss {loss:.3f} on {on}" + ("" if merit is None else f" dev {merit:.1f}")
                    for job, loss, on, merit in zip(trainer.jobs, now.losses, now.heads_on, now.merits, strict=True)
                )
                tell(now.step, f"τ {now.tau:.2f}  " + "  ".join(masks))
    except KeyboardInterrupt:
        err.print(f"amask: stopped at step {step}; the same command goes on from the last checkpoint")
        raise
