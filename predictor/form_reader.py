"""What an instruction says of its answer's form, and what is left of it to say the task.

Literals are found first (`literals.py`); the words around each say its role: prefix, suffix, wrapping, separator, key or labels.
Demands without a literal ("in capitals", "as JSON") are phrases. What is a demand is no evidence for a task, so it is taken out.
A demand that also names the task's answer ("only the caption") is *soft*: the router drops it where the rest says as much.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rapidfuzz.distance import OSA

from .form_cues import (
    is_cue,
    is_demand_word,
    is_known,
    named_patterns,
    noun_tasks,
    phrases,
    similar_words,
    table,
    unsupported_forms,
)
from .literal_roles import LiteralRoles, is_pair
from .literals import FIRST_MARK, Literal, Masked, is_mark, mask_literals

MAX_LABEL_WORDS = 8  # of "say if it is a man or a woman"
_TOKEN = re.compile(r"[^\W_][\w'’-]*|[\uE100-\uE1FF]|[^\s\w]")
_WORD = re.compile(r"[^\W_][\w'’-]*")
_SEGMENT = re.compile(r"[.;!?]+(?=\s|$)|\n+|,(?=\s|$)|\s(?:=>|->|[—–-]+)(?=\s|$)|:\s*$|\s\(|\)(?=\s|$)")
_AND = re.compile(r"\s(?:and|und|but|then|dann|plus)(?=\s)", re.IGNORECASE)
_LISTED = r"(?:[\uE100-\uE1FF]|[^\W_][\w-]*)"
_LIST = re.compile(
    rf"{_LISTED}(?:\s*(?:,\s*(?:or\s+|oder\s+|and\s+|und\s+)?|/|\||;|\s(?:or|oder|and|und|vs\.?|&)\s)\s*{_LISTED})+",
    re.IGNORECASE,
)
_ITEM = re.compile(_LISTED)
_PAIR = re.compile(
    rf"({_LISTED})\s*(=|:|->|=>|\b(?:for|if|means|meaning|when|für|wenn|as|als|heißt)\b)\s*({_LISTED})",
    re.IGNORECASE,
)
_BARE = re.compile(
    r"\b(?:begin|start|open|prefix|prepend|preced|prefac|introduc|lead|end|finish|suffix|append|conclud|clos|terminat)\w*"
    r"(?:\s+[\w']+){0,4}?\s+"
    r"(?:with|by|mit|in|using)\s+(?:the\s+)?"
    r"(?:(?:exact\s+)?(?:words?|phrase|text|letters?|tag|token|marker|string|wort|worten)\s+)?([^,;!?\n\uE100-\uE1FF]+?)\s*"
    r"(?=[,;!?\n]|$|\.\s*$|\s(?:and|und)\s+(?:end|finish|clos|conclud|start|begin)\w*)",
    re.IGNORECASE,
)
_NAMED = re.compile(r"\b(?:words?|phrase|text|letters?|tag|token|marker|string|wort|worten)\s*$", re.IGNORECASE)
_KEYS_LISTED = re.compile(
    r"\b(?:keys|fields|properties|attributes|schlüsseln?|feldern?)\b\s*"
    r"(?:shall be|should be|must be|are|be|is|named|called|sind|sollen|heißen|lauten)?\s*:?\s*([^.?!:;\n]+)",
    re.IGNORECASE,
)
_KEY_NAMED = re.compile(
    r"\b(?:with |and |mit )?(?:(?:the |a |its |json |dem |der )*"
    r"((?:key|field|property|attribute|schlüssel|feld)\b(?: named| called| name| is| heißt|:|=)?|(?:named|called)\b)|"
    r"(?:under|unter|as)(?: the| dem)?)\s+"
    r"([^\W\d]\w{0,39})(?!\w)(?!\s+(?:of|von)\b)",
    re.IGNORECASE,
)
_KEY_STOP = frozenset(
    [
        "is",
        "a",
        "an",
        "the",
        "of",
        "with",
        "and",
        "should",
        "must",
        "be",
        "json",
        "named",
        "called",
        "name",
        "for",
        "to",
        "it",
        "in",
        "ist",
        "soll",
        "under",
        "key",
        "keys",
    ]
)
_LINKS = frozenset(("or", "oder", "and", "und", "vs"))
_LED_BY = r"\b(?:in|within|inside|between|with|by|into|mit|zwischen|using|of)\s+(?:a pair of |a |an |the |two )?"
_NOT_LOWER = re.compile(
    r"\b(?:no|without(?: any)?|never|not in|avoid) (?:small|lower[- ]?case|little) ?(?:letters?|characters?)?", re.IGNORECASE
)
_CASE_WORDS = ("upper", "lower", "uppercase", "lowercase", "capitals", "capital", "letters", "letter")
_NAME = re.compile(r"[^\W\d]\w{0,39}")
_NOT_JSON = re.compile(
    r"\b(?:no|not|without|kein|ohne|never|don't use|do not use|isn't) (?:a |an |any |as |in |the )*json", re.IGNORECASE
)
_JSON_TYPO = re.compile(
    r"\b(?:jason(?=\s+(?:with|object|format|style|please|mit|bitte)\b)|"
    r"(?<=\bas )jason|(?<=\bin )jason|(?<=\bals )jason|jsno|josn|jsn|jsom)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Demand:
    """A demand that also names an answer: dropped where what is left asks for one of these tasks, or where it names none.

    Attributes:
        text: the demand without its form.
        tasks: the tasks whose answers it names.
    """

    text: str
    tasks: frozenset[str]


@dataclass(frozen=True)
class FormReading:
    """What an instruction says of the form, and what else it says.

    Attributes:
        format: the fields of an `AnswerFormat` that were asked for.
        content: the instruction without demands.
        soft: demands that also name an answer, in their order.
        whole: content and soft demands, in their order.
        json: whether JSON is asked for.
        labels: a task's name → our label → the user's name; for tasks that may be asked for.
        order: what a template of the answer names, in its order.
        unsupported: names of forms that cannot be had.
    """

    format: Mapping[str, Any]
    content: str
    soft: tuple[Demand, ...] = ()
    whole: str = ""
    json: bool = False
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()


def read_form(instruction: str) -> FormReading:
    """Read the form that an instruction asks for."""
    instruction = _JSON_TYPO.sub("json", instruction)
    masked = mask_literals(instruction)
    if len(masked.literals) == 1 and masked.literals[0].kind == "quote" and not _WORD.search(masked.text):
        return read_form(masked.literals[0].text)  # all of it stands in quotes
    return _Reader(instruction, masked).read()


class _Reader(LiteralRoles):
    """Reads one masked instruction; collects what it finds."""

    def __init__(self, instruction: str, masked: Masked) -> None:
        text = masked.text
        asked = bool(_has_json(text) and not _NOT_JSON.search(text))
        keys = any(literal.kind == "json" or (self._key_braces(literal) and not _words(text)) for literal in masked.literals)
        super().__init__(asked or keys)
        self.instruction = instruction
        self.masked = masked
        self.labels: dict[str, dict[str, str]] = {}
        self.unsupported: list[str] = []
        self.content: list[str] = []
        self.soft: list[Demand] = []
        self.whole: list[str] = []

    def read(self) -> FormReading:
        text = self._read_pairs(self._without_unsupported(self.masked.text))
        if self.json:
            text = self._read_named_keys(text)
        pieces = self._segments(text)
        for at, (segment, ending) in enumerate(pieces):
            self._read_segment(segment, ending, alone=len(pieces) == 1)
            del at
        if self.json:
            self.format["layout"] = "json"
        if "wrap" not in self.format and is_pair(self.format.get("prefix", ""), self.format.get("suffix", "x")):
            self.format["wrap"] = (self.format.pop("prefix"), self.format.pop("suffix"))
        if self.json:
            for role in ("prefix", "suffix", "wrap"):
                said = self.format.get(role)
                if said is not None and (said in self.keys or (isinstance(said, tuple) and said[0] in self.keys)):
                    del self.format[role]
        if self.keys and self.json:
            self.format["keys"] = tuple(dict.fromkeys(self.keys))
        content = _tidy(" ".join(self.content))
        plain = _tidy(_without_marks(text))
        whole = _tidy(" ".join(self.whole)) or plain
        named = self.order or (tuple(self.keys) if self.json and not any(demand.tasks for demand in self.soft) else ())
        if named and not any(noun_tasks(word) or not is_demand_word(word) for word in _words(self._without_phrases(content))):
            content = self._named_parts(named)
        content = content if _WORD.search(content) else whole
        if text.isupper():  # so are the labels, which is no wish
            self.labels = {task: {ours: name.lower() for ours, name in names.items()} for task, names in self.labels.items()}
        self.labels = {
            task: shown
            for task, names in self.labels.items()
            if (shown := {ours: name for ours, name in names.items() if ours != name})
        }
        return FormReading(
            self.format,
            content,
            tuple(self.soft),
            whole,
            self.json,
            self.labels,
            self.order,
            tuple(dict.fromkeys(self.unsupported)),
        )

    def _named_parts(self, names: Sequence[str]) -> str:
        """What keys or places of a template ask for, where nothing else does; all as it is written if they name no answers."""
        parts = [_called(name) for name in names]
        return _listed(parts) if None not in parts else self.instruction

    def _without_unsupported(self, text: str) -> str:
        for name, pattern in unsupported_forms():
            if pattern.search(text):
                self.unsupported.append(name)
                text = pattern.sub(" ", text, count=1)
        return text

    def _segments(self, text: str) -> list[tuple[str, str]]:
        """Clauses with the marks that end them; a list of labels stays whole."""
        protected = [(start, end) for start, end, _ in self._label_runs(text)]
        found, last = [], 0
        for match in _SEGMENT.finditer(text):
            if any(start <= match.start() < end for start, end in protected):
                continue
            found.append((text[last : match.start()], match[0]))
            last = match.end()
        found.append((text[last:], ""))
        return [piece for segment, ending in found for piece in self._split_at_and(segment, ending) if piece[0].strip()]

    def _split_at_and(self, segment: str, ending: str) -> list[tuple[str, str]]:
        """A demand behind "and" is a clause of its own."""
        for match in reversed(list(_AND.finditer(segment))):
            left, tail = segment[: match.start()], segment[match.end() :]
            runs = self._label_runs(tail)
            rest = f"{tail[: runs[0][0]]} {tail[runs[0][1] :]}" if runs else tail
            words = _words(self._without_phrases(rest))
            if words and (self._asks_for_labels(left, tail, runs) or (noun_tasks(words[0]) and _denies(words))):
                continue  # one more part: "… and say male or female", "… and feelings, no translation"
            asks = bool(words) and (words[0] in table()["words"]["verbs"] or _similar_verb(words[0]))
            demands = (
                bool(runs)
                or any(map(is_mark, tail))
                or any(is_cue(word, "only") for word in words)
                or (asks and self._has_phrase(tail))
            )
            if (
                words
                and demands
                and not any(map(is_mark, left))
                and all(is_demand_word(word) or noun_tasks(word) for word in words)
            ):
                return [*self._split_at_and(left, " "), (tail, ending)]
        return [(segment, ending)]

    @staticmethod
    def _asks_for_labels(left: str, tail: str, runs: Sequence[tuple[int, int, dict[str, dict[str, str]]]]) -> bool:
        """Whether "and say male or female" asks for a part: what stands before it names answers, but not of this task."""
        words, before = _words(tail), {task for word in _words(left) for task in noun_tasks(word)}
        says = (
            words[0] in ("say", "tell", "state", "note", "decide", "determine", "sag", "sage") and len(words) <= MAX_LABEL_WORDS
        )
        return bool(runs and says and before and not before & runs[0][2].keys()) and not any(is_cue(w, "only") for w in words)

    @staticmethod
    def _has_phrase(text: str) -> bool:
        return any(pattern.search(text) for kind in ("upper", "lower", "title", "json") for pattern in phrases(kind))

    @staticmethod
    def _without_phrases(text: str) -> str:
        for kind in ("upper", "lower", "title", "json", "lines", "list"):
            for pattern in phrases(kind):
                text = pattern.sub(" ", text)
        return text

    def _label_runs(self, text: str) -> list[tuple[int, int, dict[str, dict[str, str]]]]:
        """Lists of labels in a text: where each begins and ends, and what it names."""
        found: list[tuple[int, int, dict[str, dict[str, str]]]] = []
        for match in _LIST.finditer(text):
            items = [item for item in _ITEM.finditer(text, match.start(), match.end()) if item[0].lower() not in _LINKS]
            at = 0
            while at < len(items):
                count = max(
                    (n for n in range(2, len(items) - at + 1) if self._names([i[0] for i in items[at : at + n]])), default=0
                )
                if count:
                    found.append(
                        (items[at].start(), items[at + count - 1].end(), self._names([i[0] for i in items[at : at + count]]))
                    )
                at += max(1, count)
        return found

    def _literals_of(self, text: str) -> list[Literal]:
        return [self.masked.literals[ord(letter) - FIRST_MARK] for letter in text if is_mark(letter)]

    def _shown(self, item: str) -> str:
        return self.masked.literals[ord(item) - FIRST_MARK].text if is_mark(item) else item

    def _names(self, items: Sequence[str]) -> dict[str, dict[str, str]]:
        """For each task that all items may be labels of: our label → the user's name."""
        shown = [self._shown(item).strip(" .,") for item in items]
        found = {}
        for task, names in table()["label_names"].items():
            ours = [_label_of(item, names) for item in shown]
            if all(ours) and len(set(ours)) == len(ours):
                given = {name for names_of in names.values() for name in names_of}
                found[task] = {
                    label: name if name.casefold() in given else label for label, name in zip(ours, shown, strict=True)
                }
        return found

    def _read_segment(self, segment: str, ending: str, *, alone: bool) -> None:
        runs = self._label_runs(segment)
        if runs and self._read_labels(segment, runs[0], alone):
            return
        if any(is_mark(letter) for letter in segment):
            rest = self._read_literals(segment)
            if self.json and self.content and not any(map(noun_tasks, _words(rest))):
                return
        else:
            rest = segment
            for bare in reversed(list(_BARE.finditer(segment))):
                if self._read_bare(bare):
                    rest = f"{rest[: bare.start()]} {rest[bare.end() :]}"
        literal = rest != segment and not any(literal.text == "{}" for literal in self._literals_of(segment))
        rest, found = self._read_phrases(rest)
        self._keep(rest, ending, demanded=found or literal)

    def _read_labels(self, segment: str, run: tuple[int, int, dict[str, dict[str, str]]], alone: bool) -> bool:
        """A list of labels in a clause that says nothing but how to answer."""
        start, end, named = run
        words = _words(f"{segment[:start]} {segment[end:]}")
        bare = all(is_demand_word(word) or noun_tasks(word) for word in words)
        quoted = any(map(is_mark, segment[start:end]))
        if alone and not words:
            return False
        if not bare and not (quoted and any(is_cue(word, "labels") for word in words if word not in ("says", "saying"))):
            return self._read_labels_behind(segment, run)
        before, _ = self._read_phrases(segment[:start])
        after, _ = self._read_phrases(segment[end:])
        for task, names in named.items():
            self.labels.setdefault(task, {}).update(names)
        shown = " or ".join(next(iter(named.values())).values())
        self._soften(f"{before} {shown} {after}", frozenset(named))
        return True

    def _read_labels_behind(self, segment: str, run: tuple[int, int, dict[str, dict[str, str]]]) -> bool:
        """A list of labels behind a request, with no mark between: "tell the mood limit to happy or sad"."""
        start, end, named = run
        tokens = list(_WORD.finditer(segment, 0, start))
        first = len(tokens)
        while first and is_demand_word(tokens[first - 1][0].lower()):
            first -= 1
        words = [token[0].lower() for token in tokens[first:]]
        asks = any(
            is_cue(word, "labels") or is_cue(word, "only") for word in words if word not in ("say", "says", "saying", "one")
        )
        if not first or not asks or not all(map(is_demand_word, _words(segment[end:]))):
            return False
        for task, names in named.items():
            self.labels.setdefault(task, {}).update(names)
        request, _ = self._read_phrases(segment[: tokens[first].start()])
        self._keep(request, ".", demanded=False)
        return True

    def _read_pairs(self, text: str) -> str:
        """Names for labels, `F for female`, `neutral = 0`; the text without them."""
        found: dict[str, dict[str, str]] = {}
        spans: dict[str, list[tuple[int, int]]] = {}
        for match in _PAIR.finditer(text):
            left, right = self._shown(match[1]), self._shown(match[3])
            for task, names in table()["label_names"].items():
                label = next((label for label in names if left.casefold() == label), None)
                other = next((label for label in names if right.casefold() == label), None)
                if (label is None) != (other is None):
                    found.setdefault(task, {})[label or other or ""] = right if label else left
                    spans.setdefault(task, []).append(match.span())
        for task, names in found.items():
            if len(names) >= 2:
                self.labels.setdefault(task, {}).update(names)
                first, last = min(start for start, _ in spans[task]), max(end for _, end in spans[task])
                return f"{text[:first]} {text[last:]}"
        return text

    def _read_bare(self, match: re.Match[str]) -> bool:
        """A prefix or suffix without quotes: `begin with Result:`, `end with the word over`."""
        said = match[1].strip()
        named = bool(_NAMED.search(match[0][: match.start(1) - match.start()].strip())) and not _describes(said)
        if not named and not re.search(r"[:#>\]\}*_]$|^[A-Z][A-Z_]+$|^[#<\[{*_]", said):
            return False
        verb = match[0].split()[0].lower()
        role = "suffix" if is_cue(verb, "suffix") else "prefix"
        self.format[role] = said
        return True

    def _read_literals(self, segment: str) -> str:
        """Give the literals of a clause their roles; what is left of the clause."""
        tokens = list(_TOKEN.finditer(segment))
        marks = [at for at, token in enumerate(tokens) if is_mark(token[0])]
        start, end = marks[0], marks[-1]
        while start > 0 and self._may_demand(tokens[start - 1][0]):
            start -= 1
        while end + 1 < len(tokens) and self._may_demand(tokens[end + 1][0]):
            end += 1
        span = tokens[start : end + 1]
        words = [token[0].lower() for token in span]
        literals = self._literals_of(segment)
        places = [at - start for at in marks]
        role = self.role_of(words, places, literals)
        if role is None:
            before = self._last_demand()
            role = self.role_of([*before, *words], [place + len(before) for place in places], literals) if before else None
            if role is not None:
                self._drop_last(len(before))
        if role is None:
            self.json = self.json or any(literal.text == "{}" for literal in literals)  # "gender, mood {}"
            return _without_marks(segment)
        left, right = segment[: span[0].start()], segment[span[-1].end() :]
        named = frozenset(task for word in words for task in noun_tasks(word))
        if named:
            self._soften(segment[span[0].start() : span[-1].end()], named)
        return f"{left} {right}"

    def _soften(self, text: str, tasks: frozenset[str]) -> None:
        demand = Demand(_tidy(_without_marks(text)), tasks)
        self.soft.append(demand)
        self.whole.append(f"{demand.text}.")

    def _last_demand(self) -> list[str]:
        """The words of a demand that the content ends with: "…, at the start"."""
        words = [word.lower() for word in _WORD.findall(self.content[-1])] if self.content else []
        count = 0
        while count < min(6, len(words)) and is_demand_word(words[-1 - count]):
            count += 1
        return words[len(words) - count :]

    def _drop_last(self, count: int) -> None:
        matches = list(_WORD.finditer(self.content[-1]))
        self.content[-1] = self.content[-1][: matches[-count].start()] if count < len(matches) else ""

    def _may_demand(self, token: str) -> bool:
        word = token.lower()
        if not _WORD.match(token) or is_demand_word(word):
            return True
        if noun_tasks(word):
            return self.json
        return len(word) <= 3 and word.isalpha()  # a typo of a small word

    def _read_phrases(self, segment: str) -> tuple[str, bool]:
        """Demands without a literal; what is left of the clause, and whether there were any."""
        found = False
        segment = _WORD.sub(lambda word: _spelled(word[0]), segment)
        if match := _NOT_LOWER.search(segment):
            self.format.setdefault("case", "upper")
            segment, found = _cut(segment, match), True
        for case in ("title", "lower", "upper"):
            for pattern in phrases(case):
                if match := pattern.search(segment):
                    self.format.setdefault("case", case)
                    segment, found = _cut(segment, match), True
        segment, separated = self._named_separator(segment)
        segment, wrapped = self._named_wrapper(segment)
        for layout in ("lines", "list"):
            for pattern in phrases(layout):
                match = pattern.search(segment)
                if match and not self.json and not separated:
                    self.format.setdefault("layout", layout)
                    segment, found = _cut(segment, match), True
        return segment, found or separated or wrapped

    def _named_separator(self, segment: str) -> tuple[str, bool]:
        """A separator by its name: "separated by a comma", "with a slash between"."""
        words = [part for word in _words(segment) for part in word.split("-")]
        if not any(is_cue(word, "separator") for word in words if word) or self.json:
            return segment, False
        for pattern, separator in named_patterns("separators"):
            match = pattern.search(segment)
            if match:
                self.format.setdefault("separator", separator)
                rest = f"{segment[: match.start()]} {segment[match.end() :]}"
                bare = all(is_demand_word(word.strip("-")) for word in _words(rest))
                return (
                    (" ", True) if bare else (segment, False)
                )  # else it is read as before: "with a bar between" is a known wording
        symbol = re.search(r"(?:by|with|using|durch|mit)\s+(?:an?\s+|the\s+)?([^\w\s.,]{1,3})(?=\s|$)", segment)
        if symbol:
            self.format.setdefault("separator", symbol[1])
        return segment, False

    def _named_wrapper(self, segment: str) -> tuple[str, bool]:
        """Brackets and quotes by their names: "in square brackets"."""
        for pattern, (left, right) in named_patterns("wrappers"):
            match = re.compile(
                rf"{_LED_BY}{pattern.pattern}",
                re.IGNORECASE,
            ).search(segment)
            if match and "separator" not in self.format:
                self.format.setdefault("wrap", (left, right))
                return _cut(segment, match), True
        return segment, False

    def _keep(self, rest: str, ending: str, *, demanded: bool) -> None:
        """Take down what a clause says besides its form: as content, or as a soft demand."""
        words = _words(rest)
        if not words:
            return
        if _has_json(rest) and self.content and all(map(is_demand_word, _words(self._without_phrases(rest)))):
            return
        named = frozenset(task for word in words for task in noun_tasks(word))
        bare = all(is_demand_word(word) or noun_tasks(word) for word in words)
        only = any(is_cue(word, "only") for word in words) or ("word" in words and bool({"one", "single", "a"} & set(words)))
        if bare and demanded and not named:
            return
        excludes = _denies(words) and not demanded and named - {"asr", "aac"}  # "no mood", unlike "no further words"
        if bare and (demanded or only) and not excludes:
            if only and not demanded and _denies(words):
                named = frozenset()
            self._soften(rest, named)
            return
        if bare and not named and any(is_cue(word, "separator") for word in words) and "separator" in self.format:
            return
        self.content.append(rest.strip() + ending)
        self.whole.append(rest.strip() + ending)

    def _read_named_keys(self, text: str) -> str:
        """Keys without quotes: "the keys are sex and text", "under speaker_sex", "key SER"; the text without them."""
        match = _KEYS_LISTED.search(text)
        if match:
            pieces = re.split(r"\s*(?:,|;|\band\b|\bund\b|&|\+|/)\s*", match[1].strip())
            words = [self._shown(word) for word in pieces if word]
            if words and all(_NAME.fullmatch(word) for word in words):
                self.keys += words
                return f"{text[: match.start()].removesuffix('the ').removesuffix('with ')} {text[match.end() :]}"
        for match in _KEY_NAMED.finditer(text) if not any(map(is_mark, text)) else ():
            if (match[1] or re.search(r"[_A-Z\d]", match[2])) and match[2].lower() not in _KEY_STOP:
                self.keys.append(match[2])
                return f"{text[: match.start()]} {text[match.end() :]}"
        return text


