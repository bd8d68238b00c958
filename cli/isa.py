"""`amask eval isa [FOLDER]`: ISA-Bench's instructions, or others in its layout, by mask and by prompt."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from .common import err, out, progress
from .output_encoding import echo

if TYPE_CHECKING:
    from ..data.manifest import Manifest
    from ..serving.pipeline import Pipeline

RADAR = "radar.png"


def evaluate_isa(
    folder: Path | None, pipeline: "Pipeline", data: "Manifest", limit: int | None, into: Path, as_json: bool
) -> None:
    """Measure instructions by mask and by prompt on the same clips, or score the answers that a folder has.

    Args:
        folder: instructions such as `aac_d.json`, or answers such as `d_aac_results.json`; None for amask's own instructions,
            which go to `instructions` in `into`.
        pipeline: the model, its masks and predictor; only loaded for instructions.
        data: clips with labels.
        limit: at most so many items of a file.
        into: the folder for answers, scores and the radar.
        as_json: print the scores as JSON.
    """
    from ..data.atomic_write import write_atomic
    from ..evaluation import isa
    from ..evaluation.isa_instructions import write_instructions
    from ..evaluation.isa_scores import read_folder

    if folder is None:
        folder = into / "instructions"
        write_instructions(folder)
    if any(folder.glob("[dfn]_*_results.json")):
        systems = {"answers": read_folder(folder)}
    else:
        instructions = isa.read_instructions(folder, limit)
        systems = {}
        for condition in isa.CONDITIONS:
            with progress(condition, len(instructions)) as on_progress:
                systems[condition] = isa.answer_instructions(pipeline, instructions, data, condition, on_progress)
            isa.save_answers(systems[condition], into / f"{condition}.jsonl")
    found = isa.summarise(systems)
    write_atomic(json.dumps(found, ensure_ascii=False, indent=1).encode(), into / "scores.json", parents=True)
    isa.save_radar({name: about["ifr"] for name, about in found.items()}, into / RADAR)
    if as_json:
        echo(json.dumps(found, ensure_ascii=False))
    else:
        out.print(_table(found))
    err.print(f"amask: answers, scores and {RADAR} are in {into}", style="dim", markup=False)


def _table(found: dict[str, Any]) -> Table:
    """IFR of each kind of variation, a column a system, and the areas of the radar."""
    table = Table("IFR in percent", *found, box=None, header_style="bold")
    for arm in dict.fromkeys(arm for about in found.values() for arm in about["ifr"]):
        table.add_row(arm, *(f"{about['ifr'].get(arm, 0.0):.1f}" for about in found.values()))
    table.add_row("area of the radar", *(f"{about['area']:.1f}" for about in found.values()))
    return table
