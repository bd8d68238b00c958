"""The pocket model trained some steps further, to see what becomes of its masks: `python benchmarks/train_further.py MAKING OUT`.

MAKING is the folder of `python -m amask.pocket`, with its corpus, features and language model; OUT becomes a model's folder for
`amask report pocket --tables transfer --to OUT`. Rates, kinds and answers are those of the making; seed, steps and the highest
rate are not. The masks stay what they were.
"""

import argparse
import sys
import tomllib
from functools import partial
from pathlib import Path

import torch

from amask.data.reading import read_manifest
from amask.pocket import HERE
from amask.pocket.architecture import build_extractor
from amask.pocket.making.construct import construct
from amask.pocket.making.encoder import early_states, load_whisper, start_encoder
from amask.pocket.making.language import train_language
from amask.pocket.making.masks import load_made
from amask.pocket.making.rates import learning_rates
from amask.pocket.making.save import save_pocket
from amask.pocket.making.store import build_store
from amask.pocket.making.whisper_decoder import DecoderShape


def main(options: argparse.Namespace) -> None:
    """Train and save."""
    torch.set_num_threads(options.threads)
    settings = tomllib.loads((HERE / "making.toml").read_text(encoding="utf-8"))
    manifest = read_manifest(options.making / "corpus")
    clips = list(manifest)

    def log(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    compute = partial(early_states, start_encoder(load_whisper(options.whisper)), extractor=build_extractor())
    store = build_store(options.making / "features", manifest, compute, log)
    made = load_made(options.making / "language" / "weights")
    fresh = construct(options.whisper, DecoderShape(**settings["shape"]), store, clips)
    rates = learning_rates(fresh.builder, settings["language"]["fresh"])
    changed = settings["language"] | {"steps": options.steps, "warmup": 5, "peak": options.peak}
    options.out.mkdir(parents=True, exist_ok=True)
    train_language(made.model, rates, made.tokenizer, store, clips, changed, options.seed, options.out / "checkpoint.pt", log)
    save_pocket(made.model, made.tokenizer, options.out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("making", metavar="MAKING", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--whisper", default="openai/whisper-tiny.en", help="the Whisper checkpoint that the model is made of")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--peak", type=float, default=2e-5)
    parser.add_argument("--seed", type=int, default=99)
    parser.add_argument("--threads", type=int, default=2)
    main(parser.parse_args())
