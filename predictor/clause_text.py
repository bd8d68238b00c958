"""Small questions about the words of a clause, and cuts that leave it readable."""

import re
from collections.abc import Sequence

from rapidfuzz.distance import OSA

from .form_cues import is_known, noun_tasks, phrases, similar_words, table
from .literals import is_mark

WORD = re.compile(r"[^\W_][\w'’-]*")
_CASE_WORDS = ("upper", "lower", "uppercase", "lowercase", "capitals", "capital", "letters", "letter")


def words_of(text: str) -> list[str]:
    """The words in small letters."""
    return [word.lower() for word in WORD.findall(text)]


def has_json(text: str) -> bool:
    """Whether JSON is spoken of."""
    return "json" in text.lower()


def denies(words: Sequence[str]) -> bool:
    """Whether a clause names things only to exclude them: "no further words"."""
    return any(
        word in ("no", "not", "without", "nothing", "exclude", "excluding", "omit", "avoid", "except", "nichts", "ohne", "keine")
        for word in words
    )


def describes(text: str) -> bool:
    """Whether what stands behind "the words" says more of them: "the word sequence", "the words in German"."""
    words = words_of(text)
    return bool(words) and (words[0] in table()["words"]["after_nouns"] or any(map(noun_tasks, words)))


def similar_verb(word: str) -> bool:
    """Whether a word is a verb of demands with a typo."""
    return any(known in table()["words"]["verbs"] for known in similar_words(word))


def spelled(word: str) -> str:
    """A word for a case without its typo."""
    lower = word.lower()
    if len(word) > 3 and lower not in _CASE_WORDS and not is_known(lower) and not noun_tasks(lower):
        return next(
            (right for right in _CASE_WORDS if right[0] == lower[0] and OSA.distance(lower, right, score_cutoff=1) <= 1), word
        )
    return word


def listed(names: Sequence[str | None]) -> str:
    """Names as a list: `a, b and c`."""
    said = [name for name in names if name]
    return f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else "".join(said)


def asked_as(name: str) -> str | None:
    """What a place of a template asks for, in words; None where it names no task."""
    tasks = {task for word in words_of(name.replace("_", " ")) for task in noun_tasks(word)}
    return table()["asked_as"].get(tasks.pop()) if len(tasks) == 1 else None


def asked_for(task: str) -> str:
    """A request for a task in words; empty where there is none."""
    return str(table()["asked_as"].get(task, ""))


def cut(segment: str, match: re.Match[str]) -> str:
    """A clause without a demand, and without the words that led to it."""
    before = re.sub(
        r"\b(?:(?:and|und)\s+)?(?:(?:in|as|into|to|using|with|all|by|mit|als|entirely|fully|only)\s+)+(?:a |an |the )?$",
        "",
        segment[: match.start()],
        flags=re.IGNORECASE,
    )
    return f"{before} {segment[match.end() :]}"


def without_marks(text: str) -> str:
    """A masked text without what stands for literals."""
    return "".join(" " if is_mark(letter) else letter for letter in text)


def tidy(text: str) -> str:
    """A text without the gaps that demands leave."""
    text = re.sub(r"\s+", " ", re.sub(r"\(\s*\)|(?<=\s)[()](?=\s|[.;!?]|$)|^\)", " ", text))
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    text = re.sub(r"(?:^|(?<=[.;!?]))[\s,.;:]+", " ", text)
    text = re.sub(r"[\s,;:]*\b(?:and|und|then|dann|but|with|by|as|please)\s*(?=[.;!?]|$)", "", text.strip(), flags=re.IGNORECASE)
    return re.sub(r"[\s,;:]+$", "", text).strip()


def has_phrase(text: str) -> bool:
    """Whether a text has a demand for a case or JSON."""
    return any(pattern.search(text) for kind in ("upper", "lower", "title", "json") for pattern in phrases(kind))


def without_json(text: str) -> str:
    """A text that does not speak of JSON; as it is where nothing else is left."""
    rest = text
    for pattern in phrases("json"):
        while match := pattern.search(rest):
            rest = cut(rest, match)
    return tidy(rest) or text


def without_phrases(text: str) -> str:
    """A text without demands that are phrases."""
    for kind in ("upper", "lower", "title", "json", "lines", "list"):
        for pattern in phrases(kind):
            text = pattern.sub(" ", text)
    return text
