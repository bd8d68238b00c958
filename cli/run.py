"""`amask run`: answer for audio clips, by mask or, for comparison, by prompt."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from .common import (
    BankOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    NewTokensOption,
    TasksOption,
    fail,
    note,
    one_line_errors,
    open_bank,
    open_model,
    progress,
    read_keys,
    warn,
)

if TYPE_CHECKING:
    from ..data.decoding import Stream
    from ..data.tasks import Task, TaskSpec
    from ..lalm.base import LALM
    from ..lalm.constrained_decoding import Constraint
    from ..mask_bank.bank import MaskBank
    from ..mask_bank.files import StoredMask
    from ..mask_bank.mask import HeadMask
    from ..predictor.route import InstructionRoute
    from ..serving.engine import Limits, Long, Order, Reply
    from ..serving.plan import ParsedStep
    from ..serving.routing import How
    from .inputs import Inputs

BEAMS = 16
LONG = "Clips longer than the model hears: refuse them, trim them to their beginning, or cut them at pauses and join the answers."
TASK = "What to do, by masks: asr, gr, 'gr|asr', gr-asr-json …, or a plan: gr THEN asr IF female."
FALLBACK = "prompt: give an instruction that no mask serves to the model as it is, instead of refusing."
HOW = "A composite by a mask of its own (one-pass), or each part by its mask (parallel); auto: where one reached its target."


def run(
    clips: Annotated[list[str], typer.Argument(help="Audio files, globs, folders; - for standard input.")],
    task: Annotated[str | None, typer.Option(help=TASK)] = None,
    mask: Annotated[str | None, typer.Option(help="A mask: NAME, NAME@VERSION, or a .safetensors file.")] = None,
    instruction: Annotated[str | None, typer.Option(help="What to do, in words; a mask that does it is chosen.")] = None,
    prompt: Annotated[str | None, typer.Option(help="For comparison: give the model this instruction, and no mask.")] = None,
    fallback: Annotated[str | None, typer.Option(help=FALLBACK, metavar="prompt")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="With --instruction: run the predicted bits, whatever the bank has.")
    ] = False,
    how: Annotated[str, typer.Option(help=HOW, metavar="[auto|one-pass|parallel]")] = "auto",
    model: ModelOption = "pocket",
    bank: BankOption = None,
    tasks: TasksOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    beams: Annotated[int, typer.Option(min=1, max=BEAMS, help="Beams; 1 is greedy search.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Clips at once.")] = 16,
    long: Annotated[str, typer.Option(help=LONG, metavar="[refuse|trim|cut]")] = "refuse",
    max_new_tokens: NewTokensOption = 200,
    free: Annotated[bool, typer.Option("--free", help="Do not hold answers to the task's labels or form.")] = False,
    schema: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Hold answers to this JSON schema.")] = None,
    keys: Annotated[str, typer.Option(help="What JSON answers call the parts: gender,text. By default the tasks' names.")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Say on stderr which masks do it, and when.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Answer for audio clips by a mask, without any instruction to the model.

    A clip that cannot be read is named on stderr, the others are answered, and the exit status is 1. What is odd about a clip
    (silence, channels that cancel each other, an answer that was cut) is said on stderr, and with --json also in its row.
    """
    with one_line_errors():
        from ..errors import BankError, InstructionError, MaskError
        from ..serving.plan import is_plan, parse_plan
        from .inputs import expand_inputs

        hops = parse_plan(task) if task is not None and is_plan(task) else ()
        _check_what(task, mask, instruction, prompt)
        _check_how(instruction, fallback, raw, how, one_way=bool(hops) or mask is not None or prompt is not None)
        if long not in ("refuse", "trim", "cut"):
            raise InstructionError(f"--long {long}: expected refuse, trim or cut")
        if schema is not None and long == "cut":
            raise InstructionError("--schema holds one answer, and a clip that is cut has several; say --long trim or refuse")
        held = _read_schema(schema) if schema is not None else None
        named = read_keys(keys)
        if named and (hops or task is None):
            raise InstructionError("--keys names the parts of a task in JSON; say which by --task, such as gr-asr-json")
        inputs = expand_inputs(clips)
        opened = open_bank(bank)
        try:
            decision = classify(instruction, opened, raw=raw) if instruction is not None else None
            spec = decision.spec_or_raise() if decision else _task(None if hops else task, opened, tasks, named)
        except InstructionError as error:
            if fallback is None or not (instruction or "").strip():
                raise
            note(f"{error}; prompting the model with it instead")
            spec, decision, prompt = None, None, instruction
        loaded = open_model(model, device, dtype)
        try:
            chosen = decision.mask if decision is not None and raw else None
            order = _plan(loaded, opened, hops, tasks) if hops else _order(loaded, opened, spec, mask, prompt, how, chosen)
        except (BankError, MaskError) as error:
            if fallback is None:
                raise
            note(f"{error}; prompting the model with it instead")
            order = _order(loaded, opened, None, None, instruction, how)
        if explain:
            _explain(order)
        if held is not None and (order.parts or order.plan):
            raise InstructionError(
                f"--schema holds one answer, and {order.how} gives several; say --how one-pass, --mask or --prompt"
            )
        from ..serving.engine import Limits

        limits = Limits(batch, beams, max_new_tokens, cast("Long", long), held or _form(order, free), free)
        failed = _answer(loaded, inputs, order, limits, instruction, as_json)
        if failed:
            raise typer.Exit(1)


