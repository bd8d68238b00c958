"""`amask compose`: masks from masks by set operations, and composite tasks that one mask does in one answer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .common import (
    BankOption,
    BatchOption,
    DataOption,
    DeviceOption,
    DtypeOption,
    ModelOption,
    SparsityOption,
    StepsOption,
    err,
    one_line_errors,
    open_bank,
    open_data,
    open_model,
    out,
    print_added,
    print_json,
    read_keys,
)

if TYPE_CHECKING:
    from rich.table import Table

    from ..composer.composite import CompositeResult, SearchOptions, Train
    from ..composer.composite_data import CompositeData
    from ..composer.expression import Expression
    from ..composer.search import CandidateScore
    from ..data.manifest import Manifest
    from ..data.tasks import TaskSpec
    from ..lalm.base import LALM
    from ..mask_bank.bank import MaskBank
    from ..mask_bank.checkpoint import Checkpoint
    from ..mask_bank.mask import HeadMask
    from ..mask_bank.recipe import Recipe


CONFIRMATION = "Further dev clips, at most, that the best candidate is confirmed on; as many as it takes to tell are used."


@dataclass(frozen=True)
class TrainOptions:
    """What the options say of a training, if there is to be one."""

    steps: int | None
    batch: int | None
    sparsity: float | None
    seed: int

    def of(self, spec: "TaskSpec", model: "LALM | None" = None) -> "Recipe":
        """The recipe for a composite, by the model's size where it is known."""
        from ..mask_bank.recipe import choose_recipe, model_size

        size = model_size(model) if model is not None else None
        return choose_recipe([spec], parameters=size, steps=self.steps, batch=self.batch, sparsity=self.sparsity)

    def check(self) -> None:
        """Whether there is such a recipe, before anything is loaded."""
        from ..data.tasks import parse_task

        self.of(parse_task("gr-asr"))


@dataclass(frozen=True)
class OutputOptions:
    """What is said of the result: as JSON or text, with the heads by layer, and drawn into which file."""

    as_json: bool
    explain: bool
    png: Path | None


