"""`amask eval`: mask against prompts, nothing, and random masks."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from .common import (
    BankOption,
    DataOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    err,
    hear,
    one_line_errors,
    open_bank,
    open_data,
    open_model,
    out,
    progress,
)


def evaluate(
    tasks: Annotated[list[str], typer.Argument(help="Tasks, such as asr gr gr-asr-json; 'all' for all masks of the bank.")],
    model: ModelOption = "pocket",
    data: DataOption = None,
    split: Annotated[str, typer.Option(help="Split of the manifest.")] = "test",
    kind: Annotated[str | None, typer.Option(help="Clips of this kind, such as real; each task has its own by default.")] = None,
    clips: Annotated[int | None, typer.Option(min=1, help="At most so many clips a task.")] = None,
    prompts: Annotated[int, typer.Option(min=1, help="At most so many prompts a task.")] = 12,
    seeds: Annotated[int, typer.Option(min=1, help="Random masks a task.")] = 3,
    predictions: Annotated[Path | None, typer.Option(help="Keep the predictions in this JSONL file.")] = None,
    bank: BankOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure tasks: masked, prompted (mean, best, worst over wordings), told nothing, and by random masks."""
    with one_line_errors():
        from ..data.manifest import Manifest
        from ..data.tasks import parse_task
        from ..errors import BankError, DataError
        from ..evaluation import harness
        from ..evaluation.predictions import write
        from ..mask_bank.bank import default_folder

        manifest, opened = open_data(data), open_bank(bank)
        loaded = open_model(model, device, dtype)
        specs = [parse_task(name) for name in tasks] if tasks != ["all"] else opened.tasks(loaded)
        path = predictions or default_folder().parent / "predictions.jsonl"
        made, rows = [], []
        for spec in specs:
            found = harness.clips_for(spec, manifest, split, kind)
            if not found:
                raise DataError(f"no {split} clip of the data has labels for {spec.name}; give a manifest with --data")
            chosen = Manifest(found.clips[:clips], found.folder)
            try:
                mask = opened.for_task(spec, loaded)
            except BankError as error:
                err.print(f"amask: {error}; measuring {spec.name} without a mask", style="yellow", markup=False)
                mask = None
            features = hear(loaded, chosen)
            trials = harness.trials(spec, mask, prompts, seeds)
            with progress(spec.name, len(trials)) as tell:
                for done, trial in enumerate(trials):
                    tell(done, f"{trial.how} {trial.wording}")
                    made += harness.predict(loaded, features, chosen, spec, trial)
            write(made, path)
            rows += harness.table(spec, made)
        err.print(f"amask: predictions are in {path}", style="dim", markup=False)
        if as_json:
            typer.echo(json.dumps({"model": loaded.name, "rows": [asdict(row) for row in rows]}, ensure_ascii=False))
        else:
            out.print(_table(rows))


def _table(rows: list) -> Table:
    columns = ("task", "how", "metric", "value", "best", "worst", "spread", "clips", "other figures")
    table = Table(*columns, box=None, header_style="bold")
    for row in rows:
        several = [f"{figure:.1f}" for figure in (row.best, row.worst, row.spread)] if row.runs > 1 else ["", "", ""]
        how = f"{row.how} ×{row.runs}" if row.runs > 1 else row.how
        detail = " ".join(f"{name} {value:.1f}" for name, value in row.detail.items())
        table.add_row(row.task, how, row.metric, f"{row.value:.1f}", *several, str(row.clips), detail)
    return table
