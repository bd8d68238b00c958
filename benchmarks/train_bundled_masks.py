"""Train the masks of the bundled bank on the pocket corpus, as `bundled_masks.toml` beside this file says.

`python benchmarks/train_bundled_masks.py CORPUS BANK [TRAINING…] [--bundle]`

CORPUS is the folder `FOLDER/corpus` that `python -m amask.pocket.making FOLDER` made; a training's clips are written
to `masks-TRAINING.jsonl` there, and its masks go to BANK. A training takes 5 to 15 minutes on one core
(OMP_NUM_THREADS=1); one that was killed goes on where it was when it is named again, one that was finished begins anew.
"""

import argparse
import tomllib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from amask.cli.common import open_bank, report
from amask.cli.training import train_masks
from amask.data.manifest import Clip, Manifest, write_manifest
from amask.data.reading import read_manifest
from amask.mask_bank.bank import BUNDLED
from amask.mask_bank.files import save_mask
from amask.mask_bank.recipe import Recipe

PLAN = tomllib.loads(Path(__file__).with_name("bundled_masks.toml").read_text(encoding="utf-8"))


def take(
    corpus: Manifest, split: str, kind: str, count: int, label: str = "", words: tuple[int, int] = (0, 100)
) -> Iterator[Clip]:
    """The first clips of a split and a kind that have a label, and in which as few or as many words are said as `words` has."""
    fewest, most = words
    fitting = (clip for clip in corpus.select(split, [label] if label else []) if clip.kind == kind)
    return islice((clip for clip in fitting if fewest <= len(clip.labels.get("asr", "").split()) <= most), count)


def main(folder: Path, bank_folder: Path, trainings: list[str], bundle: bool) -> None:
    """Train one after the other."""
    corpus, bank = read_manifest(folder), open_bank(bank_folder)
    for name in trainings:
        plan = PLAN[name]
        manifest = folder / f"masks-{name}.jsonl"
        clips = [clip for split in ("dev", "train") for some in plan[split] for clip in take(corpus, split, **some)]
        write_manifest(clips, manifest)
        recipe = Recipe.model_validate(plan["recipe"])
        added = train_masks(plan["tasks"], [1], recipe, "pocket", manifest, None, None, bank, "cpu")
        report(added, as_json=False)
        for each in [each.stored for each in added] if bundle else []:
            save_mask(each, each.name, 1, BUNDLED / each.name / "1.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", metavar="CORPUS", type=Path)
    parser.add_argument("bank", metavar="BANK", type=Path)
    parser.add_argument("trainings", metavar="TRAINING", nargs="*", default=list(PLAN), help=", ".join(PLAN))
    parser.add_argument("--bundle", action="store_true", help="then put the masks into the bundled bank, as version 1")
    given = parser.parse_args()
    main(given.corpus, given.bank, given.trainings, given.bundle)
