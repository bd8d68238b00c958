"""How people write: typos, capitals, politeness, punctuation that is lost or added."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEAR = {key: row[max(0, at - 1) : at] + row[at + 1 : at + 2] for row in KEYS for at, key in enumerate(row)}


def typo(text: str, rng: np.random.Generator) -> str:
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


def roughen(text: str, rng: np.random.Generator, around: Mapping[str, Sequence[str]]) -> str:
    """A request as it may be typed.

    Args:
        text: the request.
        rng: decides what happens to it.
        around: "before" and "after" are words to put there.
    """
    if rng.random() < 0.12:
        text = f"{around['before'][int(rng.integers(len(around['before'])))]} {text}"
    if rng.random() < 0.12:
        text = f"{text.rstrip('.?!')} {around['after'][int(rng.integers(len(around['after'])))]}"
    for chance in (0.22, 0.06):
        if rng.random() < chance:
            text = typo(text, rng)
    chance = rng.random()
    if chance < 0.12:
        text = text.rstrip(".?!")
    elif chance < 0.24:
        text = text.rstrip(".?!") + "?!."[int(rng.integers(3))]
    elif chance < 0.28:
        text = text.replace(",", "").replace("'", "")
    chance = rng.random()
    if chance < 0.05:
        text = text.upper()
    elif chance < 0.15:
        text = text[:1].upper() + text[1:]
    elif chance < 0.18:
        text = text.title()
    return text
