"""`amask eval`: mask against prompts and controls."""

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
    open_pipeline,
    out,
    progress,
)
from .output_encoding import echo

PLAIN_WIDTH = 200  # columns of a table that goes to a file or a pipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..evaluation.evaluate import Outcome
    from ..evaluation.summary import TaskTable


def evaluate(
    tasks: Annotated[
        list[str],
        typer.Argument(
            help="Tasks or masks, such as asr gr-asr-json both@2; 'all' for all tasks with a mask; 'isa [FOLDER]' for ISA-Bench."
        ),
    ],
    model: ModelOption = "pocket",
    data: DataOption = None,
    tasks_file: TasksOption = None,
    split: Annotated[str, typer.Option(help="Split of the manifest: train, dev, test, or all.")] = "test",
    kind: Annotated[str | None, typer.Option(help="Clips of this kind, such as open; each task has its own by default.")] = None,
    clips: Annotated[
        int | None, typer.Option(min=1, help="At most so many clips a task, drawn by a hash of their names.")
    ] = None,
    prompts: Annotated[int, typer.Option(min=0, help="At most so many prompts a task.")] = 12,
    seeds: Annotated[int, typer.Option(min=0, help="Random masks a task, as controls.")] = 3,
    others: Annotated[int, typer.Option(min=0, help="Masks of other tasks, as controls.")] = 1,
    unconstrained: Annotated[
        bool,
        typer.Option("--unconstrained/--no-unconstrained", help="Also measure answers held to no labels and no form."),
    ] = True,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens at which an answer is truncated.")] = 200,
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
    """Measure tasks: by mask, by prompt (mean, best, worst over wordings), and by controls: unprompted, random and other masks.

    Answers are those of 'amask run', held to a task's labels or form; and once more held to nothing. The last column is the
    mask's figure less the row's, in pairs of clips, with its 95 % interval over speakers.
    """
    with one_line_errors():
        if tasks[0] == "isa":
            _evaluate_isa(tasks[1:], model, data, split, clips, predictions, bank, device, dtype, as_json)
            return
        from ..data.tasks import collect_tasks
        from ..evaluation.evaluate import Settings, plan, predictions_dir
        from ..evaluation.predictions import PredictionLog

        manifest, opened = open_data(data), open_bank(bank)
        settings = Settings(
            split=split, kind=kind, clips=clips, prompts=prompts, seeds=seeds, others=others, unconstrained=unconstrained,
            max_new_tokens=max_new_tokens, batch=batch, trim=trim, skip_bad=skip_bad,
        )  # fmt: skip
        known = collect_tasks(opened.folder, manifest.folder, file=tasks_file)
        planned = plan(tasks, manifest, opened, settings, known)
        loaded = open_model(model, device, dtype)
        prepared = planned.prepare(loaded, progress)
        if prepared.skipped:
            count, first = len(prepared.skipped), prepared.skipped[0]
            err.print(f"amask: {count} clips are left out; the first: {first}", style="yellow", markup=False)
        with PredictionLog(predictions) if predictions else PredictionLog.numbered(predictions_dir(opened)) as log:
            err.print(f"amask: predictions go to {log.path}", style="dim", markup=False)
            metadata = {"model": loaded.name, "predictions": str(log.path), "skipped": len(prepared.skipped)}
            failed = _show(prepared.run(log, progress), metadata, as_json)
        if failed:
            raise typer.Exit(1)


def _evaluate_isa(
    folders: list[str],
    model: str,
    data: Path | None,
    split: str,
    limit: int | None,
    into: Path | None,
    bank: Path | None,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """ISA-Bench: `amask eval isa [FOLDER]`; `--clips` items of a file, `--predictions` the folder for what is made."""
    from ..data.manifest import Manifest
    from ..errors import DataError
    from .isa import evaluate_isa

    if len(folders) > 1 or not all(Path(folder).is_dir() for folder in folders):
        raise DataError(
            "'amask eval isa' takes no folder, or one of instructions or answers, such as aac_d.json or d_aac_results.json"
        )
    manifest = open_data(data)
    chosen = manifest if split == "all" else Manifest(tuple(clip for clip in manifest if clip.split == split), manifest.folder)
    pipeline = open_pipeline(model, bank, device, dtype)
    evaluate_isa(Path(folders[0]) if folders else None, pipeline, chosen, limit, into or Path("isa"), as_json)


def _show(outcomes: "Iterator[Outcome]", metadata: dict[str, object], as_json: bool) -> bool:
    """Show each table as it is ready, or all as JSON, also those before a failure; whether anything failed."""
    tables: list[TaskTable] = []
    errors: list[dict[str, str]] = []
    shown = out if out.is_terminal else Console(width=PLAIN_WIDTH, highlight=False, markup=False, emoji=False)
    try:
        for outcome in outcomes:
            if outcome.error:
                errors.append({"task": outcome.name, "error": str(outcome.error)})
                err.print(f"amask: {outcome.error}", style="red", markup=False)
            if outcome.table:
                tables.append(outcome.table)
                if not as_json:
                    shown.print(_table(outcome.table))
    finally:
        if as_json:
            echo(json.dumps(metadata | {"tables": [asdict(table) for table in tables], "errors": errors}, ensure_ascii=False))
    return bool(errors)


def _table(measured: "TaskTable") -> Table:
    columns = ("condition", f"{measured.metric} as run", "95 %", "unconstrained", "best … worst", "other figures", "mask − this")
    title = f"{measured.task}, {measured.measured_on}"
    table = Table(*columns, box=None, header_style="bold", title=title, title_justify="left", title_style="bold")
    for row in measured.rows:
        served, free = row.served, row.unconstrained
        name = " ".join(filter(None, (row.condition, row.mask if row.condition == "mask" else "")))
        detail = served.detail | ({"truncated": row.truncated} if row.truncated else {})
        table.add_row(
            f"{name} ×{row.runs}" if row.runs > 1 else f"{name} {row.wording if row.condition == 'other' else ''}".strip(),
            f"{served.value:.1f}",
            f"{served.low:.1f}–{served.high:.1f}",
            f"{free.value:.1f}" if free else "",
            f"{served.best:.1f} … {served.worst:.1f}" if row.runs > 1 else "",
            " ".join(f"{name} {value:.1f}" for name, value in detail.items()),
            "; ".join(f"{each.value:+.1f} [{each.low:+.1f}, {each.high:+.1f}]" for each in measured.against(row)),
        )
    return table
