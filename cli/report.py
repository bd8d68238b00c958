"""`amask report` and `amask ablate`: the paper's tables and figures."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .common import (
    BankOption,
    DataOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    TasksOption,
    note,
    one_line_errors,
    open_bank,
    open_data,
    open_model,
    out,
    print_table,
    progress,
    warn,
)
from .output_encoding import echo

if TYPE_CHECKING:
    from ..evaluation.bench import Bench
    from ..evaluation.section import Section

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
ANSWERS = "answers"  # the folder of what has been measured

ClipsOption = Annotated[int, typer.Option(min=4, help="At most so many clips a task, drawn by a hash of their names.")]
PromptsOption = Annotated[int, typer.Option(min=0, help="At most so many prompts a task.")]
SeedsOption = Annotated[int, typer.Option(min=0, help="Random masks a task.")]
WordingsOption = Annotated[int, typer.Option(min=1, help="Wordings a task, seen ones and unseen ones each, of 'sensitivity'.")]
PointsOption = Annotated[int, typer.Option(min=1, help="Numbers of heads on a curve of 'order'.")]
BudgetOption = Annotated[
    str | None, typer.Option(help="Stop measuring after so long, such as 10m or 2h; the same command goes on later.")
]
OutsideOption = Annotated[
    list[str] | None, typer.Option("--outside", help="Clips of another source, as NAME=DATA; may be given several times.")
]
ToOption = Annotated[
    str | None, typer.Option("--to", help="Another model, on which masks are tried although they are not its own.")
]
IsaOption = Annotated[Path | None, typer.Option("--isa", help="Folder of answers that 'amask eval isa' wrote, for the radar.")]
TokensOption = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Tokens at which an answer is truncated.")]
SplitOption = Annotated[str, typer.Option(help="Split of the data: train, dev, test, or all.")]


def report(
    what: Annotated[
        str, typer.Argument(help="A model (pocket, a folder, a Hub id), or the folder of a bank of masks.")
    ] = "pocket",
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for index.html, and JSON, CSV and PNG of each table.")] = Path(
        "report"
    ),
    tasks: Annotated[str, typer.Option("--task", help="Only these tasks, with commas between.")] = "",
    tables: Annotated[str, typer.Option(help="Only these tables, with commas between; see 'amask ablate --help'.")] = "",
    data: DataOption = None,
    tasks_file: TasksOption = None,
    split: SplitOption = "test",
    clips: ClipsOption = 48,
    prompts: PromptsOption = 6,
    seeds: SeedsOption = 3,
    wordings: WordingsOption = 12,
    points: PointsOption = 8,
    max_new_tokens: TokensOption = 100,
    outside: OutsideOption = None,
    to: ToOption = None,
    isa: IsaOption = None,
    budget: BudgetOption = None,
    bank: BankOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Make the paper's tables and figures for a model's masks: one page, and JSON, CSV and PNG of each.

    What has been measured is kept in the folder, so that the same command goes on where it was stopped.
    """
    with one_line_errors():
        from ..errors import InstructionError

        model = what
        if is_bank(what):
            if bank is not None:
                raise InstructionError(f"{what} is a bank of masks, and so is --bank {bank}; pass one of them")
            model, bank = "pocket", Path(what)
        settings = {"split": split, "clips": clips, "prompts": prompts, "seeds": seeds, "wordings": wordings, "points": points}
        settings["max_new_tokens"] = max_new_tokens
        bench = _open(
            model, bank, data, tasks_file, split_names(tasks), settings, outside or [], to, isa, device, dtype, out_folder
        )
        sections, left = _make(bench, split_names(tables), budget, out_folder)
        if as_json:
            echo(json.dumps({"folder": str(out_folder), "left": left, "sections": [each.to_json() for each in sections]}))
        else:
            out.print(str(out_folder / "index.html"), markup=False)


