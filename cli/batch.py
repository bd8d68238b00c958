"""`amask batch`: many clips into Parquet, resumable."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import (
    BankOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    NewTokensOption,
    TasksOption,
    note,
    one_line_errors,
    open_pipeline,
    print_json,
    progress,
)
from .run import LONG, TASK, show_route

RAY = "Answer on a Ray cluster at this address, one worker a GPU; local starts one on this machine."
WORKERS = "With --ray: how many workers answer; one a GPU by default, or where there is none, one for two cores."
SOURCE = "Clips: a manifest, a folder of clips, a Parquet file, or a folder of them."


def batch(
    source: Annotated[Path, typer.Argument(metavar="IN", help=SOURCE)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of Parquet parts; what is in it is not answered again.")],
    task: Annotated[str | None, typer.Option(help=TASK)] = None,
    mask: Annotated[str | None, typer.Option(help="A mask: NAME, NAME@VERSION, or a .safetensors file.")] = None,
    instruction: Annotated[str | None, typer.Option(help="What to do, in words; a mask that does it is chosen.")] = None,
    prompt: Annotated[str | None, typer.Option(help="For comparison: give the model this prompt, and no mask.")] = None,
    model: ModelOption = "pocket",
    bank: BankOption = None,
    tasks: TasksOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    batch_size: Annotated[int, typer.Option("--batch", min=1, help="Clips at once.")] = 16,
    part_rows: Annotated[int, typer.Option(min=1, help="Rows of a part; what is in a part survives a kill.")] = 256,
    long: Annotated[str, typer.Option(help=LONG, metavar="[refuse|trim|split]")] = "split",
    max_new_tokens: NewTokensOption = 200,
    ray: Annotated[str | None, typer.Option(help=RAY, metavar="ADDRESS|local")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help=WORKERS)] = None,
    as_json: JsonOption = False,
) -> None:
    """Answer many clips into a folder of Parquet parts. Stopped or killed and started again, it goes on where it was.

    A clip that cannot be answered is a row with its error. A row keeps the id of its clip: the column `id` of Parquet, else a
    hash of path and content.
    """
    with one_line_errors():
        from ..serving.batch import batch as answer_batch
        from ..serving.routing import Request

        request = Request(instruction=instruction, task=task, mask=mask, prompt=prompt)
        options: dict[str, Any] = {"batch": batch_size, "max_new_tokens": max_new_tokens, "long": long}
        pipe = open_pipeline(model, bank, device, dtype, tasks)
        route = pipe.choose(request)
        show_route(route, False)
        with progress("answering", 0) as tell:
            done = answer_batch(
                source, out, route=route, model=pipe, part_rows=part_rows, ray=ray, workers=workers, on_progress=tell, **options
            )
        if as_json:
            print_json({"answered": done.answered, "failed": done.failed, "skipped": done.skipped, "out": str(out)})
        else:
            note(f"{done.answered} answered into {out}, {done.failed} of them with an error; {done.skipped} were there before")
