"""Misspelt words of an instruction, mended to the words that wordings have.

A word is misspelt where the encoder does not know it, wordings hardly ever have it, and a frequent word of theirs is one slip
away, two in a long word (optimal string alignment, which counts two swapped letters as one slip). Of several the nearest
counts, then the likeliest. Literals are marks by then, and names that are written without
quotes stay as they are.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files

from rapidfuzz import process
from rapidfuzz.distance import OSA

VOCABULARY = "words.txt"
MIN_LENGTH = 4  # letters of a word that may be mended
MIN_COUNT = 10  # how often the wordings have a word that others are mended to
RATIO = 20  # how much more often than a word itself, which may be a slip that wordings have, too
OWN_LETTERS = 10  # how much likelier a slip is that brings in no letter
LONG = 8  # letters from which two slips are mended
WORD = re.compile(r"[^\W\d_]+")
_TOKEN = re.compile(r"\w+")


@cache
def word_counts() -> dict[str, int]:
    """How often the wordings have a word. Words that they have once, which may be slips themselves, are not among these."""
    lines = files(__package__).joinpath("wordings", VOCABULARY).read_text(encoding="utf-8").split()
    return {word: int(count) for word, count in zip(lines[::2], lines[1::2], strict=True)}


@cache
def _by_initial() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for word, count in word_counts().items():
        if len(word) >= MIN_LENGTH and count >= MIN_COUNT:
            found.setdefault(word[0], []).append(word)
    return {letter: tuple(words) for letter, words in found.items()}


class SpellingMender:
    """Mends misspelt words.

    Args:
        knows: whether a word in small letters is one that need not be mended, though no wording has it.
    """

    def __init__(self, knows: Callable[[str], bool]) -> None:
        self._knows = knows
        self._found: dict[str, str] = {}

    def __call__(
        self,
        text: str,
        keep: Callable[[str], Sequence[tuple[int, int]]] = lambda _text: (),
        is_read: Callable[[str], bool] = lambda _word: False,
    ) -> str:
        """A text with its misspelt words mended; the rest of it stays to the letter.

        Args:
            text: the text.
            keep: of the text when all of it is mended, from where to where words stay as they were.
            is_read: whether a word in small letters is read as it is, slips and all.
        """
        tokens = list(_TOKEN.finditer(text))
        words = [token[0] if is_read(token[0].lower()) else self._mended(token[0]) for token in tokens]
        if all(word == token[0] for word, token in zip(words, tokens, strict=True)):
            return text
        mended = _with_words(text, tokens, words)
        spans = keep(mended)
        if spans:
            places = zip(_TOKEN.finditer(mended), tokens, words, strict=True)
            words = [
                was[0] if any(start < place.end() and place.start() < end for start, end in spans) else word
                for place, was, word in places
            ]
            mended = _with_words(text, tokens, words)
        return mended

    def _mended(self, word: str) -> str:
        if len(word) < MIN_LENGTH or not WORD.fullmatch(word) or not (word.islower() or word.istitle() or word.isupper()):
            return word
        lower = word.lower()
        if lower not in self._found:
            self._found[lower] = self._nearest(lower)
        found = self._found[lower]
        if found == lower:
            return word
        return found.upper() if word.isupper() else found.capitalize() if word.istitle() else found

    def _nearest(self, word: str) -> str:
        counts = word_counts()
        written = counts.get(word, 0)
        if written >= MIN_COUNT or self._knows(word):
            return word
        swapped = [each for each in _by_initial().get(word[1], ()) if each[1] == word[0]]
        candidates = [*_by_initial().get(word[0], ()), *swapped]
        most = 1 if len(word) < LONG else 2
        near = process.extract(word, candidates, scorer=OSA.distance, score_cutoff=most, limit=None)
        scored = [(slips, -_likeliness(word, each), each) for each, slips, _ in near if counts[each] >= RATIO * written]
        return min(scored)[2] if scored else word


def _likeliness(word: str, meant: str) -> int:
    """How likely a word is a slip of another: letters are lost, doubled and swapped more often than others get in."""
    return word_counts()[meant] * (OWN_LETTERS if set(word) <= set(meant) else 1)


def _with_words(text: str, tokens: Sequence[re.Match[str]], words: Sequence[str]) -> str:
    pieces, last = [], 0
    for token, word in zip(tokens, words, strict=True):
        pieces += [text[last : token.start()], word]
        last = token.end()
    return "".join([*pieces, text[last:]])
