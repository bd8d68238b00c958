"""`amask predictor …`: train, eval, show."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .common import (
    BankOption,
    DataOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    encode_clips,
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
from .predict import PredictorOption, open_predictor

if TYPE_CHECKING:
    from ..data.tasks import TaskSpec
    from ..mask_bank.mask import HeadMask
    from ..predictor.predictor import Predictor

app = typer.Typer(help="Train the predictor of masks from words, measure it, look at it.", no_args_is_help=True)

EncoderOption = Annotated[str, typer.Option(help="static, or a sentence-transformers model: a folder or a Hub id.")]


@app.command()
def train(
    tasks: Annotated[Path | None, typer.Option(help="TOML file of more tasks that instructions may ask for.")] = None,
    model: Annotated[str, typer.Option(help="The masks of this model, as 'amask bank list' names it.")] = "pocket",
    encoder: EncoderOption = "static",
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    end_to_end: Annotated[int | None, typer.Option(min=1, help="Steps of a second stage, through the model itself.")] = None,
    data: DataOption = None,
    device: DeviceOption = "auto",
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Do not start from the predictor that ships.")] = False,
    heads_only: Annotated[
        bool, typer.Option("--heads-only", help="Learn the masks alone, in a fraction of the time; understand as before.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 1,
    out_file: Annotated[Path | None, typer.Option("--out", help="The file; beside your bank by default.")] = None,
    bank: BankOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a predictor for the masks of the bank; a stopped training resumes from its last checkpoint.

    It starts from the predictor that ships, whatever model that is for, unless another encoder or --from-scratch is asked for.
    """
    with one_line_errors():
        from ..data.tasks import read_tasks
        from ..errors import BankError
        from ..mask_bank.bank import default_folder
        from ..predictor.encoder import STATIC, load_encoder
        from ..predictor.predictor import Predictor
        from ..predictor.train import train_predictor
        from ..predictor.training import FINETUNE_SETTINGS, PredictorSettings
        from ..serving.pipeline import default_masks, user_predictor_path

        start = None if from_scratch or encoder != STATIC else Predictor.load()
        settings = PredictorSettings(seed=seed) if start is None else PredictorSettings(seed=seed, **FINETUNE_SETTINGS)
        settings = settings.model_copy(update={"heads_only": heads_only})
        if steps:
            settings = settings.model_copy(update={"steps": steps, "warmup": min(settings.warmup, steps // 4)})
        extra = list(read_tasks(tasks).values()) if tasks else []
        named: list[HeadMask] = [mask for mask in default_masks(open_bank(bank)) if mask.identity.name == model]
        if not named:
            raise BankError(f"the bank has no masks of {model!r} to learn from; see 'amask bank list'")
        masks = _of_one_model(named, model)
        path = out_file or user_predictor_path(bank or default_folder(), masks[0].identity)
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = path.with_suffix(".checkpoint")
        with progress("training the predictor", settings.steps) as on_progress:
            made = train_predictor(
                masks,
                settings,
                encoder=load_encoder(encoder),
                tasks=extra,
                checkpoint=checkpoint,
                start=start,
                on_progress=on_progress,
            )
        if end_to_end:
            made = _tuned(made, masks, model, data, device, end_to_end)
        made.save(path)
        checkpoint.unlink(missing_ok=True)
        if as_json:
            echo(json.dumps({"path": str(path)} | made.record.model_dump(mode="json", exclude={"tasks"})))
        else:
            calibration = made.record.calibration
            out.print(f"{path}: {len(made.record.tasks)} tasks, {len(made.record.masks)} masks", markup=False)
            err.print(f"amask: refuses below a confidence of {calibration.threshold:.2f}", style="dim", markup=False)


def _of_one_model(masks: "list[HeadMask]", model: str) -> "list[HeadMask]":
    """The masks of one fingerprint: of several models with one name, the one that has most."""
    models: dict[str, list[HeadMask]] = {}
    for mask in masks:
        models.setdefault(mask.identity.fingerprint, []).append(mask)
    chosen = max(models.values(), key=len)
    if len(models) > 1:
        fingerprint = chosen[0].identity.fingerprint
        err.print(f"amask: {len(models)} models are called {model!r}; learning for {fingerprint}", style="yellow", markup=False)
    return chosen


def _tuned(made: "Predictor", masks: "list[HeadMask]", model: str, data: Path | None, device: str, steps: int) -> "Predictor":
    """The second stage."""
    from ..data.tasks import TaskSpec
    from ..errors import DataError
    from ..mask_bank.labelled_clips import find_labelled_clips, has_labels
    from ..predictor.end_to_end import EndToEndSettings
    from ..predictor.train import tune_predictor

    loaded = open_model(model, device)
    manifest = open_data(data)
    singles = [mask.task for mask in masks if isinstance(mask.task, TaskSpec) and mask.task.form == "plain"]
    labelled = [task for task in singles if any(has_labels(task, clip.labels) for clip in manifest if clip.split != "test")]
    if not labelled:
        raise DataError("no train clip of the data has labels for a task of the masks; give some that have with --data")
    clips, _ = find_labelled_clips(loaded, manifest, labelled)
    with progress("training it end to end", steps) as on_progress:
        return tune_predictor(made, masks, loaded, clips, EndToEndSettings(steps=steps), on_progress=on_progress)


@app.command()
def reset(model: ModelOption = "pocket", bank: BankOption = None) -> None:
    """Forget your predictor for a model, so that the one that ships is used again."""
    with one_line_errors():
        from ..serving.pipeline import user_predictor_path

        pipe = open_pipeline(model, bank)
        path = user_predictor_path(pipe.bank.folder, pipe.identity)
        there = path.is_file()
        path.unlink(missing_ok=True)
        err.print(f"amask: {f'{path} is deleted' if there else 'there was none'}", style="dim", markup=False)


@app.command()
def show(predictor: PredictorOption = None, bank: BankOption = None, as_json: JsonOption = False) -> None:
    """Show what a predictor knows: its encoder, tasks, masks, model and calibration."""
    with one_line_errors():
        opened = open_predictor(predictor, bank)
        about = opened.record.model_dump(mode="json", exclude={"tasks"}) | {"tasks": [task.name for task in opened.record.tasks]}
        about["parameters"] = sum(parameter.numel() for parameter in opened.network.parameters())
        if as_json:
            echo(json.dumps(about, ensure_ascii=False))
            return
        out.print(f"encoder {about['encoder']}, {about['parameters']} parameters of its own", markup=False)
        out.print(f"for {opened.identity}", markup=False)
        out.print(f"tasks {', '.join(about['tasks'])}", markup=False)
        out.print(f"masks {'  '.join(opened.record.masks)}", markup=False)
        calibration = opened.record.calibration
        out.print(f"refuses below {calibration.threshold:.2f}, set on {calibration.requests} requests", markup=False)


@app.command(name="eval")
def evaluate(
    predictor: PredictorOption = None,
    compare: Annotated[
        list[Path] | None, typer.Option(help="Further predictors to measure, such as one of another encoder.")
    ] = None,
    baselines: Annotated[bool, typer.Option(help="Word statistics and nearest wordings beside it.")] = True,
    bank: BankOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what is understood of held-out wordings, orders and unsupported requests."""
    with one_line_errors():
        from dataclasses import asdict

        from ..evaluation import intent_benchmark
        from ..predictor.predictor import Predictor
        from ..serving.pipeline import require_masks

        opened = open_predictor(predictor, bank)
        masks = require_masks(open_bank(bank), opened.identity)
        seen = frozenset(tuple(mask.task.names) for mask in masks if mask.task)
        tests = intent_benchmark.held_out(opened.record.tasks, seen)
        systems = [opened, *(Predictor.load(path) for path in compare or [])]
        rows = []
        for each in systems:
            threshold = each.record.calibration.threshold
            rows.append(
                intent_benchmark.measure(
                    f"predictor, {each.encoder.name}", intent_benchmark.predictor_system(each), threshold, tests
                )
            )
        if baselines:
            tasks = opened.record.tasks
            named = {f"nearest wording, {opened.encoder.name}": intent_benchmark.NearestWording(opened.encoder, tasks, seen)}
            for name, guess in (named | {"word statistics (TF-IDF)": intent_benchmark.WordStatistics(tasks, seen)}).items():
                rows.append(intent_benchmark.measure(name, guess, intent_benchmark.baseline_threshold(guess, tasks, seen), tests))
        bits = intent_benchmark.bits_table(opened, masks, tests)
        if as_json:
            about = {"tests": {name: len(examples) for name, examples in vars(tests).items()}}
            figures = {"rows": [asdict(row) for row in rows], "bits": [asdict(row) for row in bits]}
            echo(json.dumps(about | figures, ensure_ascii=False))
            return
        sizes = ", ".join(f"{len(examples)} {name.replace('_', ' ')}" for name, examples in vars(tests).items())
        out.print(f"percent right, falsely refused, and refused, of {sizes}", style="dim")
        out.print(_table(rows, hidden={"by_task"}))
        out.print(_table([{"system": row.system} | row.by_task for row in rows]))
        if bits:
            out.print(_table(bits))


def _table(rows: list, hidden: frozenset[str] | set[str] = frozenset()) -> Table:
    """Rows that are dataclasses or dictionaries, as a table."""
    dicts = [row if isinstance(row, dict) else vars(row) for row in rows]
    names = [name for name in dicts[0] if name not in hidden]
    table = Table(*(name.replace("_", " ") for name in names), box=None, header_style="bold")
    for row in dicts:
        table.add_row(*(f"{row[name]:.1f}" if isinstance(row[name], float) else str(row[name]) for name in names))
    return table


@app.command()
def sensitivity(
    tasks: Annotated[list[str], typer.Argument(help="Single tasks, such as gr asr.")],
    wordings: Annotated[int, typer.Option(min=2, help="At most so many wordings of each kind.")] = 20,
    clips: Annotated[int, typer.Option(min=1, help="At most so many clips a task.")] = 50,
    model: ModelOption = "pocket",
    data: DataOption = None,
    split: Annotated[str, typer.Option(help="Split of the manifest.")] = "test",
    picture: Annotated[Path | None, typer.Option(help="Draw the spread into this .png or .svg.")] = None,
    predictor: PredictorOption = None,
    bank: BankOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure how a task's score moves with the words that ask for it: prompted, masked, and by predicted bits."""
    with one_line_errors():
        from dataclasses import asdict

        from ..data.manifest import Manifest
        from ..data.tasks import parse_task
        from ..errors import DataError
        from ..evaluation.harness import clips_for
        from ..evaluation.sensitivity import CONDITIONS, measure_sensitivity, save_sensitivity_plot
        from ..predictor.router import InstructionRouter
        from ..predictor.wordings import read_wordings
        from ..serving.pipeline import default_masks

        if picture is not None and picture.suffix not in (".png", ".svg"):
            raise DataError(f"--picture {picture}: expected a name that ends in .png or .svg")
        for name in tasks:
            if name not in read_wordings().tasks:
                raise DataError(
                    f"{name}: wordings to compare are there for single tasks of amask's own: {', '.join(read_wordings().tasks)}"
                )
        opened, manifest, loaded = open_predictor(predictor, bank), open_data(data), open_model(model, device)
        masks = default_masks(open_bank(bank), loaded.identity)
        router, rows = InstructionRouter(opened, masks), []
        for name in tasks:
            task = parse_task(name, router.tasks)
            found = clips_for(task, manifest, split)
            chosen = Manifest(found.clips[:clips], found.folder)
            features = encode_clips(loaded, chosen)
            for seen, said in wordings_of(task, wordings).items():
                for how in CONDITIONS:
                    with progress(f"{name} by {how}", len(said)) as on_progress:
                        rows.append(measure_sensitivity(loaded, router, features, chosen, task, said, how, seen, on_progress))
        if as_json:
            echo(json.dumps([asdict(row) for row in rows], ensure_ascii=False))
        else:
            out.print(_table(rows, hidden={"values"}))
        if picture:
            save_sensitivity_plot(rows, picture)


def wordings_of(task: "TaskSpec", most: int) -> dict[bool, list[str]]:
    """Wordings that the model may have been trained with, and those that nothing was."""
    from ..data.wordings import wordings
    from ..predictor.wordings import read_wordings

    held_out = read_wordings().tasks[task.names[0]].held_out
    return {True: wordings(task)[:most], False: list(held_out[:most])}
