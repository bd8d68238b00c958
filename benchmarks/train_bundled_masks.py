"""Train the masks of the bundled bank on the pocket corpus.

`python benchmarks/train_bundled_masks.py CORPUS BANK TASK… [--steps N]`

CORPUS is the folder that `python -m amask.lalm.pocket.making` made; a part of it that a laptop can hold becomes the
manifest `masks.jsonl` there, and the rest is `amask bank train`.
"""

import subprocess
import sys
from pathlib import Path

from amask.data.manifest import read_manifest, write_manifest

SIZES = {"speech": 3000, "scene": 800, "pair": 500, "overlap": 600, "real": 1500}


def main(corpus: Path, bank: Path, tasks: list[str]) -> int:
    """Write the manifest and train."""
    clips = list(read_manifest(corpus))
    chosen = [clip for clip in clips if clip.split == "dev"]
    for kind, count in SIZES.items():
        chosen += [clip for clip in clips if clip.split == "train" and clip.kind == kind][:count]
    manifest = corpus / "masks.jsonl"
    write_manifest(chosen, manifest)
    command = ["amask", "bank", "train", "--batch", "12", *tasks, "--data", str(manifest), "--bank", str(bank)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
