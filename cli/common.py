"""What the commands share: consoles, errors as one line, loading, progress. Heavy imports happen inside functions."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, runtime_checkable

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from ..errors import AmaskError
from .output_encoding import echo

if TYPE_CHECKING:
    from rich.table import Table

    from ..data.manifest import Manifest
    from ..lalm.base import LALM
    from ..lalm.clip_features import ClipFeatures
    from ..mask_bank.bank import MaskBank
    from ..mask_bank.defaults import Added
    from ..serving.pipeline import Pipeline

STOPPED = 130  # exit status after Ctrl-C, as shells have it
# What torch, torch-npu and the linker say, where they raise another error than ImportError.
UNLOADABLE = ("load the backend extension", "Two accelerators cannot", "shared object file", "undefined symbol")

# What is printed holds names and paths of the user's: "[bold]" and ":cat:" in them are letters.
_PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}
NOISY = r"(torch|transformers|huggingface_hub|tokenizers)(\.|$)"  # their warnings are for developers
out = Console(**_PLAIN)
err = Console(stderr=True, **_PLAIN)

ModelOption = Annotated[str, typer.Option("--model", help="pocket, a local folder, or a Hub id.")]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1, npu; map spreads a model over all cards, with accelerate.")
]
DtypeOption = Annotated[
    str, typer.Option(help="float32, bfloat16, float16; auto: float32 on the CPU, the checkpoint's own elsewhere.")
]
NewTokensOption = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Tokens after which an answer is cut.")]
TasksOption = Annotated[Path | None, typer.Option("--tasks", help="TOML file that defines tasks of your own.")]
BankOption = Annotated[Path | None, typer.Option("--bank", help="Folder of your masks; AMASK_BANK by default.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Manifest (.jsonl, or the AHAMask authors' .json), folder of clips, or hf:DATASET.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Pure JSON on stdout.")]
SparsityOption = Annotated[float | None, typer.Option(help="λ of the penalty on heads that are on; the recipe's by default.")]
StepsOption = Annotated[int | None, typer.Option(help="Training steps; the recipe's by default.")]
TrimOption = Annotated[bool, typer.Option("--trim", help="Use the beginning of clips that are too long.")]
SkipOption = Annotated[bool, typer.Option("--skip-bad", help="Leave out clips that cannot be used, and say how many.")]
BatchOption = Annotated[int | None, typer.Option(help="Rows a step for each mask.")]


def note(line: str) -> None:
    """Say on stderr what is done."""
    err.print(f"amask: {line}", style="dim", markup=False)


def warn(line: str) -> None:
    """Say on stderr what a user should look at."""
    err.print(f"amask: {' '.join(line.split())}", style="yellow", markup=False)


def fail(line: str) -> None:
    """Say on stderr what failed, in one line."""
    err.print(f"amask: {' '.join(line.split())}", style="red", markup=False)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print amask's own errors, and libraries that cannot be loaded, as one line and exit with 1; Ctrl-C exits with 130."""
    try:
        yield
    except AmaskError as error:
        fail(str(error))
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        err.print("amask: stopped")
        raise typer.Exit(STOPPED) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(0) from None
    except (ImportError, OSError, RuntimeError) as error:
        if not _is_unloadable(error):
            raise
        from ..data.extras import EXTRAS
        from ..doctor import root_cause

        library = (getattr(error, "name", None) or "").partition(".")[0]
        if library in EXTRAS:
            fail(f"this needs {library}, which is not installed; pip install 'amask[{EXTRAS[library]}]'")
            raise typer.Exit(1) from None
        reason = f"a library cannot be loaded ({root_cause(error)})"
        err.print(f"amask: {reason}; 'amask doctor' says what to do", style="red", markup=False)
        raise typer.Exit(1) from None


def _is_unloadable(error: Exception) -> bool:
    """Whether loading a library failed, rather than anything else; torch wraps a backend's failure in a RuntimeError."""
    if isinstance(error, ImportError):
        return (error.name or "").partition(".")[0] != "amask"  # a fault of amask itself is shown with its traceback
    return any(words in str(error) for words in UNLOADABLE)


def open_bank(folder: Path | None) -> "MaskBank":
    """The user's bank, with the bundled one behind it; damaged masks that are passed over are named on stderr, once each."""
    from ..mask_bank.bank import BUNDLED, MaskBank, default_folder

    warned = set()

    def warn(message: str) -> None:
        if message not in warned:
            warned.add(message)
            err.print(f"amask: {message}", style="yellow", markup=False)

    return MaskBank(folder or default_folder(), BUNDLED, warn)


def open_model(name: str, device: str, dtype: str | None = "auto") -> "LALM":
    """Load a model, quietly; what is wrong with the device or the dtype is said before transformers is imported."""
    import logging
    import os
    import warnings

    from ..lalm.devices import choose_placement

    placement = choose_placement(device, dtype)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", module=NOISY)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    from ..lalm.registry import load_model

    transformers_logging.disable_progress_bar()
    return load_model(name, device, placement.dtype)


