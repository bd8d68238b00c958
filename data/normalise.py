"""Texts made alike before they are compared: case, punctuation, apostrophes and, in English, contractions and numbers.

English texts go through Whisper's English normaliser (Radford et al. 2022, appendix C), with its step for numbers tamed.
All others are treated by Unicode: every letter keeps its marks, so that no vowel sign and no umlaut is lost. A pair of
texts is taken for English where neither has a letter outside ASCII.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import cache

import regex

_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ´`", "'"))
# Characters of scripts that are written without spaces, each with its marks.
_UNSPACED = regex.compile(r"(?=[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])\X")
_BRACKETS = re.compile(r"[<\[][^>\]]*[>\]]|\([^)]+?\)")  # as Whisper's normalisers have it
_LEADING_ZEROS = re.compile(r"(?<![\d.,])0+(?![.,]\d)")
_HALF_DAY = re.compile(r"\b([ap])\.\s?m\b\.?")
_FULL_HOUR = re.compile(r"\b(\d{1,2}):00(?=\s?[ap]m\b)")


def plain(text: str) -> str:
    """Small letters with their marks, digits, and single spaces in place of everything else (NFKC)."""
    text = unicodedata.normalize("NFKC", text.lower())
    kept = (char if (kind := unicodedata.category(char))[0] in "LMN" else "" if kind == "Cf" else " " for char in text)
    return " ".join("".join(kept).split())


def tokens(text: str) -> list[str]:
    """The words of any language; of scripts without spaces, such as Chinese, Japanese and Thai, every character is one."""
    return _UNSPACED.sub(r" \g<0> ", plain(text)).split()


def words_alike(answer: str, reference: str) -> tuple[list[str], list[str]]:
    """The words of two texts, both normalised in the same way.

    In English, numbers are compared digit by digit where either text writes one in digits ("007" and "zero zero seven" are
    three equal words); words stay words where neither does.
    """
    texts = [_straight(text) for text in (answer, reference)]
    if all(char.isascii() or not char.isalpha() for text in texts for char in text):
        read = _read_numbers if any(re.search(r"\d", text) for text in texts) else _whisper(numbers=False)
        answer, reference = (read(_HALF_DAY.sub(r"\1m", text.lower())) for text in texts)
        return answer.split(), reference.split()
    left, right = (tokens(_BRACKETS.sub(" ", text)) for text in texts)
    return left, right


def characters(text: str) -> str:
    """A text for character errors, by Unicode in every language; spaces do not count beside characters without spaces."""
    spaced = " ".join(tokens(_BRACKETS.sub(" ", _straight(text))))
    beside = rf"(?<={_UNSPACED.pattern}) | (?={_UNSPACED.pattern})"
    return regex.sub(beside, "", spaced)


def _straight(text: str) -> str:
    return unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).translate(_APOSTROPHES)


@cache
def _whisper(numbers: bool) -> Callable[[str], str]:
    """Whisper's normaliser of English, with or without its step for numbers."""
    # 2 s to import. The table of British and American spellings comes with Whisper's checkpoints, not with its code.
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer  # noqa: PLC0415

    made = EnglishTextNormalizer({})
    if not numbers:  # it makes one word of "four five nine" (459), so that a wrong digit would spoil the whole string
        made.standardize_numbers = str  # type: ignore[assignment]
    return made


def _read_numbers(text: str) -> str:
    """English with every number in digits, one by one; leading zeros, which Whisper drops, are kept as words for it."""
    text = _LEADING_ZEROS.sub(lambda found: "zero " * len(found[0]), _FULL_HOUR.sub(r"\1", text))
    text = _whisper(numbers=True)(text)
    text = re.sub(r"\bone(s?)\b", r"1\1", text)  # which Whisper writes for a lone 1
    return re.sub(r"(\d)", r" \1 ", text)
