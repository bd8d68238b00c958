"""What an instruction says in its clauses: a correction, a condition, a list of many tasks.

`the gender. actually no, the emotion` asks for the emotion alone; `the words only if the speaker is female` is a plan.
"""

import re
from dataclasses import dataclass

from .form_cues import is_demand_word, table

_CORRECTION = re.compile(
    r"^(?P<before>.+?)\s*[.,;!?…–—-]+\s*(?:(?:oh|uh|um|hm+|ah|er|ach)\b[, ]*)?"
    r"(?:actually|no(?=[,.!:]| wait| sorry)|nein(?=[,.!:])|wait|scratch that|strike that|i meant?|i mean|sorry|correction|"
    r"on second thoughts?|make that|rather|doch lieber|quatsch)"
    r"(?:[,.!:\s]+(?:actually|no|wait|sorry|rather|i meant?|i mean|make that|instead|lieber|doch|better))*"
    r"[,.!:\s]+(?P<after>.+)$",
    re.IGNORECASE | re.DOTALL,
)
_IF = r"(?:if|when(?:ever)?|provided(?: that)?|in case|as long as|falls|wenn|sofern)"
_CONDITION = re.compile(
    rf"^(?P<main>.+?)[,;]?\s+(?:but\s+|aber\s+)?(?:(?:(?:and|und)\s+)?(?:only|just|nur)\s+)?{_IF}\s+(?P<condition>.+)$",
    re.IGNORECASE | re.DOTALL,
)
_CONDITION_FIRST = re.compile(
    rf"^(?:(?:only|just|nur)\s+)?{_IF}\s+(?P<condition>.+?)(?:,\s*(?:then\s+|dann\s+)?|\s+then\s+|\s+dann\s+)(?P<main>.+)$",
    re.IGNORECASE | re.DOTALL,
)
_ASKING = re.compile(
    r"(?:tell(?: me| us)?|say|check|find out|determine|know|ask|see|decide|state|verify|wonder(?:ing)?|report|sure|clear|hear|"
    r"detect|figure out|want|need|like|give|show|return|print|write|"
    r"möchte|will|zeig|gib|sag(?: mir)?|prüfe|weiß|guess|judge|label|note|answer|predict|classify|recogni[sz]e|identify)"
    r"(?:\s+(?:me|us|please|only|just|bitte|nur))*$",
    re.IGNORECASE,
)
_LISTED = re.compile(
    r"(?:\b(?:and|und|sowie|also|auch|plus|then|dann|afterwards|followed by|which|with|between|pipe|bar|comma|slash)"
    r"|[&+|/:])\W*$",
    re.IGNORECASE,
)
"""What stands before one more part: "the words and if it is a woman" asks for two things."""
_ADDED = re.compile(
    r"\b(?:(?:before|ahead of|in front of|prior to|after|behind|below|above) (?:that|it|this|them)|beforehand|afterwards|"
    r"first|as well|davor|vorher|zuvor|danach|zuerst|zusätzlich|dazu)\W*$",
    re.IGNORECASE,
)
"""The end of what adds a part and takes nothing back: "no wait, the mood before that"."""
_RANK = re.compile(
    r"(?:^|(?<=[,;.:(])|(?<=[,;.:] )|(?<=and )|(?<=und ))"
    r"(?:(?P<a>first(?:ly)?|1st|erstens|zuerst)|(?P<b>second(?:ly)?|2nd|zweitens)|(?P<c>third(?:ly)?|3rd|drittens)|"
    r"(?P<d>fourth(?:ly)?|4th|viertens))(?=[\s,:])|(?<!\S)\(?(?P<n>[1-4])[.):](?=\s)",
    re.IGNORECASE,
)
_PRONOUNS = frozenset(("he", "she", "sie", "er"))
_NEGATION = re.compile(r"\b(?:not|isn't|is not|aren't|doesn't|no|kein\w*|nicht|never)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W_][\w'’-]*")


@dataclass(frozen=True)
class Conditional:
    """A request with a condition.

    Attributes:
        main: what is asked for.
        task: whose answer decides.
        labels: the answers that are meant.
        negated: whether any other answer is meant.
    """

    main: str
    task: str
    labels: tuple[str, ...]
    negated: bool

    def plan(self, main: str) -> str:
        """The plan, such as `gr THEN asr IF female`."""
        return f"{self.task} THEN {main} IF {'NOT ' if self.negated else ''}{' OR '.join(self.labels)}"