def _spelled(word: str) -> str:
    """A word for a case without its typo."""
    lower = word.lower()
    if len(word) > 3 and lower not in _CASE_WORDS and not is_known(lower) and not noun_tasks(lower):
        return next(
            (right for right in _CASE_WORDS if right[0] == lower[0] and OSA.distance(lower, right, score_cutoff=1) <= 1), word
        )
    return word


def _listed(names: Sequence[str | None]) -> str:
    said = [name for name in names if name]
    return f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else "".join(said)


def _called(name: str) -> str | None:
    """What a place of a template asks for, in words; None where it names no task."""
    tasks = {task for word in _words(name.replace("_", " ")) for task in noun_tasks(word)}
    return table()["asked_as"].get(tasks.pop()) if len(tasks) == 1 else None


def _describes(text: str) -> bool:
    """Whether what stands behind "the words" says more of them: "the word sequence", "the words in German"."""
    words = _words(text)
    return bool(words) and (words[0] in table()["words"]["after_nouns"] or any(map(noun_tasks, words)))


def _similar_verb(word: str) -> bool:
    return any(known in table()["words"]["verbs"] for known in similar_words(word))


def _has_json(text: str) -> bool:
    return "json" in text.lower()


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _denies(words: Sequence[str]) -> bool:
    """Whether a clause names things only to exclude them: "no further words"."""
    return any(
        word in ("no", "not", "without", "nothing", "exclude", "excluding", "omit", "avoid", "except", "nichts", "ohne", "keine")
        for word in words
    )


