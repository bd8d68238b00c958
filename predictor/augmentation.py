"""How people write: typos, capitals, politeness, punctuation that is lost or added."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEAR = {key: row[max(0, at - 1) : at] + row[at + 1 : at + 2] for row in KEYS for at, key in enumerate(row)}


def add_typo(text: str, rng: np.random.Generator) -> str:
    """One slip in one longer word: two letters swapped, one lost, doubled, or hit on the next key."""
    words = text.split(" ")
    parts = [re.split(r"(\w+)", word, maxsplit=1) for word in words]
    long = [at for at, part in enumerate(parts) if len(part) == 3 and len(part[1]) > 3 and part[1].isalpha()]
    if not long:
        return text
    at = long[int(rng.integers(len(long)))]
    before, word, after = parts[at]
    place = int(rng.integers(1, len(word)))
    match int(rng.integers(4)):
        case 0:
            word = word[: place - 1] + word[place] + word[place - 1] + word[place + 1 :]
        case 1:
            word = word[:place] + word[place + 1 :]
        case 2:
            word = word[:place] + word[place] + word[place:]
        case _:
            near = _NEAR.get(word[place].lower()) or word[place]
            word = word[:place] + near[int(rng.integers(len(near)))] + word[place + 1 :]
    words[at] = before + word + after
    return " ".join(words)


def augment(text: str, rng: np.random.Generator, affixes: Mapping[str, Sequence[str]]) -> str:
    """A request as it may be typed.

    Args:
        text: the request.
        rng: decides what happens to it.
        affixes: "before" and "after" are words to put there.
    """
    if rng.random() < 0.12:
        text = f"{affixes['before'][int(rng.integers(len(affixes['before'])))]} {text}"
    if rng.random() < 0.12:
        text = f"{text.rstrip('.?!')} {affixes['after'][int(rng.integers(len(affixes['after'])))]}"
    for prob in (0.22, 0.06):
        if rng.random() < prob:
            text = add_typo(text, rng)
    if rng.random() < 0.05:  # somebody who types badly
        for _ in range(int(rng.integers(2, 5))):
            text = add_typo(text, rng)
    prob = rng.random()
    if prob < 0.12:
        text = text.rstrip(".?!")
    elif prob < 0.24:
        text = text.rstrip(".?!") + "?!."[int(rng.integers(3))]
    elif prob < 0.28:
        text = text.replace(",", "").replace("'", "")
    prob = rng.random()
    if prob < 0.05:
        text = text.upper()
    elif prob < 0.15:
        text = text[:1].upper() + text[1:]
    elif prob < 0.18:
        text = text.title()
    return text
