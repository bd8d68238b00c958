"""Putting what was made into the package: weights, the slice of the corpus, the bundled masks and the predictor."""

from pathlib import Path

from ...data.atomic_write import write_atomic
from ...data.reading import read_manifest
from ...errors import DataError
from ...mask_bank.bank import BUNDLED
from ...predictor.predictor import SHIPPED
from .. import SLICE, WEIGHTS
from ..corpus.shipping import make_slice
from .loop import Log
from .masks import load_made
from .scoring import score_masks


def ship(
    folder: Path, log: Log, weights: Path = WEIGHTS, slice_folder: Path = SLICE, bank: Path = BUNDLED, predictor: Path = SHIPPED
) -> None:
    """Put the results of the making into the package, and score the masks on the slice that is there then.

    The card, the slice's tasks and other files stay as they are.

    Args:
        folder: of the making, all of whose stages have run.
        log: told what was put where.
        weights: where the model ships.
        slice_folder: where the slice ships.
        bank: where masks ship; masks of the model before are removed.
        predictor: where the predictor ships.

    Raises:
        DataError: a stage has not been finished.
    """
    for stage in ("corpus", "language", "masks", "predictor"):
        if not (folder / stage / "done.stamp").exists():
            raise DataError(f"{folder} has no finished stage {stage!r}; run the making without --until before --ship")
    for path in sorted((folder / "language" / "weights").iterdir()):
        write_atomic(path.read_bytes(), weights / path.name, parents=True)
    masks = sorted((folder / "masks").glob("*.safetensors"))
    for old in bank.glob("*/*.safetensors"):
        old.unlink()
    for path in masks:
        write_atomic(path.read_bytes(), bank / path.stem / "1.safetensors", parents=True)
    write_atomic((folder / "predictor" / SHIPPED.name).read_bytes(), predictor, parents=True)
    make_slice(read_manifest(folder / "corpus"), slice_folder)
    score_masks(load_made(weights), bank, read_manifest(slice_folder), log)
    log(f"ship: weights in {weights}, {len(masks)} masks in {bank}, the slice in {slice_folder}")
