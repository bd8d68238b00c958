"""Make all that ships with the pocket model: `python -m amask.pocket FOLDER --shared FOLDER [--until STAGE] [--ship]`.

Stages: corpus, features, language, masks, predictor. Each runs only when its settings (`making.toml`, `masks.toml`)
or an earlier stage's result have changed; a run that was stopped goes on when the same command is given again. Needs espeak-ng
and flite, some 4 GB of disk, and about three hours on two cores.
"""

import argparse
import sys
import time
import tomllib
from pathlib import Path

import torch

from . import HERE

if not (HERE / "making").is_dir():
    sys.exit("amask.pocket: an installed amask has the pocket model, but not its making; run this in a clone of the repository")

from .making.make import Making
from .making.ship import ship
from .making.stages import run_stages

STAGES = ("corpus", "features", "language", "masks", "predictor")


def _log(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def main() -> None:
    """Read the command line and make what it asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m amask.pocket", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where everything is kept")
    parser.add_argument("--shared", type=Path, help="folder of the sets of recordings; without it all is synthetic")
    parser.add_argument("--whisper", default="openai/whisper-tiny.en", help="Hub id or folder of an English-only Whisper")
    parser.add_argument("--until", default=STAGES[-1], choices=STAGES, help="the last stage to run")
    parser.add_argument("--ship", action="store_true", help="put the results into the package")
    given = parser.parse_args()
    settings, plan = (tomllib.loads((HERE / name).read_text(encoding="utf-8")) for name in ("making.toml", "masks.toml"))
    torch.set_num_threads(settings["threads"])
    making = Making(given.folder, settings, plan, given.shared, given.whisper, _log)
    run_stages(making.stages(), given.folder, _log, given.until)
    if given.ship:
        ship(given.folder, _log)


if __name__ == "__main__":
    main()
