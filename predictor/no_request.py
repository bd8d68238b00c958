"""Texts that ask for nothing: commands and code, talk about the instructions themselves, scripts that are not read.

The network gives letters that it never met to some task or other. What is refused here has such a shape and names no answer.
"""

import re

from .form_cues import noun_tasks, table

_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[a-zA-ZÀ-ɏ]")
_CODE = re.compile(
    r"(?:^|\s)--?[a-z][\w-]*(?=[\s=]|$)"  # a flag
    r"|(?:^|\s)(?:~|\.{1,2})?/\w[\w.-]*(?=[/\s]|$)"  # a path
    r"|\w://|\w\.\w+\(|\w\([^()]*\)\s*[:;{]|\w\(\)|\$[({]|&&|\|\s*(?:ba|z)?sh\b|(?:^|\s)import \w+(?=[;\s]|$)",
    re.IGNORECASE,
)
_ABOUT_INSTRUCTIONS = re.compile(
    r"\bsystem ?prompt|\b(?:ignore|disregard|forget|override|bypass|overlook|ignorier\w*|vergiss|missachte)\b.*"
    r"\b(?:instructions?|prompts?|rules?|guidelines?|commands?|orders|anweisung\w*|regeln|vorgaben|befehle)\b",
    re.IGNORECASE | re.DOTALL,
)


def is_no_request(text: str) -> bool:
    """Whether a text asks for nothing that could be done, whatever its letters resemble."""
    letters = [letter for letter in text if letter.isalpha()]
    if letters and 2 * sum(bool(_LATIN.match(letter)) for letter in letters) < len(letters):
        return True
    shaped = _CODE.search(text) or _ABOUT_INSTRUCTIONS.search(text)
    return bool(shaped) and not any(map(_names_answer, _WORD.findall(text.lower())))


def _names_answer(word: str) -> bool:
    """Whether a word is what an answer is called, or an answer."""
    labels = table()["label_names"].values()
    return bool(noun_tasks(word)) or (len(word) > 2 and any(word in said for names in labels for said in names.values()))
