"""`amask bank …`: train, list, show, compare, import, export, verify, remove."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from .common import (
    BankOption,
    BatchOption,
    DataOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    SparsityOption,
    StepsOption,
    err,
    one_line_errors,
    open_bank,
    open_model,
    out,
    report,
)

app = typer.Typer(help="Train masks, keep them, look at them.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="NAME or NAME@VERSION; a path that ends in .safetensors.")]


@app.command()
def train(
    tasks: Annotated[list[str], typer.Argument(help="Tasks, such as asr gr gr-asr; several train in one pass.")],
    model: ModelOption = "pocket",
    data: DataOption = None,
    seeds: Annotated[str, typer.Option(help="One mask a seed and task, in one pass: 1,2,3.")] = "1",
    sparsity: SparsityOption = 0.0,
    steps: StepsOption = None,
    batch: BatchOption = None,
    start: Annotated[str | None, typer.Option(help="A mask to start from, instead of all heads on.")] = None,
    paper: Annotated[bool, typer.Option("--paper", help="The AHAMask authors' recipe (90 000 steps, for large models).")] = False,
    name: Annotated[str | None, typer.Option(help="Name in the bank; the task's by default.")] = None,
    out_file: Annotated[Path | None, typer.Option("--out", help="Also write the mask to this .safetensors file.")] = None,
    bank: BankOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train a mask for each task and keep it in the bank.

    A training that was stopped goes on where it was when the same command is given again.
    """
    with one_line_errors():
        from .training import parse_seeds, recipe_for, train_masks

        recipe = recipe_for(tasks, paper, steps=steps, batch=batch, sparsity=sparsity)
        opened = open_bank(bank)
        added = train_masks(tasks, parse_seeds(seeds), recipe, model, data, name, out_file, opened, device, dtype, start)
        report(added, as_json)


@app.command(name="list")
def list_masks(bank: BankOption = None, as_json: JsonOption = False) -> None:
    """List the masks of your bank and of the bundled one."""
    with one_line_errors():
        from ..mask_bank.files import describe

        opened = open_bank(bank)
        masks = opened.list()
        if as_json:
            out.print_json(json.dumps([describe(stored) for stored in masks], ensure_ascii=False), indent=None)
        else:
            table = Table("mask", "task", "model", "heads on", "dev score", "from", box=None, header_style="bold")
            for stored in masks:
                mask = stored.mask
                dev = f"{mask.scores['dev']:.1f}" if "dev" in mask.scores else ""
                how = str(mask.lineage.get("operation", ""))
                table.add_row(stored.spec, mask.task_name, mask.identity.name, f"{mask.heads_on}/{mask.heads_total}", dev, how)
            out.print(table)
        for _, problem in opened.verify():
            err.print(f"amask: {problem}", style="yellow", markup=False)


