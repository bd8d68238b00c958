"""Instructions whose marks, templates and lists stand without quotes, written as those that the readers know.

`wrap: ((, ))` becomes `wrap: "((" and "))"`, `format: transcript|gender` becomes `format: <transcript>|<gender>`, and labels in
brackets, `[happy, sad]`, become a plain list. What stands in quotes stays to the letter.
"""

import re
from collections.abc import Callable

from .form_cues import noun_tasks
from .label_lists import label_runs
from .literals import Masked, mask_literals

_BARE_TEMPLATE = re.compile(
    r"(?P<lead>\b(?:format|template|layout|schema|muster)\b(?:\s+(?:is|ist|of))?\s*[:=]?\s*)"
    r"(?P<body>[^\W\d_]+(?:\s?[|/;,+&#~_-]{1,3}\s?[^\W\d_]+)+)(?![\w-])",
    re.IGNORECASE,
)
_MARK = r"(?:[()\[\]{}<>*#~=+|/\\^$%@&_:-]{2,4}|[()\[\]{}<>*#~=+|/\\^$%@&])"
_CALLED = (  # what may stand right before a mark that is meant
    r"\b(?:(?:with|by|using|mit|durch|put|place|add|insert|setze?|between|zwischen|in|within|inside|into)(?: (?:an?|the|two))?|"
    r"(?:wrap\w*|enclos\w*|surround\w*|prefix|suffix|separator|delimiters?|trennzeichen|präfix|brackets?|braces|"
    r"parenthes[ei]s|marks?|symbols?|characters?|signs?|tags?|klammern|zeichen)(?: (?:is|are|being|ist|sind))?\s*[:=]?)\s+"
)
_PAIR = re.compile(rf"({_CALLED})({_MARK})(?:\s*,\s*|\s+(?:and|und)\s+|\s+)({_MARK})(?=[\s.,;!?]|$)", re.IGNORECASE)
_SINGLE = re.compile(rf"({_CALLED})({_MARK})(?=[\s.,;!?]|$)", re.IGNORECASE)
_SEPARATES = re.compile(
    r"\b(?:separat\w*|join\w*|divid\w*|split|link\w*|connect\w*|delimit\w*|getrennt|verbunden|trenne\w*) \w+(?: an?)? $",
    re.IGNORECASE,
)
_AS_SEPARATOR = re.compile(r" (?:as|als) (?:the |an? )?(?:separat|delimit|trenn)", re.IGNORECASE)
_BREAKS = ("=>", "->", "--")  # which end a clause elsewhere
_TIGHT_LIST = re.compile(r"(?<=\w);(?=[^\W\d_])")
_BRACKETED = re.compile(r"[\[({]\s*([^\W_][\w-]*(?:\s*[,/|;]\s*(?:or\s+|and\s+)?[^\W_][\w-]*)+)\s*[\])}]")
_KEEP = ("quote", "json", "template", "starred")


def with_quotes(instruction: str) -> str:
    """An instruction with its bare marks in quotes, a bare template in brackets and its lists plain."""
    text = _BARE_TEMPLATE.sub(_as_template, instruction)
    text = _outside_literals(_PAIR, text, lambda match: f'{match[1]}"{match[2]}" and "{match[3]}"')
    text = _outside_literals(_SINGLE, text, _quoted)
    text = _outside_literals(_TIGHT_LIST, text, lambda _: "; ")
    return _outside_literals(_BRACKETED, text, _as_list)


def _outside_literals(pattern: re.Pattern[str], text: str, written: Callable[[re.Match[str]], str]) -> str:
    """Replace what is no part of a literal in quotes."""
    if not pattern.search(text):
        return text
    kept = [(literal.start, literal.end) for literal in mask_literals(text).literals if literal.kind in _KEEP]
    return pattern.sub(
        lambda match: match[0] if any(a < match.end() and match.start() < b for a, b in kept) else written(match), text
    )


def _quoted(match: re.Match[str]) -> str:
    """A mark in quotes, but for a separator that is read as it is."""
    read = _SEPARATES.search(match.string, 0, match.start(2)) or _AS_SEPARATOR.match(match.string, match.end())
    return match[0] if read and ":" not in match[2] and match[2] not in _BREAKS else f'{match[1]}"{match[2]}"'


def _as_list(match: re.Match[str]) -> str:
    """Labels in brackets as a plain list."""
    runs = label_runs(Masked(match[1], ()), match[1])
    return match[1] if runs and (runs[0].start, runs[0].end) == (0, len(match[1])) else match[0]


def _as_template(match: re.Match[str]) -> str:
    """`format: transcript|gender` as `format: <transcript>|<gender>`, where all of it names answers."""
    names = re.findall(r"[^\W\d_]+", match["body"])
    if not all(noun_tasks(name.lower()) for name in names):
        return match[0]
    return match["lead"] + re.sub(r"[^\W\d_]+", lambda name: f"<{name[0]}>", match["body"])
