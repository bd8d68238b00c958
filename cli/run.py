"""`amask run`: answer for audio clips, by mask or, for comparison, by prompt."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    open_pipeline,
    progress,
    read_keys,
    warn,
)
from .output_encoding import echo

if TYPE_CHECKING:
    from ..serving.clips import NamedClip
    from ..serving.pipeline import Pipeline
    from ..serving.routing import Route
    from .inputs import Inputs

BEAMS = 16
LONG = "Clips longer than the model hears: refuse, trim to their beginning, or split at pauses and join the answers."
TASK = "What to do, by masks: asr, gr, 'gr|asr', gr-asr-json …, or a plan: gr THEN asr IF female."
FALLBACK = "prompt: give an instruction that no mask serves to the model as it is, instead of refusing."
MODE = "A composite by a mask of its own (one-pass), or each part by its mask (parallel); auto: where one reached its target."
FORMAT = "The answer's form: prefix=…, separator=tab, parts.gr.case=upper, keys=sex,said …, or a JSON file; repeatable."
PRUNE = "auto: one mask runs on a model without the heads that are off, where its family allows it; off: they are gated."
KEYS = "What JSON answers call the parts: gender,text. By default the tasks' names."


def run(
    clips: Annotated[list[str], typer.Argument(help="Audio files, globs, folders; - for standard input.")],
    task: Annotated[str | None, typer.Option(help=TASK)] = None,
    mask: Annotated[str | None, typer.Option(help="A mask: NAME, NAME@VERSION, or a .safetensors file.")] = None,
    instruction: Annotated[str | None, typer.Option(help="What to do, in words; a mask that does it is chosen.")] = None,
    prompt: Annotated[str | None, typer.Option(help="For comparison: give the model this prompt, and no mask.")] = None,
    fallback: Annotated[Literal["prompt"] | None, typer.Option(help=FALLBACK)] = None,
    predicted_bits: Annotated[
        bool, typer.Option("--predicted-bits", help="With --instruction: run the predicted bits, whatever the bank has.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse what asks for a form that answers cannot have.")] = False,
    mode: Annotated[Literal["auto", "one-pass", "parallel"], typer.Option(help=MODE)] = "auto",
    model: ModelOption = "pocket",
    bank: BankOption = None,
    tasks: TasksOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    beams: Annotated[int, typer.Option(min=1, max=BEAMS, help="Beams; 1 is greedy search.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Clips at once.")] = 16,
    long: Annotated[Literal["refuse", "trim", "split"], typer.Option(help=LONG)] = "refuse",
    max_new_tokens: NewTokensOption = 200,
    answer_format: Annotated[list[str] | None, typer.Option("--format", help=FORMAT, metavar="KEY=VALUE|FILE")] = None,
    prune: Annotated[Literal["auto", "off"], typer.Option(help=PRUNE)] = "auto",
    unconstrained: Annotated[
        bool, typer.Option("--unconstrained", help="Do not hold answers to the task's labels or form.")
    ] = False,
    schema: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Hold answers to this JSON schema.")] = None,
    keys: Annotated[str, typer.Option(help=KEYS)] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Say on stderr which masks do it, and when.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Answer for audio clips by a mask, without any instruction to the model.

    A clip that cannot be read is named on stderr, the others are answered, and the exit status is 1. What is odd about a clip
    (silence, channels that cancel each other, a truncated answer) is said on stderr, and with --json also in its row.
    """
    with one_line_errors():
        from ..data.answer_format import read_format
        from ..serving.engine import RunOptions
        from ..serving.routing import Request
        from .inputs import expand_inputs

        request = Request(
            instruction=instruction,
            task=task,
            mask=mask,
            prompt=prompt,
            mode=mode,
            keys=read_keys(keys),
            fallback=fallback,
            predicted_bits=predicted_bits,
            strict=strict,
            format=read_format(answer_format) if answer_format else None,
        )
        held = _read_schema(schema) if schema is not None else None
        options = RunOptions(batch, beams, max_new_tokens, long, unconstrained, held, prune)
        inputs = expand_inputs(clips)
        pipe = open_pipeline(model, bank, device, dtype, tasks)
        route = pipe.choose(request)
        show_route(route, explain)
        failed = _answer(pipe, inputs, route, options, as_json)
        if failed:
            raise typer.Exit(1)


def show_route(route: "Route", explain: bool) -> None:
    """Say on stderr how a request was understood, and with `explain` which masks do it, and when."""
    for warning in route.warnings:
        warn(warning)
    if route.instruction is not None and route.confidence is not None:
        note(f"understood as {describe_route(route)}")
    if route.reason:
        note(route.reason)
    for line in route.explain() if explain else ():
        note(line)


def describe_route(route: "Route") -> str:
    """`gr (speaker's gender) with case=upper, 100 %`."""
    tasks = [mask.task for mask in route.used_masks if mask.task is not None]
    titles = dict.fromkeys(part.title for task in tasks for part in task.parts if part.title)
    about = f" ({', '.join(titles)})" if titles else ""
    by = " by the predicted bits" if route.mask_names == "predicted bits" else ""
    form = f" with {route.answer_format}" if route.answer_format else ""
    sure = "" if route.confidence is None else f", {100 * route.confidence:.0f} %"
    return f"{route.task_name}{about}{form}{by}{sure}"


def _read_schema(path: Path) -> dict[str, Any]:
    """A JSON schema; read before a model is loaded."""
    from ..errors import DataError

    try:
        schema = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read schema {path}: {error}") from None
    if not isinstance(schema, dict):
        raise DataError(f"cannot read schema {path}: it is {type(schema).__name__}, expected a JSON object")
    return schema


def _sources(inputs: "Inputs") -> "Iterator[Path | NamedClip]":
    from ..serving.clips import NamedClip
    from .inputs import STANDARD_INPUT

    for path in inputs.files:
        yield NamedClip("-", sys.stdin.buffer) if path == STANDARD_INPUT else path


def _answer(pipe: "Pipeline", inputs: "Inputs", route: "Route", options: Any, as_json: bool) -> int:  # noqa: ANN401
    """Answer for all clips, printing as it goes; returns how many had no answer."""
    for line in inputs.missing:
        fail(line)
    for path in inputs.skipped:
        warn(f"{path} is skipped: this kind of file cannot be read; convert it: ffmpeg -i {path} new.wav")
    failed, alone = len(inputs.missing), len(inputs.files) == 1
    with progress("answering", len(inputs.files), quiet=alone) as tell:
        for number, result in enumerate(pipe.run(_sources(inputs), route, options), 1):
            for warning in [*result.warnings, *(["its answer was truncated; see --max-new-tokens"] if result.truncated else [])]:
                warn(f"{result.path}: {warning}")
            if result.error:
                fail(result.error)
                failed += 1
            elif as_json:
                echo(json.dumps(result.as_row(), ensure_ascii=False))
            else:
                echo(result.text if alone else f"{result.path}\t{result.text}")
            tell(number)
    return failed