def _check_what(task: str | None, mask: str | None, instruction: str | None, prompt: str | None) -> None:
    """Whether exactly one option says what to do."""
    from ..errors import InstructionError

    if sum(option is not None for option in (task, mask, instruction, prompt)) != 1:
        raise InstructionError("say what to do by one of --task, --mask, --instruction or --prompt")
    if prompt is not None and not prompt.strip():
        raise InstructionError("the prompt is empty; say what to do, such as 'transcribe the speech'")


def _check_how(instruction: str | None, fallback: str | None, raw: bool, how: str, *, one_way: bool) -> None:
    """Whether the options that say how go with the one that says what."""
    from ..errors import InstructionError
    from ..serving.routing import WAYS

    if fallback not in (None, "prompt"):
        raise InstructionError(f"--fallback {fallback}: expected prompt")
    if fallback and instruction is None:
        raise InstructionError("--fallback says what is done with an --instruction that no mask serves; there is none")
    if how not in WAYS:
        raise InstructionError(f"--how {how}: expected one of {', '.join(WAYS)}")
    if how != "auto" and one_way:
        raise InstructionError("--how is for a composite by --task or --instruction; a mask, a prompt and a plan have one way")
    if raw and (instruction is None or how != "auto"):
        raise InstructionError("--raw runs the bits that are predicted for an --instruction, and leaves no choice of --how")


def _task(task: str | None, bank: "MaskBank", tasks: Path | None, keys: Sequence[str]) -> "TaskSpec | None":
    """The task that is named; read before a model is loaded."""
    from ..data.tasks import parse_task

    return None if task is None else parse_task(task, _known(bank, tasks), keys)


def _known(bank: "MaskBank", tasks: Path | None) -> "dict[str, Task]":
    """All single tasks: the built-in ones, those of files, and those that the bank's masks carry."""
    from ..data.tasks import collect_tasks

    return collect_tasks(bank.folder, file=tasks) | {part.name: part for each in bank.tasks() for part in each.parts}


def classify(instruction: str, bank: "MaskBank", *, raw: bool = False) -> "InstructionRoute":
    """What an instruction asks for, among what the bank has masks for, or with `raw` among all that can be read."""
    from ..predictor.router import InstructionRouter
    from .predict import masks_of, open_predictor

    decision = InstructionRouter(open_predictor(None, bank.folder), masks_of(bank)).route(
        [instruction], use_predicted_bits=raw, neighbours=False
    )[0]
    by = " by the predicted bits" if raw else ""
    note(f"doing {decision.spec_or_raise().name}{by} (sure to {decision.confidence_total:.0%})")
    return decision


def _order(
    model: "LALM",
    bank: "MaskBank",
    task: "TaskSpec | None",
    mask: str | None,
    prompt: str | None,
    how: str,
    predicted: "HeadMask | None" = None,
) -> "Order":
    """What is to be done, with its masks: those of the bank, or predicted bits."""
    from ..mask_bank.bank import open_mask
    from ..serving.engine import Order
    from ..serving.routing import find_way

    if prompt is not None:
        return Order(instruction=prompt.strip())
    if predicted is not None:
        return Order(task, predicted, "predicted bits")
    if mask is not None or task is None:
        stored = open_mask(mask or "", bank, model)
        return Order(stored.task, stored, stored.spec)
    way = find_way(bank, task, model, cast("How", how))
    if way.why:
        note(way.why)
    if way.how == "parallel":
        return Order(task, name="+".join(mask.spec for mask in way.masks), parts=way.masks)
    return Order(task, way.masks[0], way.masks[0].spec)


