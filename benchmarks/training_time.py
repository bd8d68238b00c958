"""How long `amask bank train gr` takes: with features to be made and with features kept, alone and beside a busy process.

`python benchmarks/training_time.py [--steps 20]`

Each line is the command as a process of its own, from start to end. The busy process counts, on one core.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path


@contextmanager
def busy() -> Iterator[None]:
    """A process that takes all it can get of one core."""
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


def train(steps: int, folder: Path, settings: dict[str, str]) -> float:
    """Seconds that a training takes, with its cache in a folder."""
    command = [sys.executable, "-P", "-m", "amask", "bank", "train", "gr", "--steps", str(steps), "--json"]
    with tempfile.TemporaryDirectory() as bank:
        environment = os.environ | {"AMASK_CACHE": str(folder), "AMASK_BANK": bank} | settings
        started = time.monotonic()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return time.monotonic() - started


def main(steps: int) -> None:
    """One line for each case."""
    spin = {"OMP_WAIT_POLICY": "ACTIVE"}
    cases = [
        ("features to be made, alone", nullcontext(), {}),
        ("features kept, alone", nullcontext(), {}),
        ("features kept, beside a busy process", busy(), {}),
        ("the same, threads spin while they wait (OMP_WAIT_POLICY=ACTIVE)", busy(), spin),
        ("features kept, alone, threads spin", nullcontext(), spin),
    ]
    print(f"| bank train gr --steps {steps} | seconds | load before |", "|---|---|---|", sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        for words, neighbour, settings in cases:
            load = os.getloadavg()[0]
            with neighbour:
                seconds = train(steps, Path(folder), settings)
            print(f"| {words} | {seconds:.1f} | {load:.1f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    main(parser.parse_args().steps)
