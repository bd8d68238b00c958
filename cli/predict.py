"""`amask predict`: what an instruction comes to, without running it."""

import itertools
import json
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from .common import BankOption, JsonOption, ModelOption, err, one_line_errors, open_pipeline, out
from .output_encoding import echo
from .run import describe_route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..predictor.predictor import Predictor
    from ..predictor.route import InstructionRoute
    from ..serving.pipeline import Pipeline
    from ..serving.routing import Route

PredictorOption = Annotated[Path | None, typer.Option("--predictor", help="A predictor's file; yours or amask's by default.")]
BitsOption = Annotated[bool, typer.Option("--predicted-bits", help="The predicted bits, even where the bank has a mask.")]

StrictOption = Annotated[bool, typer.Option("--strict", help="Refuse what asks for a form that answers cannot have.")]

STANDARD_INPUT = "-"
BATCH_LINES = 256  # instructions that are read at once


def open_predictor(path: Path | None, bank: Path | None, model: str = "pocket") -> "Predictor":
    """The predictor of a file, or else the user's for a model, or else the one that comes with amask."""
    return open_pipeline(model, bank, predictor=path).predictor


def predict(
    instruction: Annotated[str, typer.Argument(help="What to do, in words; - reads one instruction a line.")],
    predicted_bits: BitsOption = False,
    strict: StrictOption = False,
    model: ModelOption = "pocket",
    predictor: PredictorOption = None,
    bank: BankOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the route that `amask run` takes for an instruction: which masks, how sure that is, and which tasks are near.

    An instruction that no task serves is refused with exit status 1; with `-`, each line is routed and refusals are rows.
    """
    with one_line_errors():
        from ..errors import InstructionError

        pipe = open_pipeline(model, bank, predictor=predictor)
        if instruction != STANDARD_INPUT:
            (read,) = pipe.read([instruction], predicted_bits=predicted_bits)
            if strict:
                read.require_all()
            route = _route(pipe, read)
            if as_json:
                echo(json.dumps(_row(read, route), ensure_ascii=False))
            if route is None:
                read.spec_or_raise()
            elif not as_json:
                _show(read, route)
            return
        empty = True
        for lines in _lines(sys.stdin.buffer):
            empty = False
            for read in pipe.read(lines, predicted_bits=predicted_bits):
                route = _route(pipe, read)
                echo(json.dumps(_row(read, route), ensure_ascii=False) if as_json else _line(read, route))
            sys.stdout.flush()
        if empty:
            raise InstructionError("there is no instruction on standard input; give one a line")


def _lines(stream: BinaryIO) -> "Iterator[list[str]]":
    """The lines of a stream: many at once of a file, which is faster, and one by one of a pipe, whose other end may wait."""
    try:
        many = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:  # no file at all
        many = True
    while lines := list(itertools.islice(stream, BATCH_LINES if many else 1)):
        yield [line.decode("utf-8", "replace").removeprefix("\ufeff").rstrip("\r\n") for line in lines]


def _route(pipe: "Pipeline", read: "InstructionRoute") -> "Route | None":
    """The route that `amask run` takes; None where the instruction is refused."""
    return None if read.kind == "refuse" else pipe.route_read(read)


def _row(read: "InstructionRoute", route: "Route | None") -> dict[str, Any]:
    """What was understood, and the route, as a row of JSON."""
    chosen = route.as_row() if route is not None else dict.fromkeys(("task", "mode", "mask", "heads_on", "reason"))
    row = {name: value for name, value in read.as_row().items() if name != "how"}
    row |= {name: chosen[name] for name in ("task", "mode", "mask", "heads_on", "reason")}
    return row | ({"task": read.plan} if read.plan else {})


def _line(read: "InstructionRoute", route: "Route | None") -> str:
    return f"{read.kind}\t{route.task_name if route else '-'}\t{read.confidence:.2f}\t{read.instruction}"


def _show(read: "InstructionRoute", route: "Route") -> None:
    from ..mask_bank.plots import render_text

    out.print(describe_route(route), style="bold", markup=False)
    for line in [route.reason, *route.explain()]:
        if line:
            out.print(f"  {line}", markup=False)
    for near in read.neighbours:
        out.print(f"  near: {near.task} {near.prob:.0%}, as in {near.example!r}", style="dim", markup=False)
    if len(route.used_masks) == 1:
        out.print(render_text(route.used_masks[0], route.task_name))
    elif route.mode == "parallel":
        err.print("amask: no single mask covers this request; 'amask compose' makes one", style="dim", markup=False)
