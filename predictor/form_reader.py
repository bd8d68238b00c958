"""What an instruction says of its answer's form, and what is left of it to say the task.

Literals are found first (`literals.py`); the words around each say its role: prefix, suffix, wrapping, separator, key or labels.
Demands without a literal ("in capitals", "as JSON") are phrases. What is a demand is no evidence for a task, so it is taken out.
A demand that also names the task's answer ("only the caption") is *soft*: the router drops it where the rest says as much.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .clause_text import WORD, asked_as, denies, has_json, listed, spelled, tidy, without_marks, without_phrases, words_of
from .demand_spans import behind_request, excerpt, is_shaped_name
from .form_cues import is_cue, is_demand_word, noun_tasks, unsupported_forms
from .form_reading import Demand, FormReading
from .label_lists import LabelRun, Names, is_complete, label_runs, named_labels
from .literal_roles import is_pair
from .literals import Masked, is_mark, mask_literals
from .part_forms import read_part_forms
from .quoting import with_quotes
from .segments import segments
from .spelling import SpellingMender
from .spoken_forms import SpokenForms, unquoted_names

_TOKEN = re.compile(r"[^\W_][\w'’-]*|[\uE100-\uE1FF]|[^\s\w]")
_FIRST_OR_LAST = frozenset(("first", "last", "opening", "closing", "initial", "final", "ersten", "letzten"))  # "your first words"
_OUTER = ("prefix", "suffix", "wrap", "separator")
_NOT_JSON = re.compile(
    r"\b(?:no|not|without|kein|ohne|never|don't use|do not use|isn't) (?:a |an |any |as |in |the )*json", re.IGNORECASE
)
_JSON_TYPO = re.compile(
    r"\b(?:jason(?=\s+(?:with|object|format|style|please|mit|bitte)\b)|"
    r"(?<=\bas )jason|(?<=\bin )jason|(?<=\bals )jason|jsno|josn|jsn|jsom)\b",
    re.IGNORECASE,
)
_SHAPES = frozenset(("square", "curly", "angle", "round", "double", "triple"))  # of brackets, beside the marks themselves


def read_form(instruction: str, mend: SpellingMender | None = None) -> FormReading:
    """Read the form that an instruction asks for.

    Args:
        instruction: the words.
        mend: mends misspelt words, but for literals and for names that are written without quotes.
    """
    instruction = with_quotes(_JSON_TYPO.sub("json", instruction))
    masked = mask_literals(instruction)
    if len(masked.literals) == 1 and masked.literals[0].kind == "quote" and not WORD.search(masked.text):
        return read_form(masked.literals[0].text, mend)  # all of it stands in quotes
    if mend is None:
        return _Reader(instruction, masked).read()
    literals = masked.literals
    masked = replace(masked, text=mend(masked.text, lambda text: unquoted_names(Masked(text, literals)), _is_read))
    read = _Reader(instruction, masked).read()
    return replace(read, content=mend(read.content), whole=mend(read.whole))


def _is_read(word: str) -> bool:
    """Whether a word is read as a demand's, slips and all."""
    return is_demand_word(word) or spelled(word) != word


