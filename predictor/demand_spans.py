"""Where a demand around a literal begins, and literals that are about the speech and not about the form."""

import re
from collections.abc import Sequence

from .clause_text import WORD
from .form_cues import has_stem, is_demand_word, noun_tasks, table

_SAYING = ("says", "say", "said", "speaks", "spoken", "utters", "uttered", "heard", "sagt", "gesagt")
_HEARD = ("words", "part", "what", "everything", "anything")


def _behind(words: Sequence[str]) -> str:
    return "|".join(rf"(?<=\b{word})" for word in words)


_EXCERPT = re.compile(
    rf"(?:{_behind(_SAYING)}|(?:{_behind(_HEARD)})(?: that| which)? (?:is said|comes?|came|follows?))"
    r"(?: right| just| directly| immediately)? (?:after|before|following|until|till|nach|vor|bis)(?: the words?)? *"
    r"[\uE100-\uE1FF]",
    re.IGNORECASE,
)


def excerpt(segment: str) -> str:
    """The words that say that only a part of the speech is meant, as in "what he says after 'hello'"; else none."""
    found = _EXCERPT.search(segment)
    return found[0] if found else ""


def is_shaped_name(tokens: Sequence[re.Match[str]], at: int) -> bool:
    """Whether a word is an answer's name behind the verb that says where a literal goes: "end the *emotion* with …"."""
    if not noun_tasks(tokens[at][0].lower()):
        return False
    before = [token[0].lower() for token in tokens[max(0, at - 3) : at]]
    while before and (before[-1] in table()["words"]["articles"] or before[-1] in ("final", "resulting", "whole")):
        before.pop()
    return (
        bool(before) and is_demand_word(before[-1]) and any(has_stem(before[-1], role) for role in ("prefix", "suffix", "wrap"))
    )


def behind_request(tokens: Sequence[re.Match[str]], start: int, mark: int) -> int:
    """Where a demand begins, if a request whose answer it would take stands before it: "return her mood | in JSON with …".

    Args:
        tokens: of the clause.
        start: where it begins by its words alone.
        mark: the first literal.
    """
    before = [token[0].lower() for token in tokens[:start] if WORD.match(token[0])]
    nouns = [at for at in range(start, mark) if noun_tasks(tokens[at][0].lower())]
    named = {task for at in nouns for task in noun_tasks(tokens[at][0].lower())}
    if not before or named & {task for word in before for task in noun_tasks(word)} or not WORD.match(tokens[start - 1][0]):
        return start
    return nouns[-1] + 1 if nouns else start
