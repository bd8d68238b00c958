"""`amask run`: answer for audio clips, by mask or, for comparison, by prompt."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import BankOption, DeviceOption, DtypeOption, JsonOption, ModelOption, err, one_line_errors, open_bank, open_model

if TYPE_CHECKING:
    from ..data.tasks import TaskSpec
    from ..lalm.base import LALM
    from ..mask_bank.bank import MaskBank
    from ..mask_bank.files import StoredMask


@dataclass(frozen=True)
class Order:
    """What is to be done: by a mask, or by an instruction in words and no mask."""

    task: str
    mask: "StoredMask | None"
    prompt: str | None


def run(
    clips: Annotated[list[str], typer.Argument(help="Audio files, globs, folders; - is standard input.")],
    task: Annotated[str | None, typer.Option(help="What to do, by its mask: asr, gr, gr-asr, gr-asr-json …")] = None,
    mask: Annotated[str | None, typer.Option(help="A mask: NAME, NAME@VERSION, or a .safetensors file.")] = None,
    instruction: Annotated[str | None, typer.Option(help="What to do, in words; a mask that does it is chosen.")] = None,
    prompt: Annotated[str | None, typer.Option(help="For comparison: give the model this instruction, and no mask.")] = None,
    model: ModelOption = "pocket",
    bank: BankOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    beams: Annotated[int, typer.Option(min=1, help="Beams; 1 is greedy search.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Clips at once.")] = 16,
    trim: Annotated[bool, typer.Option("--trim", help="Use the beginning of clips that are too long.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Answer for audio clips by a mask, without any instruction to the model.

    A clip that cannot be read is named on stderr, the others are answered, and the exit status is 1.
    """
    with one_line_errors():
        from ..data.inputs import expand_inputs
        from ..errors import InstructionError

        given = [option for option in (task, mask, instruction, prompt) if option is not None]
        if len(given) != 1:
            raise InstructionError("say what to do by one of --task, --mask, --instruction or --prompt")
        inputs = expand_inputs(clips)
        opened = open_bank(bank)
        early = _classify(instruction, opened).name if instruction is not None else task
        if prompt is not None and not prompt.strip():
            raise InstructionError("the prompt is empty; say what to do, such as 'transcribe the speech'")
        loaded = open_model(model, device, dtype)
        order = _order(loaded, opened, early, mask, prompt)
        for line in inputs.missing:
            err.print(f"amask: {line}", style="red", markup=False)
        if inputs.skipped:
            err.print(f"amask: skipped, of kinds that are not read: {', '.join(map(str, inputs.skipped))}", markup=False)
        failed = answer(loaded, list(inputs.files), order, beams=beams, batch=batch, trim=trim, as_json=as_json)
        if failed or inputs.missing:
            raise typer.Exit(1)


def _classify(instruction: str, bank: "MaskBank") -> "TaskSpec":
    """The task that an instruction asks for, among those that the bank has masks for."""
    from ..predictor.known import known_task

    tasks = bank.tasks()
    known = known_task(instruction, tasks)
    if known is not None:
        err.print(f"amask: doing {known.name}", style="dim", markup=False)
        return known
    from ..predictor.classifier import TaskClassifier  # takes seconds to import

    guess = TaskClassifier(list(tasks)).guess(instruction)
    err.print(f"amask: doing {guess.task} (sure to {guess.probability:.0%})", style="dim", markup=False)
    return next(task for task in tasks if task.name == guess.task)


def _order(model: "LALM", bank: "MaskBank", task: str | None, mask: str | None, prompt: str | None) -> Order:
    from ..mask_bank.bank import open_mask

    if prompt is not None:
        return Order("", None, prompt.strip())
    stored = open_mask(mask, bank, model) if mask else bank.for_task(task or "", model)
    return Order(stored.mask.task_name, stored, None)


def answer(model: "LALM", paths: list[Path], order: Order, *, beams: int, batch: int, trim: bool, as_json: bool) -> int:
    """Answer for all clips, a batch at a time, printing as it goes; returns how many could not be read."""
    from ..data.audio import examine_audio
    from ..data.inputs import STANDARD_INPUT
    from ..errors import AudioError

    gates = order.mask.mask.gates.to(model.device) if order.mask else None
    failed = 0
    for start in range(0, len(paths), batch):
        waves, heard = [], []
        for path in paths[start : start + batch]:
            try:
                audio = sys.stdin.buffer if path == STANDARD_INPUT else path
                clip = examine_audio(audio, model.rate, longest=model.longest, trim=trim, channels=model.channels)
                for warning in clip.warnings:
                    err.print(f"amask: {path}: {warning}", style="yellow", markup=False)
                waves.append(clip.wave)
                heard.append(path)
            except AudioError as error:
                err.print(f"amask: {' '.join(str(error).split())}", style="red", markup=False)
                failed += 1
        if waves:
            said = [order.prompt] * len(waves) if order.prompt else None
            texts = model.generate(model.encode(waves), gates, said, num_beams=beams)
            for path, text in zip(heard, texts, strict=True):
                _print(path, text, order, as_json, alone=len(paths) == 1)
    return failed


def _print(path: Path, text: str, order: Order, as_json: bool, alone: bool) -> None:
    if as_json:
        spec, heads_on = (order.mask.spec, order.mask.mask.heads_on) if order.mask else (None, None)
        row = {"path": str(path), "task": order.task, "text": text, "mask": spec, "heads_on": heads_on}
        typer.echo(json.dumps(row | ({"prompt": order.prompt} if order.prompt else {}), ensure_ascii=False))
    else:
        typer.echo(text if alone else f"{path}\t{text}")
