"""`amask bank …`: train, list, show, compare, use, verify, remove; import and export are in `exchange`."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    SkipOption,
    SparsityOption,
    StepsOption,
    TasksOption,
    TrimOption,
    err,
    one_line_errors,
    open_bank,
    open_data,
    open_model,
    out,
    print_added,
    print_json,
    print_table,
)
from .hub import pull, push
from .import_export import NameArgument, export, import_mask

if TYPE_CHECKING:
    from ..evaluation.agreement import MaskScore
    from ..mask_bank.files import StoredMask
    from ..mask_bank.mask import HeadMask

LARGEST = 12  # fields of a Venn diagram that are printed

app = typer.Typer(help="Train masks, keep them, look at them.", no_args_is_help=True)
app.command(name="import")(import_mask)
app.command()(export)
app.command()(push)
app.command()(pull)


@app.command()
def train(
    tasks: Annotated[list[str], typer.Argument(help="Tasks, such as asr gr gr-asr; several train in one pass.")],
    model: ModelOption = "pocket",
    data: DataOption = None,
    seeds: Annotated[str, typer.Option(help="One mask a seed and task, in one pass: 1,2,3.")] = "1",
    sparsity: SparsityOption = None,
    steps: StepsOption = None,
    batch: BatchOption = None,
    distillation: Annotated[
        float | None,
        typer.Option(
            help="Share of the loss, 0 to 1, that is learned from what the model says when prompted with the task's wordings."
        ),
    ] = None,
    start: Annotated[str | None, typer.Option(help="A mask to start from, instead of all heads on.")] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="small, composite, large (the AHAMask authors' rates in 3 000 steps), paper (theirs, 90 000 steps); auto: by "
            "the model's size."
        ),
    ] = "auto",
    name: Annotated[
        str | None, typer.Option(help="Name in the bank; the task's by default. Of several tasks t gives t-asr, t-gr …")
    ] = None,
    out_file: Annotated[Path | None, typer.Option("--out", help="Also write the mask to this .safetensors file.")] = None,
    bank: BankOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    tasks_file: TasksOption = None,
    trim: TrimOption = False,
    skip_bad: SkipOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a mask for each task and keep it in the bank.

    A training that was stopped resumes when the same command is given again. Started by `accelerate launch -m amask bank train …`
    or torchrun, several processes share the work.
    """
    with one_line_errors():
        from .training import TrainOptions, parse_seeds, train_masks

        options = TrainOptions(
            tuple(parse_seeds(seeds)), recipe, steps, batch, sparsity, distillation, model, device, dtype, data, tasks_file,
            start, name, out_file, trim, skip_bad,
        )  # fmt: skip
        added = train_masks(tasks, open_bank(bank), options)
        print_added(added, as_json)


