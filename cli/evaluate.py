"""`amask eval`: mask against prompts, nothing, and random masks."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from .common import (
    BankOption,
    DataOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    SkipOption,
    TasksOption,
    TrimOption,
    err,
    one_line_errors,
    open_bank,
    open_data,
    open_model,
    out,
    progress,
)

PLAIN_WIDTH = 200  # columns of a table that goes to a file or a pipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..evaluation.evaluate import Outcome
    from ..evaluation.summary import Row


def evaluate(
    tasks: Annotated[
        list[str], typer.Argument(help="Tasks or masks, such as asr gr-asr-json both@2; 'all' for every task that has a mask.")
    ],
    model: ModelOption = "pocket",
    data: DataOption = None,
    tasks_file: TasksOption = None,
    split: Annotated[str, typer.Option(help="Split of the manifest.")] = "test",
    kind: Annotated[str | None, typer.Option(help="Clips of this kind, such as open; each task has its own by default.")] = None,
    clips: Annotated[int | None, typer.Option(min=1, help="At most so many clips a task.")] = None,
    prompts: Annotated[int, typer.Option(min=0, help="At most so many prompts a task.")] = 12,
    seeds: Annotated[int, typer.Option(min=0, help="Random masks a task.")] = 3,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens at which an answer is cut.")] = 200,
    batch: Annotated[int, typer.Option(min=1, help="Clips at once.")] = 32,
    trim: TrimOption = False,
    skip_bad: SkipOption = False,
    predictions: Annotated[
        Path | None,
        typer.Option(help="New JSONL file for the predictions; a numbered one beside the bank by default."),
    ] = None,
    bank: BankOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure tasks: by mask, by prompt (mean, best, worst over wordings), unprompted, and by random masks."""
    with one_line_errors():
        from ..evaluation.evaluate import Settings, known_tasks, plan, predictions_dir
        from ..evaluation.predictions import PredictionLog

        manifest, opened = open_data(data), open_bank(bank)
        known = known_tasks(opened, manifest, tasks_file)
        settings = Settings(split, kind, clips, prompts, seeds, max_new_tokens, batch, trim, skip_bad)
        planned = plan(tasks, manifest, opened, settings, known)
        loaded = open_model(model, device, dtype)
        prepared = planned.prepare(loaded, progress)
        if prepared.skipped:
            count, first = len(prepared.skipped), prepared.skipped[0]
            err.print(f"amask: {count} clips are left out; the first: {first}", style="yellow", markup=False)
        with PredictionLog(predictions) if predictions else PredictionLog.numbered(predictions_dir(opened)) as log:
            err.print(f"amask: predictions go to {log.path}", style="dim", markup=False)
            about = {"model": loaded.name, "predictions": str(log.path), "skipped": len(prepared.skipped)}
            failed = _show(prepared.run(log, progress), about, as_json)
        if failed:
            raise typer.Exit(1)


def _show(outcomes: "Iterator[Outcome]", about: dict[str, object], as_json: bool) -> bool:
    """Show each table as it is ready, or all as JSON, also those before a failure; whether anything failed."""
    rows: list[Row] = []
    errors: list[dict[str, str]] = []
    shown = out if out.is_terminal else Console(width=PLAIN_WIDTH, highlight=False)
    try:
        for outcome in outcomes:
            rows += outcome.rows
            if outcome.error:
                errors.append({"task": outcome.name, "error": str(outcome.error)})
                err.print(f"amask: {outcome.error}", style="red", markup=False)
            elif not as_json:
                shown.print(_table(outcome.rows))
    finally:
        if as_json:
            made = about | {"rows": [asdict(row) for row in rows], "errors": errors}
            typer.echo(json.dumps(made, ensure_ascii=False))
    return bool(errors)


def _table(rows: "Sequence[Row]") -> Table:
    table = Table(
        *("task", "condition", "metric", "value", "95 %", "best … worst", "clips", "other figures"), box=None, header_style="bold"
    )
    for row in rows:
        name = f"{row.condition} {row.mask}" if row.condition == "mask" and row.mask else row.condition
        condition = f"{row.condition} ×{row.runs}" if row.runs > 1 else name
        several = f"{row.best:.1f} … {row.worst:.1f}" if row.runs > 1 else ""
        others = row.detail | ({"truncated": row.truncated} if row.truncated else {})
        detail = " ".join(f"{name} {value:.1f}" for name, value in others.items())
        interval = f"{row.low:.1f}–{row.high:.1f}"
        table.add_row(row.task, condition, row.metric, f"{row.value:.1f}", interval, several, str(row.clips), detail)
    return table