def open_pipeline(
    model: str,
    bank: Path | None,
    device: str = "auto",
    dtype: str = "auto",
    tasks: Path | None = None,
    predictor: Path | None = None,
) -> "Pipeline":
    """A pipeline that loads its model when it is needed; what is wrong with the device or the dtype is said at once."""
    from ..lalm.devices import choose_placement
    from ..serving.pipeline import Pipeline

    choose_placement(device, dtype)
    return Pipeline(model, open_bank(bank), predictor, device=device, dtype=dtype, tasks=tasks, load=open_model)


def open_data(manifest: Path | None) -> "Manifest":
    """The manifest given, or the slice of the pocket corpus that comes with amask."""
    from ..data.reading import read_manifest
    from ..pocket import SLICE

    return read_manifest(manifest or SLICE)


@runtime_checkable
class ProgressFn(Protocol):
    """Says how far something is."""

    def __call__(self, done: int, note: str = "", *, line: str = "", total: int | None = None) -> None:
        """Args: how much is done, what to show behind the bar, what to print where there is no bar, and of how much."""


class _RateColumn(ProgressColumn):
    """`12.3/s`."""

    def render(self, task: Task) -> Text:
        """How many a second."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


@contextmanager
def progress(words: str, total: int, *, quiet: bool = False) -> "Iterator[ProgressFn]":
    """A progress bar on stderr; yields a function that is given how far it is and what to show behind it; or none, if quiet.

    The note behind the bar is cut where the terminal ends. Where stderr is no terminal (a log file), every tenth of the way
    is a line instead.
    """
    if quiet:
        yield lambda *_, **__: None
        return
    if not err.is_terminal:
        yield _tenths(words, total)
        return
    note_column = TextColumn("{task.fields[note]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
    counts = (MofNCompleteColumn(), _RateColumn(), TimeRemainingColumn())
    columns = (TextColumn("{task.description}", markup=False), BarColumn(20), *counts, note_column)
    with Progress(*columns, console=err, transient=True, expand=True) as bar:
        task, told = bar.add_task(words, total=total, note=""), False

        def tell(done: int, note: str = "", *, line: str = "", total: int | None = None) -> None:
            nonlocal told
            if not told:  # what was there before is no progress of this run
                bar.reset(task, completed=done)
            told = True
            bar.update(task, completed=done, note=note, total=total)

        yield tell


def _tenths(words: str, whole: int) -> ProgressFn:
    shown = 0
    first: tuple[int, float] | None = None  # what was there when it was told first, and when that was

    def tell(done: int, note: str = "", *, line: str = "", total: int | None = None) -> None:
        nonlocal shown, first
        now, all_of_it = time.monotonic(), whole if total is None else total
        before, begun = first = first or (done, now)
        if all_of_it < 10 or done * 10 // all_of_it <= shown:
            return
        shown, speed = done * 10 // all_of_it, ""
        if done > before:
            rate = (done - before) / max(now - begun, 1e-9)
            speed = f", {rate:.1f}/s, {timedelta(seconds=round((all_of_it - done) / rate))} left"
        err.print(f"{words} {done}/{all_of_it}{speed}  {line or note}".rstrip(), markup=False)

    return tell


def encode_clips(model: "LALM", manifest: "Manifest", *, trim: bool = False, skip_bad: bool = False) -> "ClipFeatures":
    """Features of the clips of a manifest, once all are known to be readable; what is left out is said."""
    from ..lalm.clip_features import checked_features

    with progress("checking clips", len(manifest)) as tell:
        features, bad = checked_features(model, manifest, trim=trim, skip_bad=skip_bad, on_progress=lambda done, _: tell(done))
    if bad:
        err.print(f"amask: {len(bad)} of {len(manifest)} clips left out; the first: {bad[0]}", style="yellow", markup=False)
    return features


def print_table(table: "Table") -> None:
    """Print a table as wide as it is: names are never cut, and what is piped does not depend on a terminal."""
    width = out.measure(table, options=out.options.update(max_width=10_000)).maximum
    Console(**_PLAIN, width=max(width, out.width)).print(table)


def print_json(value: object) -> None:
    """Print a value on stdout as JSON in one line, whatever the terminal: no colours, no folding."""
    echo(json.dumps(value, ensure_ascii=False))


def read_keys(text: str) -> tuple[str, ...]:
    """The names of `--keys`, with commas between."""
    from ..errors import DataError

    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if not all(names):
        raise DataError(f"--keys {text}: a name is empty; write them like gender,text")
    return names


def print_added(added: "Sequence[Added]", as_json: bool, more: "Mapping[str, object] | None" = None) -> None:
    """Tell of masks just stored: a line each, as JSON with `more`, and on stderr whether it is now what its name stands for."""
    from ..mask_bank.defaults import dev_figure
    from ..mask_bank.files import describe

    for each in added:
        mask = each.stored
        if as_json:
            print_json(describe(mask) | {"default": each.default} | dict(more or {}))
        else:
            score = f", dev {figure}" if (figure := dev_figure(mask)) else ""
            seed = f" (seed {mask.lineage['seed']})" if "seed" in mask.lineage else ""
            out.print(f"{mask.spec}{seed}: {mask.heads_on} of {mask.heads_total} heads on{score}")
        if each.note:
            err.print(f"amask: {each.note}", style=None if each.default else "yellow", markup=False)