@app.command()
def show(
    name: NameArgument,
    png: Annotated[Path | None, typer.Option(help="Draw the mask into this file, .png or .svg.")] = None,
    bank: BankOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a mask: layers × heads, lineage, scores."""
    with one_line_errors():
        from ..evaluation.drawing import picture, terminal
        from ..mask_bank.bank import open_mask
        from ..mask_bank.files import describe

        stored = open_mask(name, open_bank(bank))
        if png:
            picture(stored.mask, png, stored.spec)
        if as_json:
            out.print_json(json.dumps(describe(stored), ensure_ascii=False), indent=None)
            return
        out.print(terminal(stored.mask, stored.spec))
        shown = describe(stored)
        shown["lineage"].pop("ffn", None)  # the authors' feed-forward numbers are kept for export only
        for key in ("task", "fingerprint", "scores", "lineage"):
            value = shown[key]
            if value:
                out.print(f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}", markup=False)


@app.command()
def compare(first: NameArgument, second: NameArgument, bank: BankOption = None, as_json: JsonOption = False) -> None:
    """Compare two masks: heads on in both, in one, in none, and their Jaccard index."""
    with one_line_errors():
        from ..mask_bank.bank import open_mask

        opened = open_bank(bank)
        a, b = open_mask(first, opened), open_mask(second, opened)
        figures = {
            "masks": [a.spec, b.spec],
            "jaccard": round(a.mask.jaccard(b.mask), 4),
            "both": (a.mask & b.mask).heads_on,
            "only_first": (a.mask - b.mask).heads_on,
            "only_second": (b.mask - a.mask).heads_on,
            "neither": (~(a.mask | b.mask)).heads_on,
        }
        if as_json:
            out.print_json(json.dumps(figures), indent=None)
            return
        out.print(f"Jaccard index of {a.spec} and {b.spec}: {figures['jaccard']:.3f}")
        out.print(f"heads on in both {figures['both']}, only {a.spec} {figures['only_first']}, ", end="")
        out.print(f"only {b.spec} {figures['only_second']}, neither {figures['neither']}")


@app.command(name="import")
def import_mask(
    path: Annotated[Path, typer.Argument(help="A mask file: ours, the AHAMask authors' .pth, or HeadsUp's.")],
    name: Annotated[str | None, typer.Option(help="Name in the bank; the task's or the file's by default.")] = None,
    task: Annotated[str, typer.Option(help="What the mask triggers.")] = "",
    layers: Annotated[int | None, typer.Option(min=1, help="Layers of the model, where the file's size does not tell.")] = None,
    heads: Annotated[int | None, typer.Option(min=1, help="Heads a layer.")] = None,
    model: Annotated[
        str, typer.Option(help="The model that the mask belongs to: a name or, with --vouch, what to load; salmonn if 40×40.")
    ] = "",
    vouch: Annotated[bool, typer.Option("--vouch", help="Load the model and vouch that the mask was made for it.")] = False,
    device: DeviceOption = "auto",
    bank: BankOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import a mask file into the bank.

    Files of the authors of AHAMask and of HeadsUp (for text models) do not say which weights they were trained on. Without
    --vouch such a mask can be listed, shown, compared and exported, but is never run.
    """
    with one_line_errors():
        from ..data.tasks import parse_task
        from ..errors import MaskError
        from ..lalm.gating import Geometry
        from ..mask_bank.authors import import_authors, is_theirs, name_of
        from ..mask_bank.files import load_mask

        opened = open_bank(bank)
        task = parse_task(task).name if task else ""
        if vouch and not model:
            raise MaskError("--vouch loads the model that the mask was made for; say which with --model")
        if not is_theirs(path):
            found = load_mask(path)
            mask, fallback = found.mask, found.name
        else:
            geometry = Geometry((heads,) * layers) if layers and heads else None
            loaded = open_model(model, device) if vouch else None
            fingerprint = loaded.fingerprint if loaded else None
            mask, note = import_authors(path, loaded.geometry if loaded else geometry, task, model, fingerprint)
            fallback = name_of(path)
            err.print(f"amask: {note}", style="yellow", markup=False)
        report([opened.add(mask, name or mask.task_name or fallback)], as_json)


@app.command()
def export(
    name: NameArgument,
    path: Annotated[Path, typer.Argument(help="The file to write.")],
    layout: Annotated[str, typer.Option("--format", help="amask (.safetensors) or ahamask (the authors' .pth).")] = "amask",
    bank: BankOption = None,
) -> None:
    """Write a mask of the bank to a file."""
    with one_line_errors():
        from ..errors import BankError
        from ..mask_bank.authors import export_authors
        from ..mask_bank.bank import open_mask
        from ..mask_bank.files import save_mask

        stored = open_mask(name, open_bank(bank))
        if layout == "ahamask":
            export_authors(stored.mask, path)
        elif layout == "amask":
            save_mask(stored.mask, stored.name, stored.version, path)
        else:
            raise BankError(f"unknown format {layout!r}; there are amask and ahamask")
        out.print(f"{stored.spec} written to {path}")


@app.command()
def verify(bank: BankOption = None, as_json: JsonOption = False) -> None:
    """Read every file of the bank whole and name what is damaged; exits with 1 if anything is."""
    with one_line_errors():
        opened = open_bank(bank)
        problems = opened.verify()
        if as_json:
            out.print_json(json.dumps([{"path": str(path), "problem": problem} for path, problem in problems]), indent=None)
        else:
            for _, problem in problems:
                out.print(problem, markup=False)
            out.print(f"{len(opened.list())} masks are whole, {len(problems)} damaged")
        if problems:
            raise typer.Exit(1)


@app.command()
def remove(name: Annotated[str, typer.Argument(help="NAME@VERSION")], bank: BankOption = None) -> None:
    """Delete a mask from your bank; bundled masks stay."""
    with one_line_errors():
        path = open_bank(bank).remove(name)
        out.print(f"removed {path}")