def _cut(segment: str, match: re.Match[str]) -> str:
    """A clause without a demand, and without the words that led to it."""
    before = re.sub(
        r"\b(?:(?:and|und)\s+)?(?:(?:in|as|into|to|using|with|all|by|mit|als|entirely|fully|only)\s+)+(?:a |an |the )?$",
        "",
        segment[: match.start()],
        flags=re.IGNORECASE,
    )
    return f"{before} {segment[match.end() :]}"


def _without_marks(text: str) -> str:
    return "".join(" " if is_mark(letter) else letter for letter in text)


def _label_of(item: str, names: Mapping[str, Sequence[str]]) -> str:
    """The label that a word means, its typos too; empty for none."""
    word = item.casefold()
    exact = next((label for label, said in names.items() if word in said), "")
    if exact or len(word) < 4:
        return exact
    return next((label for label in names if label[0] == word[0] and OSA.distance(word, label, score_cutoff=1) <= 1), "")


def _tidy(text: str) -> str:
    """A text without the gaps that demands leave."""
    text = re.sub(r"\s+", " ", re.sub(r"\(\s*\)|(?<=\s)[()](?=\s|[.;!?]|$)|^\)", " ", text))
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    text = re.sub(r"(?:^|(?<=[.;!?]))[\s,.;:]+", " ", text)
    text = re.sub(r"[\s,;:]*\b(?:and|und|then|dann|but|with|by|as|please)\s*(?=[.;!?]|$)", "", text.strip(), flags=re.IGNORECASE)
    return re.sub(r"[\s,;:]+$", "", text).strip()
