"""Everyday English sentences outside the grammar, some with a German translation: Tatoeba, where its folder is present."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...data.manifest import Split
from ...errors import DataError
from .grammar import Sentence, split_of

LONGEST = 7  # words; longer sentences take the place of many short ones


def plain(text: str) -> str:
    """Lower case, words and apostrophes only: "I'm glad, Tom!" → "i'm glad tom"."""
    return " ".join(re.sub(r"[^\w' ]", " ", text.lower().replace("’", "'").replace("_", " ")).split())


def read_tatoeba(folder: Path) -> dict[Split, tuple[Sentence, ...]]:
    """The short sentences of `pairs.tsv` and `english.txt` by split; German is "" where there is no translation.

    Raises:
        DataError: one of the files cannot be read.
    """
    found: dict[Split, list[Sentence]] = {"train": [], "dev": [], "test": []}
    for name in ("pairs.tsv", "english.txt"):
        try:
            lines = (folder / name).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise DataError(f"cannot read {folder / name}: {error.strerror}") from None
        for line in lines:
            english, _, german = line.partition("\t")
            sentence = Sentence(plain(english), plain(german))
            if 1 < len(sentence.english.split()) <= LONGEST and not re.search(r"\d", line):
                found[split_of(sentence.english)].append(sentence)
    return {split: tuple(sentences) for split, sentences in found.items()}


def draw_open(rng: np.random.Generator, sentences: Sequence[Sentence]) -> Sentence:
    """One of some sentences; three in four of those drawn have a translation."""
    while True:
        sentence = sentences[int(rng.integers(len(sentences)))]
        if sentence.german or rng.random() < 0.25:
            return sentence
