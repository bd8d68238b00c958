"""Demands without a quoted text: case, lines, separators and brackets by their names, prefixes and keys that are just written."""

import re

from .clause_text import WORD, cut, describes, spelled, words_of
from .form_cues import is_cue, is_demand_word, named_patterns, phrases
from .label_lists import label_pairs, label_runs
from .literal_roles import LiteralRoles
from .literals import Masked, is_mark

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
    r"(?:shall be|should be|must be|are|be|is|named|called|sind|sollen|heißen|lauten)?\s*:?\s*([^.?!:;()\n]+)",
    re.IGNORECASE,
)
_IN_ORDER = re.compile(
    r"[,\s]*\b(?:in (?:that|this|the same|exactly (?:that|this)) order|respectively|please|bitte|in dieser reihenfolge)\b.*$",
    re.IGNORECASE,
)
_BEHIND_KEYS = re.compile(r"\s+(?:as|in|for|of|als|für)\s+(?!(?:that|this|the same|exactly|dieser)\b)", re.IGNORECASE)
_KEY_LIST = r"[^\W\d]\w{0,39}(?:\s*,\s*[^\W\d]\w{0,39})*\s*,?\s*(?:and|und|&)\s+[^\W\d]\w{0,39}"
_KEYS_BEHIND = re.compile(rf"\b(?:under|unter)\s+(?:the\s+)?({_KEY_LIST})(?=\s*(?:[.;!?]|$))", re.IGNORECASE)
_AS_KEYS = re.compile(
    rf"\b(?:with|using|mit)\s+({_KEY_LIST})\s+(?:as|als)\s+(?:the\s+|its\s+|json\s+)*(?:keys?|fields?|names|attributes|properties|schlüssel)\b",
    re.IGNORECASE,
)
_KEYS_MARKED = re.compile(  # names that are no words, such as `sex_1 and text_1`
    r"\b(?:with|of|mit)\s+((?=\w*[_\d])[^\W\d]\w{0,39}(?:\s*,\s*(?=\w*[_\d])[^\W\d]\w{0,39})*\s*,?\s*(?:and|und|&)\s+"
    r"(?=\w*[_\d])[^\W\d]\w{0,39})\b",
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
_LED_BY = r"\b(?:in|within|inside|between|with|by|into|mit|zwischen|using|of)\s+(?:a pair of |a |an |the |two )?"
_SYMBOL = re.compile(
    r"(?:\b(?:by|with|using|durch|mit)\s+(?:an?\s+|the\s+)?|\b(?:delimiters?|separators?|trennzeichen)\b\s*(?:[:=]|is|ist|being)?\s*)"
    r"([^\w\s.,:\uE100-\uE1FF][^\w\s.,\uE100-\uE1FF]{0,2})(?=[\s.]|$)",
    re.IGNORECASE,
)
_MARKS = r"([^\w\s.,;:!?\uE100-\uE1FF]{1,4})"
_WRAPPED = re.compile(
    rf"\b(?:put|place|add|set|with|setze?|stelle?)\s+{_MARKS}\s+(?:on (?:both|either) sides?|at (?:both|either) ends?|"
    rf"around|before and after|to the left and (?:the )?right|davor und dahinter|auf beiden seiten)\b|"
    rf"\b(?:wrap|enclos|surround|bracket|between|within|zwischen)\w*(?:\s+[^\W\d_]+){{0,4}}?\s*:?\s*{_MARKS}\s*(?:,|\band\b|\bund\b)\s*{_MARKS}",
    re.IGNORECASE,
)
_NOT_LOWER = re.compile(
    r"\b(?:no|without(?: any| a single| one)?|never|not in|not a single|avoid) (?:small|lower[- ]?case|little) ?"
    r"(?:letters?|characters?)?",
    re.IGNORECASE,
)
_NAME = re.compile(r"[^\W\d]\w{0,39}")


_KEYS = (_AS_KEYS, _KEYS_LISTED, _KEYS_BEHIND, _KEYS_MARKED)


def unquoted_names(masked: Masked) -> list[tuple[int, int]]:
    """Where an instruction may write a literal without quotes: a prefix, a key, a label."""
    text = masked.text
    names = [match.span(1) for pattern in (_BARE, *_KEYS) for match in pattern.finditer(text)]
    names += [match.span(2) for match in _KEY_NAMED.finditer(text)]
    return [*names, *((run.start, run.end) for run in label_runs(masked, text)), *label_pairs(text)]


class SpokenForms(LiteralRoles):
    """Reads demands that quote nothing, and takes down what they say.

    Args:
        masked: the instruction.
        json: whether the answer is to be JSON.
    """

    def __init__(self, masked: Masked, json: bool) -> None:
        super().__init__(json)
        self.masked = masked

    def read_bare(self, segment: str) -> str:
        """Prefixes and suffixes without quotes; what is left of the clause."""
        rest = segment
        for bare in reversed(list(_BARE.finditer(segment))):
            if self._read_bare(bare):
                rest = f"{rest[: bare.start()]} {rest[bare.end() :]}"
        return rest

    def _read_bare(self, match: re.Match[str]) -> bool:
        """A prefix or suffix without quotes: `begin with Result:`, `end with the word over`."""
        said = match[1].strip()
        named = bool(_NAMED.search(match[0][: match.start(1) - match.start()].strip())) and not describes(said)
        if not named and not re.search(r"[:#>\]\}*_]$|^[A-Z][A-Z_]+$|^[#<\[{*_]", said):
            return False
        verb = match[0].split()[0].lower()
        role = "suffix" if is_cue(verb, "suffix") else "prefix"
        self.format[role] = said
        return True

    def read_phrases(self, segment: str) -> tuple[str, bool]:
        """Demands without a literal; what is left of the clause, and whether there were any."""
        found = False
        segment = WORD.sub(lambda word: spelled(word[0]), segment)
        if match := _NOT_LOWER.search(segment):
            self.format.setdefault("case", "upper")
            segment, found = cut(segment, match), True
        for case in ("title", "lower", "upper"):
            for pattern in phrases(case):
                if match := pattern.search(segment):
                    self.format.setdefault("case", case)
                    segment, found = cut(segment, match), True
        segment, separated = self._named_separator(segment)
        segment, wrapped = self._named_wrapper(segment)
        for layout in ("lines", "list"):
            for pattern in phrases(layout):
                match = pattern.search(segment)
                if match and not self.json and not separated:
                    self.format.setdefault("layout", layout)
                    segment, found = cut(segment, match), True
        return segment, found or separated or wrapped

    def _named_separator(self, segment: str) -> tuple[str, bool]:
        """A separator by its name: "separated by a comma", "with a slash between"."""
        words = [part for word in words_of(segment) for part in word.split("-")]
        if not any(is_cue(word, "separator") for word in words if word) or self.json:
            return segment, False
        for pattern, separator in named_patterns("separators"):
            match = pattern.search(segment)
            if match:
                self.format.setdefault("separator", separator)
                rest = f"{segment[: match.start()]} {segment[match.end() :]}"
                bare = all(is_demand_word(word.strip("-")) for word in words_of(rest))
                return (
                    (" ", True) if bare else (segment, False)
                )  # else it is read as before: "with a bar between" is a known wording
        symbol = _SYMBOL.search(segment)
        if symbol:
            self.format.setdefault("separator", symbol[1])
        return segment, False

    def _named_wrapper(self, segment: str) -> tuple[str, bool]:
        """Brackets and quotes by their names, "in square brackets", and marks: "put ** on both sides"."""
        marks = _WRAPPED.search(segment)
        if marks and "separator" not in self.format:
            left, right = (marks[1], marks[1]) if marks[1] else (marks[2], marks[3])
            self.format.setdefault("wrap", (left, right))
            return cut(segment, marks), True
        for pattern, (left, right) in named_patterns("wrappers"):
            match = re.compile(
                rf"{_LED_BY}(?:(?P<twice>double|doppelten?)|(?P<thrice>triple|dreifachen?))?\s*{pattern.pattern}", re.IGNORECASE
            ).search(segment)
            if match and "separator" not in self.format:
                times = 2 if match["twice"] else 3 if match["thrice"] else 1
                self.format.setdefault("wrap", (left * times, right * times))
                return cut(segment, match), True
        return segment, False

    def read_named_keys(self, text: str) -> str:
        """Keys without quotes: "the keys are sex and text", "under speaker_sex", "key SER"; the text without them."""
        for match in (match for pattern in _KEYS for match in pattern.finditer(text)):
            listed = _BEHIND_KEYS.split(match[1])[0]
            pieces = re.split(r"\s*(?:,|;|\band\b|\bund\b|&|\+|/)\s*", _IN_ORDER.sub("", listed).strip())
            words = [self.masked.shown(word) for word in pieces if word]
            if words and all(_NAME.fullmatch(word) for word in words):
                self.keys += words
                before = text[: match.start()].removesuffix("the ").removesuffix("with ")
                end = match.end() if match.re is _AS_KEYS else match.start(1) + len(listed)
                return f"{before} {text[end:]}"
        for match in _KEY_NAMED.finditer(text) if not any(map(is_mark, text)) else ():
            if (match[1] or re.search(r"[_A-Z\d]", match[2])) and match[2].lower() not in _KEY_STOP:
                self.keys.append(match[2])
                return f"{text[: match.start()]} {text[match.end() :]}"
        return text
