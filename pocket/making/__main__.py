"""Make the pocket model: `python -m amask.pocket.making FOLDER [--speechocean FOLDER] [--ship]`.

Needs espeak-ng and flite, some 6 GB of disk, and two to four hours on two cores. Everything is seeded by `config.toml`;
a run that was stopped goes on from its last checkpoint when the same command is given again.
"""

import argparse
import sys
import time
import tomllib
from importlib.resources import files
from pathlib import Path

import torch

from ...data.manifest import Manifest
from ...data.reading import read_manifest
from .. import SLICE, WEIGHTS
from ..architecture import build_model, build_processor, train_tokenizer
from ..corpus.clips import REAL, make_corpus
from ..corpus.shipping import make_slice
from . import stages
from .language import train_language
from .lessons import all_texts
from .save import save_pocket


def _log(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def _corpus(folder: Path, settings: dict, speechocean: Path | None) -> Manifest:
    if not (folder / "manifest.jsonl").exists():
        sizes = settings["corpus"]
        if speechocean is None:
            sizes = {split: {kind: n for kind, n in kinds.items() if kind not in REAL} for split, kinds in sizes.items()}
        for number, _ in enumerate(make_corpus(folder, sizes, settings["seed"], speechocean), 1):
            if number % 1000 == 0:
                _log(f"corpus: {number} clips")
    return read_manifest(folder)


def make(folder: Path, speechocean: Path | None, settings: dict) -> None:
    """All stages, each from where an earlier run stopped; the result lies in `folder/weights`."""
    seed = settings["seed"]
    torch.set_num_threads(settings["threads"])
    manifest = _corpus(folder / "corpus", settings, speechocean)
    clips = list(manifest)
    tokenizer = train_tokenizer(all_texts(clips), settings["language"]["vocabulary"])
    torch.manual_seed(seed)
    model = build_model(tokenizer)
    tower = model.model.audio_tower
    mels = stages.mel_store(folder / "mels.npz", manifest, build_processor(tokenizer).feature_extractor)
    stages.train_encoder(tower, mels, clips, settings["encoder"], seed, folder, _log)
    features = stages.feature_store(folder / "features.npz", tower, mels, manifest)
    torch.manual_seed(seed)
    train_language(model, tokenizer, features, clips, settings["language"], seed, folder, _log)
    save_pocket(model, tokenizer, folder / "weights")


def main() -> None:
    """Read the command line and make the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where everything is kept")
    parser.add_argument("--speechocean", type=Path, help="folder of speechocean762 with its manifest.jsonl")
    parser.add_argument("--ship", action="store_true", help="put weights and slice into the package")
    given = parser.parse_args()
    settings = tomllib.loads(files(__package__).joinpath("config.toml").read_text(encoding="utf-8"))
    make(given.folder, given.speechocean, settings)
    if given.ship:
        WEIGHTS.mkdir(exist_ok=True)
        for path in (given.folder / "weights").iterdir():
            (WEIGHTS / path.name).write_bytes(path.read_bytes())
        make_slice(read_manifest(given.folder / "corpus"), SLICE)


if __name__ == "__main__":
    main()
