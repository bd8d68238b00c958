"""Train the masks of the bundled bank on the pocket corpus.

`python benchmarks/train_bundled_masks.py CORPUS BANK TASK… [--steps N]`

CORPUS is the folder `FOLDER/corpus` that `python -m amask.lalm.pocket.making FOLDER` made; a part of it that a laptop
can hold becomes the manifest `masks.jsonl` there. The rest is `amask bank train`, which gets other options as they are.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from amask.data.manifest import read_manifest, write_manifest
from amask.data.tasks import parse_task

SIZES = {"speech": 3000, "scene": 800, "pair": 500, "overlap": 600, "real": 1500}


def main(corpus: Path, bank: Path, tasks: list[str], kinds: list[str], options: list[str]) -> int:
    """Write the manifest and train."""
    specs = [parse_task(task) for task in tasks]
    useful = (clip for clip in read_manifest(corpus) if not kinds or clip.kind in kinds)
    clips = [clip for clip in useful if any(set(spec.parts) <= clip.labels.keys() for spec in specs)]
    chosen = [clip for clip in clips if clip.split == "dev"]
    for kind, count in SIZES.items():
        chosen += [clip for clip in clips if clip.split == "train" and clip.kind == kind][:count]
    manifest = corpus / "masks.jsonl"
    write_manifest(chosen, manifest)
    command = [sys.executable, "-P", "-m", "amask", "bank", "train", "--batch", "12", *tasks, *options]
    return subprocess.run([*command, "--data", str(manifest), "--bank", str(bank)], check=False).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", metavar="CORPUS", type=Path)
    parser.add_argument("bank", metavar="BANK", type=Path)
    parser.add_argument("tasks", metavar="TASK", nargs="+")
    parser.add_argument("--kinds", nargs="+", default=[], help="only clips of these kinds, such as scene for aac")
    given, options = parser.parse_known_args()
    sys.exit(main(given.corpus, given.bank, given.tasks, given.kinds, options))
