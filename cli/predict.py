"""`amask predict`: what an instruction comes to, without running it."""

import itertools
import json
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from .common import BankOption, JsonOption, err, one_line_errors, open_bank, out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..mask_bank.bank import MaskBank
    from ..mask_bank.mask import HeadMask
    from ..predictor.predictor import Predictor
    from ..predictor.route import InstructionRoute

PredictorOption = Annotated[Path | None, typer.Option("--predictor", help="A predictor's file; yours or amask's by default.")]
PredictedBitsOption = Annotated[bool, typer.Option("--predicted-bits", help="Predicted bits, whatever the bank has.")]

STANDARD_INPUT = "-"
TOGETHER = 256  # instructions that are read at once


def own_predictor(bank: Path | None) -> Path:
    """Where the user's predictor is kept: beside the bank."""
    from ..mask_bank.bank import default_folder

    folder = bank or default_folder()
    return folder.with_name(f"{folder.name}.predictor.safetensors")


def open_predictor(path: Path | None, bank: Path | None) -> "Predictor":
    """The predictor of a file, or else the user's, or else the one that comes with amask."""
    from ..predictor.predictor import SHIPPED, Predictor

    own = own_predictor(bank)
    return Predictor.load(path or (own if own.is_file() else SHIPPED))


def served_masks(predictor: "Predictor", bank: Path | None) -> "list[HeadMask]":
    """The bank's masks for the predictor's model."""
    from ..errors import MaskError

    found = [mask for mask in masks_of(open_bank(bank)) if mask.identity.same(predictor.identity)]
    if not found:
        raise MaskError(
            f"the bank has no mask for the predictor's model, {predictor.identity.name}; train one with 'amask bank train'"
        )
    return found


def masks_of(bank: "MaskBank") -> "list[HeadMask]":
    """One mask for each task and model of a bank: the default of its name, and rather one that is called like the task."""
    preferred = bank.defaults()
    ranked = sorted(bank.list(), key=lambda stored: (stored.spec in preferred, stored.name == stored.task_name))
    return list({(stored.identity.fingerprint, stored.task_name): stored for stored in ranked if stored.task}.values())


def predict(
    instruction: Annotated[str, typer.Argument(help="What to do, in words; - reads one instruction a line.")],
    use_predicted_bits: PredictedBitsOption = False,
    predictor: PredictorOption = None,
    bank: BankOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what an instruction comes to: which mask, how sure that is, and what is near.

    An instruction that no task serves is refused with exit status 1; with `-`, each line is decided and refusals are rows.
    """
    with one_line_errors():
        from ..errors import InstructionError
        from ..predictor.router import InstructionRouter

        opened = open_predictor(predictor, bank)
        masks = served_masks(opened, bank)
        if instruction != STANDARD_INPUT:
            route = InstructionRouter(opened, masks).route([instruction], use_predicted_bits=use_predicted_bits)[0]
            if as_json:
                typer.echo(json.dumps(route.as_row(), ensure_ascii=False))
            route.spec_or_raise()
            if not as_json:
                _show(route)
            return
        router, printed_any = InstructionRouter(opened, masks), False
        for lines in _lines(sys.stdin.buffer):
            printed_any = True
            for found in router.route(lines, use_predicted_bits=use_predicted_bits):
                typer.echo(json.dumps(found.as_row(), ensure_ascii=False) if as_json else _line(found))
            sys.stdout.flush()
        if not printed_any:
            raise InstructionError("there is no instruction on standard input; give one a line")


def _lines(stream: "BinaryIO") -> "Iterator[list[str]]":
    """The lines of a stream: many at once of a file, which is faster, and one by one of a pipe, whose other end may wait."""
    try:
        many = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:  # no file at all
        many = True
    while lines := list(itertools.islice(stream, TOGETHER if many else 1)):
        yield [line.decode("utf-8", "replace").removeprefix("\ufeff").rstrip("\r\n") for line in lines]


def _line(route: "InstructionRoute") -> str:
    return f"{route.kind}\t{route.intent or '-'}\t{route.confidence:.2f}\t{route.instruction}"


def _show(route: "InstructionRoute") -> None:
    from ..evaluation.plots import render_text

    ways = {"one-pass": "by its mask of the bank", "parallel": "by its parts' masks, a row each", "bits": "by the predicted bits"}
    out.print(f"[bold]{route.intent}[/bold] {ways[route.how or 'one-pass']}, {route.confidence_total:.0%}")
    for near in route.neighbours:
        out.print(f"  near: {near.task} {near.prob:.0%}, as in {near.example!r}", style="dim", markup=False)
    if route.mask is not None:
        out.print(render_text(route.mask, str(route.intent)))
    else:
        err.print("amask: no single mask covers this request; 'amask compose' makes one", style="dim", markup=False)