def compose(
    expression: Annotated[list[str], typer.Argument(help="gr AND asr; also OR, XOR, MINUS, NOT, 2 OF (a, b, c), brackets.")],
    json_form: Annotated[bool, typer.Option("--json", help="A mask for all the tasks at once, with answers in JSON.")] = False,
    pipe_form: Annotated[bool, typer.Option("--pipe", help="Likewise, with answers as gr|asr.")] = False,
    boolean: Annotated[bool, typer.Option("--boolean", help="The set operation only, as without --json or --pipe.")] = False,
    keys: Annotated[str, typer.Option(help="What JSON answers call the parts: gender,text. By default the tasks' names.")] = "",
    name: Annotated[str | None, typer.Option(help="Name in the bank.")] = None,
    model: ModelOption = "pocket",
    data: DataOption = None,
    budget: Annotated[str, typer.Option(help="What the search may cost: 90s, 3m, or a number of answers such as 2000.")] = "2m",
    clips: Annotated[int, typer.Option(min=1, help="Dev clips that candidates are measured on.")] = 32,
    confirmation_clips: Annotated[int, typer.Option(min=0, help=CONFIRMATION)] = 600,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train where no candidate reaches the target.")] = True,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train even where a candidate reaches the target.")] = False,
    self_label: Annotated[bool, typer.Option("--self-label", help="Let the parts' own masks label the clips.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 1,
    sparsity: SparsityOption = None,
    steps: StepsOption = None,
    batch: BatchOption = None,
    explain: Annotated[bool, typer.Option("--explain", help="Shared and own heads of the parts by layer.")] = False,
    png: Annotated[Path | None, typer.Option(help="Draw them into this file, .png or .svg.")] = None,
    output: Annotated[Literal["text", "json"], typer.Option(help="text, or json for machines.")] = "text",
    bank: BankOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Compose masks of the bank by an expression and keep the result.

    With --json or --pipe a mask is found that does all tasks of the expression in one answer, in that order: the best of the
    bank's relatives, the set operations and sums of logits, where it reaches the target on other clips than it was chosen on
    (99 % of answers in the form, and beyond doubt no part five points worse than by its own mask); else one that is trained
    from the best. Clips that carry all labels are used; where there are none, each part's own mask labels clips.
    """
    with one_line_errors():
        from ..composer.expression import parse
        from ..composer.search import parse_budget
        from ..errors import MaskError
        from ..serving.plan import is_plan

        text = " ".join(expression)
        if json_form + pipe_form + boolean > 1:
            raise MaskError("choose one of --json, --pipe and --boolean")
        if is_plan(text):
            raise MaskError(f"THEN makes a plan, which no mask holds; run it: amask run --task {text!r}")
        tree = parse(text)
        if keys and not json_form:
            raise MaskError("--keys names the parts of JSON answers; pass --json, too")
        if retrain and not train:
            raise MaskError("--retrain and --no-train contradict each other")
        if png is not None and png.suffix not in (".png", ".svg"):
            raise MaskError(f"--png {png}: expected a name that ends in .png or .svg")
        check_name(name)
        named = read_keys(keys)
        cost, how = parse_budget(budget), TrainOptions(steps, batch, sparsity, seed)
        how.check()
        opened, clips_of = open_bank(bank), open_data(data)
        loaded = open_model(model, device, dtype)
        as_json = output == "json"
        about = OutputOptions(as_json, explain, png)
        if not (json_form or pipe_form):
            _boolean(loaded, opened, tree, name, clips_of if data or model == "pocket" else None, about)
            return
        from ..composer.composite import SearchOptions

        options = SearchOptions(
            "json" if json_form else "pipe",
            named,
            clips=clips,
            confirmation_clips=confirmation_clips,
            retrain=retrain,
            self_label=self_label,
            budget=cost,
        )
        used: list[Checkpoint] = []
        trained = _trainer(loaded, opened, how, used) if train else None
        composed = _composite(loaded, opened, tree, clips_of, options, trained)
        _store_and_report(opened, composed, name, about)
        for checkpoint in used:
            checkpoint.remove()


def check_name(name: str | None) -> None:
    """Whether the bank can keep a mask by a name, before anything is done for it."""
    from ..errors import BankError
    from ..mask_bank.versions import parse_spec

    if name is not None and parse_spec(name)[1] is not None:
        raise BankError(f"a stored mask gets its version from the bank; pass --name {parse_spec(name)[0]!r}")


def _boolean(
    model: "LALM", bank: "MaskBank", tree: "Expression", name: str | None, data: "Manifest | None", about: OutputOptions
) -> None:
    """Store what the set operation gives, then say what it does."""
    from ..composer.algebra import evaluate, look_up
    from ..composer.effects import measure_side_effects
    from ..composer.expression import name_of

    parents = look_up(tree, lambda spec: bank.get(spec, model))
    composed = evaluate(tree, parents.__getitem__)
    added = bank.add(composed, name or name_of(tree))
    layers = _explain(parents, composed, added.stored.spec, about)
    print_added([added], about.as_json, {"layers": layers} if layers else {})
    if data is None:
        err.print("amask: effect not measured; pass --data", markup=False)
        return
    effects = measure_side_effects(model, composed, parents, data)
    for effect in effects:
        err.print(f"amask: on {effect}", markup=False)
    tried = {effect.task for effect in effects}
    for parent in parents.values():
        if parent.task_name not in tried:
            err.print(f"amask: {parent.called} is of no task that the data have dev clips for, so it is not tried", markup=False)
    if len(parents) > 1:
        err.print("amask: for one mask that answers several tasks, pass --pipe or --json", markup=False)


def _composite(
    model: "LALM",
    bank: "MaskBank",
    tree: "Expression",
    data: "Manifest",
    options: "SearchOptions",
    train: "Train | None",
) -> "CompositeResult":
    from ..composer.composite import Events, compose_task

    with _table() as on_result:
        events = Events(_warn_self_labels, _label_progress, on_result)
        return compose_task(model, bank, tree, data, options, train=train, events=events)


def _label_progress(done: int, total: int) -> None:
    """Progress while own masks label clips, which takes long on a large model."""
    from ..composer.composite_data import LABEL_BATCH

    if done == total or done * 10 // total > (done - LABEL_BATCH) * 10 // total:
        err.print(f"amask: the parts' own masks label clips: {done} of {total}", style="dim", markup=False)


def _warn_self_labels(data: "CompositeData") -> None:
    if data.self_labelled:
        err.print("amask: the parts' own masks label the clips: their answers are used as pseudo-labels", style="yellow")


def _trainer(model: "LALM", bank: "MaskBank", how: TrainOptions, used: "list[Checkpoint]") -> "Train":
    """What trains a composite, with a bar; its checkpoint is left until the mask is stored."""

    def train(spec: "TaskSpec", data: "Manifest", start: "HeadMask") -> "HeadMask":
        from .training import check_data, run_training

        recipe = how.of(spec, model)
        err.print(f"amask: training {spec.name} from the best candidate ({start.heads_on} heads on)")
        trainer = check_data(model, [spec], data, seeds=[how.seed], recipe=recipe, start=start, bank=bank)
        (mask,) = run_training(trainer)
        if trainer.checkpoint:
            used.append(trainer.checkpoint)
        return mask

    return train


@contextmanager
def _table() -> "Iterator[Callable[[CandidateScore], None]]":
    """A table on stderr that fills as rows come; where stderr is no terminal it is shown once, at the end."""
    from rich.live import Live

    rows: dict[str, CandidateScore] = {}
    if not err.is_terminal:
        yield lambda result: rows.update({result.candidate.name: result})
        if rows:
            err.print(draw_table(list(rows.values())), width=max(err.width, 110))
        return
    with Live(console=err, refresh_per_second=8) as live:

        def tell(result: "CandidateScore") -> None:
            rows[result.candidate.name] = result
            live.update(draw_table(list(rows.values())))

        yield tell


def draw_table(results: "Sequence[CandidateScore]") -> "Table":
    """Candidates, those on the most clips and of the least loss first."""
    from rich.table import Table

    parts = [f"{part.part} {part.metric} (own)" for part in results[0].part_scores]
    table = Table("candidate", "clips", "heads on", "IFR", *parts, box=None, header_style="bold")
    for result in sorted(results, key=lambda result: (-result.clips, result.loss)):
        cells = [f"{part.value:.1f} ({part.own:.1f})" for part in result.part_scores]
        name, mask = result.candidate.name, result.candidate.mask
        table.add_row(name, str(result.clips), str(mask.heads_on), f"{result.ifr:.1f}", *cells)
    return table


def _explain(parts: "Mapping[str, HeadMask]", composed: "HeadMask", called: str, about: OutputOptions) -> list[dict[str, object]]:
    """The heads of each layer that the parts share, in the terminal and as a picture where that is wanted; as plain data."""
    from rich.table import Table

    from ..composer.layer_overlap import layer_overlaps
    from ..mask_bank.plots import save_layer_plot

    rows = layer_overlaps(list(parts.values()), composed)
    alone = [f"only {name}" for name in parts]
    if about.png:
        series = {"shared": [row.shared for row in rows]}
        series |= {name: [row.only[at] for row in rows] for at, name in enumerate(alone)}
        save_layer_plot(series, [row.heads for row in rows], about.png, called)
    if about.explain and not about.as_json:
        table = Table("layer", "heads", "shared", *alone, called, box=None, header_style="bold")
        for at, row in enumerate(rows):
            table.add_row(*map(str, (at, row.heads, row.shared, *row.only, row.composed)))
        out.print(table)
    return [asdict(row) for row in rows] if about.explain else []


def _store_and_report(bank: "MaskBank", composed: "CompositeResult", name: str | None, about: OutputOptions) -> None:
    """Store the mask and say what it came to."""
    from ..mask_bank.files import describe

    added = bank.add(composed.mask, name or composed.mask.task_name)
    confirmation = composed.confirmation
    layers = _explain(composed.parts, composed.mask, added.stored.spec, about)
    if about.as_json:
        found: dict[str, Any] = {
            "how": composed.how,
            "reached": confirmation.reached,
            "default": added.default,
            "result": composed.result.row(),
        }
        found |= {"confirmation": confirmation.row(), "table": [each.row() for each in composed.results]}
        found |= {"layers": layers} if layers else {}
        print_json(describe(added.stored) | found)
    else:
        stored = added.stored
        out.print(f"{stored.spec}: {stored.heads_on} of {stored.heads_total} heads on; {_measured(composed)}", markup=False)
    if added.note:
        err.print(f"amask: {added.note}", style=None if added.default else "yellow", markup=False)
    if not confirmation.reached:
        err.print(
            f"amask: it does not reach the target ({confirmation.reason}), so 'amask run' takes the parts' own masks in parallel",
            style="yellow",
            markup=False,
        )
        if composed.how == "selected":
            err.print("amask: --retrain trains it further", style="dim")


def _measured(composed: "CompositeResult") -> str:
    """What the mask does, on the confirmation clips where there are some, else on those that it was chosen on."""
    found = composed.confirmation
    if not found.clips:
        scores = "".join(f", {p.part} {p.metric} {p.value:.1f} (own {p.own:.1f})" for p in composed.result.part_scores)
        return f"on {composed.result.clips} clips that it was chosen on: IFR {composed.result.ifr:.1f}{scores}"
    parts = [
        f", {p.score.part} {p.score.metric} {p.score.value:.1f} (own {p.score.own:.1f}, {p.max_gap:.1f} points worse at most)"
        for p in found.parts
    ]
    return f"on {found.clips} further clips: IFR {found.ifr:.1f}{''.join(parts)}"
