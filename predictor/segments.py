"""The clauses of a masked instruction: a demand for a form is one of its own, a list of labels stays whole."""

import re
from collections.abc import Sequence

from .clause_text import denies, has_phrase, similar_verb, without_phrases, words_of
from .form_cues import is_cue, is_demand_word, noun_tasks, table
from .label_lists import LabelRun, label_runs
from .literals import Masked, is_mark

MAX_LABEL_WORDS = 8  # of "say if it is a man or a woman"
_SEGMENT = re.compile(r"[.;!?]+(?=\s|$)|\n+|,(?=\s|$)|\s(?:=>|->|[—–-]+)(?=\s|$)|:\s*$|\s\(|\)(?=\s|$)")
_AND = re.compile(r"\s(?:and|und|but|then|dann|plus)(?=\s)", re.IGNORECASE)


def segments(masked: Masked, text: str) -> list[tuple[str, str]]:
    """Clauses with the marks that end them; a list of labels stays whole."""
    protected = [(run.start, run.end) for run in label_runs(masked, text)]
    found, last = [], 0
    for match in _SEGMENT.finditer(text):
        if any(start <= match.start() < end for start, end in protected):
            continue
        found.append((text[last : match.start()], match[0]))
        last = match.end()
    found.append((text[last:], ""))
    return [piece for segment, ending in found for piece in _split_at_and(masked, segment, ending) if piece[0].strip()]


def _split_at_and(masked: Masked, segment: str, ending: str) -> list[tuple[str, str]]:
    """A demand behind "and" is a clause of its own."""
    for match in reversed(list(_AND.finditer(segment))):
        left, tail = segment[: match.start()], segment[match.end() :]
        runs = label_runs(masked, tail)
        rest = f"{tail[: runs[0].start]} {tail[runs[0].end :]}" if runs else tail
        words = words_of(without_phrases(rest))
        if words and (_asks_for_labels(left, tail, runs) or (noun_tasks(words[0]) and denies(words))):
            continue  # one more part: "… and say male or female", "… and feelings, no translation"
        if words and (words[0] in table()["words"]["articles"] or noun_tasks(words[0])) and _names_more(left, tail):
            continue
        asks = bool(words) and (words[0] in table()["words"]["verbs"] or similar_verb(words[0]))
        demands = (
            bool(runs) or any(map(is_mark, tail)) or any(is_cue(word, "only") for word in words) or (asks and has_phrase(tail))
        )
        if words and demands and not any(map(is_mark, left)) and all(is_demand_word(word) or noun_tasks(word) for word in words):
            return [*_split_at_and(masked, left, " "), (tail, ending)]
    return [(segment, ending)]


def _names_more(left: str, tail: str) -> bool:
    """Whether what stands before a literal is one more part: "the words and the mood with ';' in between"."""
    said = re.split(r"[\uE100-\uE1FF]", tail, maxsplit=1)[0]
    tasks, before = ({task for word in words_of(text) for task in noun_tasks(word)} for text in (said, left))
    return bool(tasks and before and not tasks & before)


def _asks_for_labels(left: str, tail: str, runs: Sequence[LabelRun]) -> bool:
    """Whether "and say male or female" asks for a part: what stands before it names answers, but not of this task."""
    words, before = words_of(tail), {task for word in words_of(left) for task in noun_tasks(word)}
    says = words[0] in ("say", "tell", "state", "note", "decide", "determine", "sag", "sage") and len(words) <= MAX_LABEL_WORDS
    return bool(runs and says and before and not before & runs[0].names.keys()) and not any(is_cue(w, "only") for w in words)