def ablate(
    name: Annotated[
        str,
        typer.Argument(
            help="main, composites, sensitivity, random, order, jaccard, heads, seeds, lambda, out-of-domain, isa, or transfer."
        ),
    ],
    tasks: Annotated[list[str] | None, typer.Argument(help="Tasks; all that have a mask by default.")] = None,
    model: ModelOption = "pocket",
    data: DataOption = None,
    tasks_file: TasksOption = None,
    split: SplitOption = "test",
    clips: ClipsOption = 48,
    prompts: PromptsOption = 6,
    seeds: SeedsOption = 3,
    wordings: WordingsOption = 12,
    points: PointsOption = 8,
    max_new_tokens: TokensOption = 100,
    outside: OutsideOption = None,
    to: ToOption = None,
    isa: IsaOption = None,
    budget: BudgetOption = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for JSON, CSV, PNG and a page; what is measured is kept there.")
    ] = None,
    bank: BankOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Make one of the report's tables."""
    with one_line_errors():
        import tempfile

        from ..evaluation.report import find_ablations

        find_ablations([name])
        settings = {"split": split, "clips": clips, "prompts": prompts, "seeds": seeds, "wordings": wordings, "points": points}
        settings["max_new_tokens"] = max_new_tokens
        with tempfile.TemporaryDirectory() as scratch:
            folder = out_folder or Path(scratch)
            bench = _open(model, bank, data, tasks_file, tasks or [], settings, outside or [], to, isa, device, dtype, folder)
            (section,), _ = _make(bench, [name], budget, out_folder)
        if as_json:
            echo(json.dumps(section.to_json(), ensure_ascii=False))
        else:
            _print(section)


def is_bank(what: str) -> bool:
    """Whether this names a folder with masks at their places; `pocket` is always the model."""
    from ..mask_bank.versions import is_place

    folder = Path(what)
    return what != "pocket" and any(is_place(path.relative_to(folder).parts) for path in folder.glob("*/*.safetensors"))


def split_names(text: str) -> list[str]:
    """`gr, asr` → gr and asr."""
    return [name.strip() for name in text.split(",") if name.strip()]


def read_budget(text: str | None) -> float | None:
    """`90`, `90s`, `10m`, `2h` → seconds."""
    from ..errors import DataError

    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not found:
        raise DataError(f"--budget {text}: expected a time such as 90s, 10m or 2h")
    return float(found[1]) * UNITS[found[2]]


def _open(
    model: str, bank: Path | None, data: Path | None, tasks_file: Path | None, tasks: list[str], settings: dict[str, object],
    outside: list[str], to: str | None, isa: Path | None, device: str, dtype: str, folder: Path,
) -> "Bench":  # fmt: skip
    """Everything that is measured with."""
    from ..data.reading import read_manifest
    from ..data.tasks import collect_tasks, parse_task
    from ..errors import DataError
    from ..evaluation.answer_store import ClipSet
    from ..evaluation.bench import Options, build_bench
    from ..evaluation.harness import clips_for
    from ..evaluation.isa import load_systems

    systems = load_systems(isa) if isa else {}
    opened, manifest = open_bank(bank), open_data(data)
    known = {part.name: part for spec in opened.tasks() for part in spec.parts}
    known |= collect_tasks(opened.folder, manifest.folder, file=tasks_file)
    specs = [parse_task(name, known) for name in tasks]
    options = Options(**settings)  # type: ignore[arg-type]
    loaded = open_model(model, device, dtype)
    sets = []
    for given in outside:
        name, _, place = given.partition("=")
        if not place:
            raise DataError(f"--outside {given}: expected NAME=DATA, such as tedlium=clips/manifest.jsonl")
        elsewhere = read_manifest(Path(place))
        for task in specs or opened.tasks(loaded):
            found = clips_for(task, elsewhere, options.split)
            sets += [ClipSet.draw(task, found, options.clips, f"{task.name}, {name}")] if len(found) else []
    other = open_model(to, device, dtype) if to else None
    return build_bench(
        loaded, opened, manifest, folder / ANSWERS, tasks=specs, options=options, outside=sets, other=other, isa=systems
    )


def _make(bench: "Bench", names: list[str], budget: str | None, folder: Path | None) -> "tuple[tuple[Section, ...], int]":
    from ..evaluation.answer_store import Budget
    from ..evaluation.report import find_ablations, make_report

    seconds = read_budget(budget)
    sets = ", ".join(f"{name}: {bench.sets[name].measured_on}" for name in bench.measured)
    about = f"{bench.options.split} split; {sets}" if sets else ""
    made = make_report(bench, find_ablations(names), Budget(seconds), progress, folder, about)
    if made.left:
        warn(f"{made.left} runs are left, since --budget {budget} is over; the same command goes on with them")
    if folder is not None:
        note(f"tables and pictures are in {folder}")
    return made.sections, made.left


def _print(section: "Section") -> None:
    from ..evaluation.section import cell_text

    table = Table(*section.columns, box=None, header_style="bold", title=section.title, title_justify="left", title_style="bold")
    for row in section.rows:
        table.add_row(*map(cell_text, row))
    print_table(table)
    for line in filter(None, (section.measured_on, section.note)):
        note(line)