@app.command(name="list")
def list_masks(
    name: Annotated[str | None, typer.Option(help="Only masks of this name; * stands for anything.")] = None,
    task: Annotated[str | None, typer.Option(help="Only masks for this task.")] = None,
    model: Annotated[str | None, typer.Option(help="Only masks for models whose name or fingerprint holds this.")] = None,
    bank: BankOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the masks of your bank and of the bundled one; * marks the default of each name and model."""
    with one_line_errors():
        from ..mask_bank.defaults import dev_figure

        opened = open_bank(bank)
        preferred = opened.defaults()
        masks = [stored for stored in opened.list() if _wanted(stored, name, task, model)]
        if as_json:
            print_json([_about(stored, preferred) for stored in masks])
        else:
            table = Table("mask", "task", "model", "heads on", "dev score", "from", "date", box=None, header_style="bold")
            for stored in masks:
                spec = stored.spec + (" *" if stored.spec in preferred else "")
                on = f"{stored.heads_on}/{stored.heads_total}"
                how = str(stored.lineage.get("operation", ""))
                table.add_row(spec, stored.task_name, stored.identity.name, on, dev_figure(stored), how, _date(stored))
            print_table(table)
        for _, problem in opened.verify():
            err.print(f"amask: {problem}", style="yellow", markup=False)


def _wanted(stored: "StoredMask", name: str | None, task: str | None, model: str | None) -> bool:
    from ..data.tasks import BAR

    fits_model = any((model or "").lower() in text.lower() for text in (stored.identity.name, stored.identity.fingerprint))
    fits_task = task is None or stored.task_name == task.lower().replace(BAR, "-")
    return fits_model and fits_task and (name is None or fnmatchcase(stored.name, name))


def _date(stored: "StoredMask") -> str:
    """When its file was written: `2025-01-31`."""
    return datetime.fromtimestamp(stored.path.stat().st_mtime).astimezone().date().isoformat()


def _about(stored: "StoredMask", preferred: frozenset[str]) -> dict[str, Any]:
    from ..mask_bank.files import describe

    return describe(stored) | {"default": stored.spec in preferred, "date": _date(stored)}


@app.command()
def show(
    name: NameArgument,
    png: Annotated[Path | None, typer.Option(help="Draw the mask into this file, .png or .svg.")] = None,
    bank: BankOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a mask: layers and heads, lineage, scores."""
    with one_line_errors():
        from ..mask_bank.bank import open_mask
        from ..mask_bank.plots import render_text, save_mask_plot

        opened = open_bank(bank)
        stored = open_mask(name, opened)
        if png:
            save_mask_plot(stored, png, stored.spec)
        shown = _about(stored, opened.defaults() if opened.holds(stored.path) else frozenset())
        if as_json:
            print_json(shown)
            return
        out.print(render_text(stored, stored.spec))
        shown["lineage"].pop("ffn", None)  # the authors' feed-forward numbers are kept for export only
        for key in ("task", "fingerprint", "scores", "lineage"):
            value = shown[key]
            if value:
                out.print(f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}", markup=False)


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(help="Two masks or more: NAME, NAME@VERSION, or a mask's file.")],
    png: Annotated[Path | None, typer.Option(help="Draw the table of Jaccard indices into this file, .png or .svg.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Also the heads on in each layer.")] = False,
    clips: Annotated[int, typer.Option(min=0, help="Test clips on which masks of one task, and what they share, are tried.")] = 0,
    model: ModelOption = "pocket",
    data: DataOption = None,
    device: DeviceOption = "auto",
    bank: BankOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare masks of one model: the Jaccard index of each two, heads on in both, in one, in all, in none, in which together.

    With --clips masks of one task (of several seeds, say) are tried, with their intersection, their union and a random mask of
    the intersection's size: do the heads that they agree on still do the task?

    A mask that was imported without its model at hand is compared with all masks for a model of that name.
    """
    with one_line_errors():
        from ..mask_bank.bank import open_mask
        from ..mask_bank.comparison import compare
        from ..mask_bank.plots import save_heatmap

        opened = open_bank(bank)
        masks = [open_mask(name, opened) for name in names]
        called = [stored.spec if opened.holds(stored.path) else name for name, stored in zip(names, masks, strict=True)]
        found = compare(list(zip(called, masks, strict=True)))
        if png:
            save_heatmap(found.masks, found.jaccard, png, "Jaccard index")
        tried = _try_masks(dict(zip(called, masks, strict=True)), clips, model, data, device) if clips else []
        if as_json:
            agreed = {"tried": [asdict(each) for each in tried]} if tried else {}
            print_json(found.to_json() | agreed)
        elif len(masks) == 2:
            (pair,) = found.pairs
            one, other = pair.masks
            out.print(f"Jaccard index of {one} and {other}: {pair.jaccard:.3f}", markup=False)
            only = f"only {one} {pair.only_first}, only {other} {pair.only_second}"
            out.print(f"heads on in both {pair.both}, {only}, neither {pair.neither}", markup=False)
        else:
            table = Table("Jaccard index", *found.masks, "heads on", "in it alone", box=None, header_style="bold")
            for row in zip(found.masks, found.jaccard, found.heads_on, found.heads_only, strict=True):
                table.add_row(row[0], *(f"{value:.3f}" for value in row[1]), str(row[2]), str(row[3]))
            print_table(table)
            out.print(f"of {found.heads_total} heads {found.in_all} are on in all, {found.in_none} in none; on in exactly:")
            table = Table("heads", "masks", box=None, show_header=False)
            for region in found.regions[:LARGEST]:
                table.add_row(str(region.heads), " & ".join(region.masks))
            print_table(table)
            if len(found.regions) > LARGEST:
                out.print(f"and {len(found.regions) - LARGEST} smaller ones, see --json")
        if layers and not as_json:
            table = Table("layer", *found.masks, box=None, header_style="bold")
            for layer, counts in enumerate(found.layers):
                table.add_row(str(layer), *map(str, counts))
            print_table(table)
        if tried and not as_json:
            table = Table("mask", "heads on", f"{tried[0].metric}, {tried[0].clips} clips", box=None, header_style="bold")
            for each in tried:
                table.add_row(each.name, str(each.heads_on), f"{each.value:.1f}")
            print_table(table)


def _try_masks(masks: "Mapping[str, HeadMask]", clips: int, model: str, data: Path | None, device: str) -> "list[MaskScore]":
    """What masks of one task do on test clips, and what they share."""
    from ..evaluation.agreement import measure_agreement

    return measure_agreement(open_model(model, device), masks, open_data(data), clips=clips)


@app.command()
def use(name: Annotated[str, typer.Argument(help="NAME@VERSION")], bank: BankOption = None, as_json: JsonOption = False) -> None:
    """Make a version the default: what its name alone means for its model."""
    with one_line_errors():
        opened = open_bank(bank)
        stored = opened.use(name)
        if as_json:
            print_json(_about(stored, opened.defaults()))
        else:
            out.print(f"{stored.name} is now {stored.spec} for {stored.identity.name}", markup=False)


@app.command()
def verify(bank: BankOption = None, as_json: JsonOption = False) -> None:
    """Read every file of the bank whole and name what is damaged; exits with 1 if anything is."""
    with one_line_errors():
        opened = open_bank(bank)
        problems = opened.verify()
        if as_json:
            print_json([{"path": str(path), "problem": problem} for path, problem in problems])
        else:
            for _, problem in problems:
                out.print(problem, markup=False)
            out.print(f"{len(opened.list())} masks are whole, {len(problems)} damaged")
        if problems:
            raise typer.Exit(1)


@app.command()
def remove(name: Annotated[str, typer.Argument(help="NAME@VERSION")], bank: BankOption = None) -> None:
    """Delete a mask from your bank; bundled masks stay, and its version is never given again."""
    with one_line_errors():
        opened = open_bank(bank)
        before = opened.defaults()
        out.print(f"removed {opened.remove(name)}", markup=False)
        for spec in sorted(opened.defaults() - before):
            err.print(f"amask: {spec} is now the default", markup=False)