def _plan(model: "LALM", bank: "MaskBank", hops: "Sequence[ParsedStep]", tasks: Path | None) -> "Order":
    """A plan with its masks: a hop is a task, or else a mask's name."""
    from ..data.tasks import parse_task
    from ..errors import DataError
    from ..serving.engine import Order
    from ..serving.plan import resolve_plan

    known = _known(bank, tasks)

    def lookup(name: str) -> "StoredMask":
        try:
            task = parse_task(name, known)
        except DataError:
            return bank.get(name, model)
        return bank.for_task(task, model)

    plan = resolve_plan(hops, lookup)
    return Order(name="+".join(step.mask.called for step in plan), plan=plan)


def _explain(order: "Order") -> None:
    """Say which masks do it, and when each is asked."""
    from ..serving.plan import describe_plan

    lines = describe_plan(order.plan)
    for mask in () if order.plan else order.masks:
        lines.append(f"{mask.task_name or 'a mask'} by {mask.called}, {mask.heads_on} of {mask.heads_total} heads on")
    for line in lines:
        note(line)


def _form(order: "Order", free: bool) -> "Constraint | None":
    """What answers are held to: the task's labels and form."""
    from ..lalm.constrained_decoding import task_constraint

    return None if free or order.task is None else task_constraint(order.task)


def _read_schema(path: Path) -> "Constraint":
    """The form of a JSON schema; read before a model is loaded."""
    from ..errors import DataError
    from ..lalm.constrained_decoding import schema_constraint

    try:
        return schema_constraint(dict(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"cannot read schema {path}: {error}; expected a JSON object") from None


def _sources(inputs: "Inputs") -> "Iterator[Path | tuple[str, Stream]]":
    from .inputs import STANDARD_INPUT

    for path in inputs.files:
        yield ("-", sys.stdin.buffer) if path == STANDARD_INPUT else path


def _answer(model: "LALM", inputs: "Inputs", order: "Order", limits: "Limits", instruction: str | None, as_json: bool) -> int:
    """Answer for all clips, printing as it goes; returns how many had no answer."""
    from ..serving.engine import answer_clips

    for line in inputs.missing:
        fail(line)
    for path in inputs.skipped:
        warn(f"{path} is skipped: this kind of file cannot be read; convert it: ffmpeg -i {path} new.wav")
    failed, alone = len(inputs.missing), len(inputs.files) == 1
    replies = answer_clips(model, _sources(inputs), order, limits)
    with progress("answering", len(inputs.files), quiet=alone) as tell:
        for number, reply in enumerate(replies, 1):
            for warning in [*reply.warnings, *(["its answer was cut; see --max-new-tokens"] if reply.cut else [])]:
                warn(f"{reply.path}: {warning}")
            if reply.error:
                fail(reply.error)
                failed += 1
            else:
                typer.echo(_row(reply, order, instruction) if as_json else reply.text if alone else f"{reply.path}\t{reply.text}")
            tell(number)
    return failed


def _row(reply: "Reply", order: "Order", instruction: str | None) -> str:
    """A reply as one line of JSON; what there is none of is null."""
    tasks = [step.mask.task_name for step in order.plan]
    steps = [[{"task": name, "text": text} for name, text in zip(tasks, said, strict=True)] for said in reply.steps]
    row = {
        "path": reply.path,
        "task": order.task.name if order.task else " THEN ".join(tasks),
        "text": reply.text,
        "how": order.how,
        "mask": order.name or None,
        "heads_on": order.mask.heads_on if order.mask else None,
        "instruction": instruction,
        "prompt": order.instruction,
        "confidence": reply.confidence,
        "duration": reply.duration,
        "pieces": reply.pieces,
        "took": reply.took,
        "cut": reply.cut,
        "warning": "; ".join(reply.warnings) or None,
    } | ({"steps": steps} if order.plan else {})
    return json.dumps(row, ensure_ascii=False)
