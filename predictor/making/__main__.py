"""Make the encoder that comes with amask: `python -m amask.predictor.making TEACHER PAIRS [--out FOLDER]`.

TEACHER is a folder or Hub id of sentence-transformers/all-MiniLM-L6-v2, PAIRS a file of English-German sentences, a pair a
line with a tab between. The same arguments and requests give the same files.
"""

import argparse
import sys
import time
from pathlib import Path

from ..encoder import EMBEDDED
from .distil import distil


def _log(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def main() -> None:
    """Read the command line and make the encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", help="folder or Hub id")
    parser.add_argument("pairs", type=Path, help="English TAB German, a pair a line")
    parser.add_argument("--out", type=Path, default=EMBEDDED, help="where the encoder goes; into the package by default")
    given = parser.parse_args()
    distil(given.teacher, given.pairs, given.out, log=_log)


if __name__ == "__main__":
    main()