def corrected(instruction: str) -> str | None:
    """What is left of an instruction that takes its beginning back; None of others."""
    match = _CORRECTION.match(instruction.strip())
    takes_back = match and _WORD.search(match["after"]) and not _ADDED.search(match["after"])
    return match["after"].strip() if match and takes_back else None


def conditional(instruction: str) -> Conditional | None:
    """An instruction with a condition that one task's labels decide; None of others, such as "tell me if it is a woman"."""
    for pattern in (_CONDITION_FIRST, _CONDITION):
        match = pattern.match(instruction.strip())
        if not match or not _is_condition(match["main"].strip(), match["condition"]):
            continue
        found = _labels_in(match["condition"])
        if found:
            return Conditional(match["main"].strip(), *found, bool(_NEGATION.search(match["condition"])))
    return None


def _is_condition(main: str, condition: str) -> bool:
    """Whether `if` begins a condition, and not what to find out ("say if it is a woman") or one more part ("… and if it is")."""
    _, *behind = re.split(r"[,;]", condition.lower())
    if re.search(r":.*\w", condition):
        return False
    return all(map(is_demand_word, _WORD.findall(" ".join(behind)))) and not _ASKING.search(main) and not _LISTED.search(main)


def _labels_in(text: str) -> tuple[str, tuple[str, ...]] | None:
    """The task and the labels that a condition names; None where none does, several tasks' do, or all of a task's."""
    words = {word.lower().removesuffix("'s").removesuffix("’s") for word in _WORD.findall(text)}
    found: dict[str, tuple[str, ...]] = {}
    for task, names in table()["label_names"].items():
        labels = tuple(
            label
            for label, said in names.items()
            if any(len(word) > 2 and word in said for word in words) or label in words - {"no"}
        )
        if labels and task != "asv":
            found[task] = labels if len(labels) < len(names) else ()
    if () in found.values():
        return None  # all labels of a task: which of them, and no condition
    if len(found) > 1 and words & _PRONOUNS:  # "she is happy"
        found.pop("gr", None)
    return next(iter(found.items())) if len(found) == 1 else None


def numbered_items(instruction: str) -> list[str]:
    """The items of "first the mood; second the words", in the order of their ranks; none where they have no such ranks."""
    ranks = list(_RANK.finditer(instruction))
    ends = [*(match.start() for match in ranks), len(instruction)][1:]
    found: dict[int, str] = {}
    for match, end in zip(ranks, ends, strict=True):
        item = re.sub(r"[\s,;.]+(?:and|und|then|dann)?[\s(]*$", "", instruction[match.end() : end], flags=re.IGNORECASE)
        rank = int(match["n"]) if match["n"] else "abcd".index(match.lastgroup or "a") + 1
        found.setdefault(rank, item.strip(" ,:;.!?"))
    leading = _WORD.findall(instruction[: ranks[0].start()].lower()) if ranks else []
    clear = len(ranks) == len(found) and sorted(found) == list(range(1, len(found) + 1)) and all(map(is_demand_word, leading))
    return [found[rank] for rank in sorted(found)] if len(found) > 1 and clear and all(found.values()) else []


def listed_items(instruction: str) -> list[str]:
    """The items of a plain list of four things and more, such as "gender, words, emotion and age"; of two with semicolons."""
    pieces = re.split(r"\s*(?:,\s*(?:and|und|then|dann)?|;|\s(?:and|und|plus|&|then|dann)\s|\|)\s*", instruction.strip(" .!?"))
    pieces = [piece.strip() for piece in pieces if piece.strip()]
    for at in range(len(pieces) - 1, 0, -1):  # "what she says, in German" is one item
        if re.match(r"(?:in|into|to|ins|auf|zu)\s", pieces[at], re.IGNORECASE):
            pieces[at - 1 : at + 1] = [f"{pieces[at - 1]}, {pieces[at]}"]
    fewest = 2 if ";" in instruction and not re.search(r",|\b(?:and|und)\b", instruction) else 4
    return pieces if len(pieces) >= fewest and all(len(piece.split()) <= 6 for piece in pieces) else []