class _Reader(SpokenForms):
    """Reads one masked instruction; collects what it finds."""

    def __init__(self, instruction: str, masked: Masked) -> None:
        text = masked.text
        asked = bool(has_json(text) and not _NOT_JSON.search(text))
        keys = any(literal.kind == "json" or (self._key_braces(literal) and not words_of(text)) for literal in masked.literals)
        super().__init__(masked, asked or keys)
        self.instruction = instruction
        self.labels: Names = {}
        self.labelled = ""
        self.unsupported: list[str] = []
        self.unread: list[str] = []
        self.content: list[str] = []
        self.soft: list[Demand] = []
        self.whole: list[str] = []

    def read(self) -> FormReading:
        """Read it."""
        self.labels, text = named_labels(self.masked, self._without_unsupported(self.masked.text))
        if self.json:
            text = self.read_named_keys(text)
        text, parts = read_part_forms(text, self._read_clause)
        pieces = segments(self.masked, text)
        for segment, ending in pieces:
            self._read_segment(segment, ending, alone=len(pieces) == 1)
        content, whole = self._content(text)
        return FormReading(
            format=self._settled_format(),
            content=content,
            soft=tuple(self.soft),
            whole=whole,
            json=self.json,
            labels=self._wished_labels(as_written=not text.isupper()),
            labelled=self.labelled,
            parts=parts,
            order=self.order,
            unsupported=tuple(dict.fromkeys(self.unsupported)),
            unread=tuple(dict.fromkeys(self.unread)),
        )

    def _read_clause(self, text: str) -> FormReading:
        """The form that a clause asks for by itself."""
        masked = replace(self.masked, text=text)
        return _Reader(text, masked).read()

    def _settled_format(self) -> dict[str, Any]:
        """The format as all of the instruction has it: a prefix and a suffix may be a wrapping, a quoted text a key."""
        found = dict(self.format)
        if "wrap" not in found and is_pair(found.get("prefix", ""), found.get("suffix", "x")):
            found["wrap"] = (found.pop("prefix"), found.pop("suffix"))
        if not self.json:
            return found
        found["layout"] = "json"
        for role in ("prefix", "suffix", "wrap"):
            said = found.get(role)
            if said is not None and (said in self.keys or (isinstance(said, tuple) and said[0] in self.keys)):
                del found[role]
        return found | ({"keys": tuple(dict.fromkeys(self.keys))} if self.keys else {})

    def _content(self, text: str) -> tuple[str, str]:
        """The instruction without demands, and with the soft ones; where literals are all there is, what they name."""
        content = tidy(" ".join(self.content))
        whole = tidy(" ".join(self.whole)) or tidy(without_marks(text))
        named = self.order or (tuple(self.keys) if self.json and not any(demand.tasks for demand in self.soft) else ())
        if named and not any(noun_tasks(word) or not is_demand_word(word) for word in words_of(without_phrases(content))):
            content = self._named_parts(named)
        return content if WORD.search(content) else whole, whole

    def _wished_labels(self, *, as_written: bool) -> Names:
        """The names for labels that differ from ours; in an instruction of capitals labels have capitals for no reason."""
        shown = {
            task: {ours: name if as_written else name.lower() for ours, name in names.items()}
            for task, names in self.labels.items()
        }
        differing = {task: {ours: name for ours, name in names.items() if ours != name} for task, names in shown.items()}
        return {task: names for task, names in differing.items() if names}

    def _named_parts(self, names: Sequence[str]) -> str:
        """What keys or places of a template ask for, where nothing else does; all as it is written if they name no answers."""
        parts = [asked_as(name) for name in names]
        return listed(parts) if None not in parts else self.instruction

    def _without_unsupported(self, text: str) -> str:
        for name, pattern in unsupported_forms():
            if pattern.search(text):
                self.unsupported.append(name)
                text = pattern.sub(" ", text, count=1)
        return text

    def _read_segment(self, segment: str, ending: str, *, alone: bool) -> None:
        runs = label_runs(self.masked, segment)
        if runs and self._read_labels(segment, runs[0], alone):
            return
        if any(is_mark(letter) for letter in segment):
            rest = self._read_literals(segment)
            if self.json and self.content and not any(map(noun_tasks, words_of(rest))):
                return
        else:
            rest = self.read_bare(segment)
        literal = rest != segment and not any(literal.text == "{}" for literal in self.masked.literals_in(segment))
        rest, found = self.read_phrases(rest)
        self._keep(rest, ending, demanded=found or literal)

    def _read_labels(self, segment: str, run: LabelRun, alone: bool) -> bool:
        """A list of labels in a clause that says nothing but how to answer."""
        start, end, named = run.start, run.end, run.names
        words = words_of(f"{segment[:start]} {segment[end:]}")
        if {"he", "she"} & set(words_of(segment[start:end])) and {"is", "was", "does", "did"} & set(words):
            return False  # "is it a he or a she?" asks
        bare = all(is_demand_word(word) or noun_tasks(word) for word in words)
        quoted = any(map(is_mark, segment[start:end]))
        if alone and not words:
            return False
        if not bare and not (quoted and any(is_cue(word, "labels") for word in words if word not in ("says", "saying"))):
            return self._read_labels_behind(segment, run)
        before, after = (
            self.read_phrases(self._read_literals(text) if any(map(is_mark, text)) else text)[0]
            for text in (segment[:start], segment[end:])
        )
        for task, names in named.items():
            self.labels.setdefault(task, {}).update(names)
        asks = any(is_cue(word, role) for word in words for role in ("labels", "only")) and not {"without", "omit"} & set(words)
        if asks and is_complete(named) and all(noun_tasks(word) <= named.keys() for word in words):
            self.labelled = next(iter(named))
        shown = " or ".join(next(iter(named.values())).values())
        self._soften(f"{before} {shown} {after}", frozenset(named))
        return True

    def _read_labels_behind(self, segment: str, run: LabelRun) -> bool:
        """A list of labels behind a request, with no mark between: "tell the mood limit to happy or sad"."""
        start, end, named = run.start, run.end, run.names
        tokens = list(WORD.finditer(segment, 0, start))
        first = len(tokens)
        while first and is_demand_word(tokens[first - 1][0].lower()):
            first -= 1
        words = [token[0].lower() for token in tokens[first:]]
        asks = any(
            is_cue(word, "labels") or is_cue(word, "only") for word in words if word not in ("say", "says", "saying", "one")
        )
        if not first or not asks or not all(map(is_demand_word, words_of(segment[end:]))):
            return False
        for task, names in named.items():
            self.labels.setdefault(task, {}).update(names)
        request, _ = self.read_phrases(segment[: tokens[first].start()])
        self._keep(request, ".", demanded=False)
        return True

    def _read_literals(self, segment: str) -> str:
        """Give the literals of a clause their roles; what is left of the clause."""
        if placed := excerpt(segment):
            self.unread += [literal.text for literal in self.masked.literals_in(placed)]
            return without_marks(segment.replace(placed, " "))
        tokens = list(_TOKEN.finditer(segment))
        marks = [at for at, token in enumerate(tokens) if is_mark(token[0])]
        start, end = marks[0], marks[-1]
        while start > 0 and (self._may_demand(tokens[start - 1][0]) or is_shaped_name(tokens, start - 1)):
            start -= 1
        while end + 1 < len(tokens) and self._may_demand(tokens[end + 1][0]):
            end += 1
        start = behind_request(tokens, start, marks[0])
        span = tokens[start : end + 1]
        words = [token[0].lower() for token in span]
        literals = self.masked.literals_in(segment)
        places = [at - start for at in marks]
        role = self.role_of(words, places, literals)
        if role is None:
            before = self._last_demand()
            role = self.role_of([*before, *words], [place + len(before) for place in places], literals) if before else None
            if role is not None:
                self._drop_last(len(before))
        if role is None:
            self.json = self.json or any(literal.text == "{}" for literal in literals)  # "gender, mood {}"
            if any(is_cue(word, role) for word in words if WORD.match(word) for role in _OUTER):
                self.unread += [literal.text for literal in literals if literal.kind == "quote"]
            return without_marks(segment)
        left, right = segment[: span[0].start()], segment[span[-1].end() :]
        said = [word for before, word in zip(["", *words], words, strict=False) if before not in _FIRST_OR_LAST]
        named = frozenset(task for word in said for task in noun_tasks(word))
        if named:
            self._soften(segment[span[0].start() : span[-1].end()], named)
        return f"{left} {right}"

    def _soften(self, text: str, tasks: frozenset[str]) -> None:
        demand = Demand(tidy(without_marks(text)), tasks)
        self.soft.append(demand)
        self.whole.append(f"{demand.text}.")

    def _last_demand(self) -> list[str]:
        """The words of a demand that the content ends with: "…, at the start"."""
        words = [word.lower() for word in WORD.findall(self.content[-1])] if self.content else []
        count = 0
        while count < min(6, len(words)) and is_demand_word(words[-1 - count]):
            count += 1
        return words[len(words) - count :]

    def _drop_last(self, count: int) -> None:
        matches = list(WORD.finditer(self.content[-1]))
        self.content[-1] = self.content[-1][: matches[-count].start()] if count < len(matches) else ""

    def _may_demand(self, token: str) -> bool:
        word = token.lower()
        if not WORD.match(token) or is_demand_word(word) or word in _SHAPES:
            return True
        if noun_tasks(word):
            return self.json
        return len(word) <= 3 and word.isalpha()  # a typo of a small word

    def _keep(self, rest: str, ending: str, *, demanded: bool) -> None:
        """Take down what a clause says besides its form: as content, or as a soft demand."""
        words = words_of(rest)
        if not words:
            return
        if has_json(rest) and self.content and all(map(is_demand_word, words_of(without_phrases(rest)))):
            return
        named = frozenset(task for word in words for task in noun_tasks(word))
        bare = all(is_demand_word(word) or noun_tasks(word) for word in words)
        only = any(is_cue(word, "only") for word in words) or ("word" in words and bool({"one", "single", "a"} & set(words)))
        if bare and demanded and not named:
            return
        excludes = denies(words) and not demanded and named - {"asr", "aac"}  # "no mood", unlike "no further words"
        if bare and (demanded or only) and not excludes:
            if only and not demanded and denies(words):
                named = frozenset()
            self._soften(rest, named)
            return
        if bare and not named and any(is_cue(word, "separator") for word in words) and "separator" in self.format:
            return
        self.content.append(rest.strip() + ending)
        self.whole.append(rest.strip() + ending)
