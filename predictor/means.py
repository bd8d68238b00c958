"""What an instruction says of how to find the answer, which asks for nothing.

`Listen to the words, weighing what is said and how, and name the emotion` asks for the emotion alone. Such words name what other
tasks give, and a reader of single words takes them for more parts; the router reads an instruction again without them.
"""

import re
from dataclasses import dataclass
from functools import cache

from .form_cues import table


@dataclass(frozen=True)
class _Patterns:
    """Patterns of `[means]` in `wordings/forms.toml`.

    Attributes:
        goal: names of answers, a group for each kind.
        preparation: "listen to the …, and", before a verb that asks.
        clauses: what is left out wherever it stands.
    """

    goal: re.Pattern[str]
    preparation: re.Pattern[str]
    clauses: tuple[re.Pattern[str], ...]


@cache
def _patterns() -> _Patterns:
    said = {kind: "|".join(expressions) for kind, expressions in table()["means"].items()}
    answer, by = rf"(?:to )?(?:{said['answer']})\b", rf"(?:{said['by']})\b"
    question = r"(?:(?:could|can|would|will) you|i would|what|which|how|is|are|who)\b"
    asks = rf"(?:(?:please|kindly|then|also|bitte) )*(?:{answer}|{question})"
    goals = "|".join(rf"\b(?P<goal{at}>{goal})\b" for at, goal in enumerate(table()["means"]["goals"]))
    preparation = (
        r"^\W*(?:(?:please|kindly|could you|can you|would you|first|carefully|attentively|bitte)[, ]+)*"
        rf"(?:{said['looking']})\b(?P<object>[^.;!?]*?)"
        rf"(?:,? (?:and|then|und|dann)(?: then| dann)?|[,;]) (?=(?:(?:please|then|finally|also) )*{answer})"
    )
    clauses = (
        rf"^\W*{by}[^.;!?]*?, (?={asks})",
        rf",? \b{by}[^.;!?]*?(?=,? (?:and |then )?(?:please )?{answer}|[.;!?]|$)",
        r",? \b(?<!followed )(?<!preceded )(?:behind|through|towards?|in|from|by|over) "
        r"(?:the|these|those|his|her|their|this|that) (?:speaker['’]s |spoken |given )?"
        r"(?:words|speech|sentence|utterance|voice|tone|delivery|(?:way|manner)(?: in which)?[^.,;!?]*)"
        r"(?: (?:spoken|said|uttered))?",
        r",? \bwhile (?:saying|speaking|uttering)\b[^.,;!?]*",
    )
    compiled = [re.compile(text, re.IGNORECASE) for text in (goals, preparation, *clauses)]
    return _Patterns(compiled[0], compiled[1], tuple(compiled[2:]))


def without_means(text: str) -> str:
    """A text without what it says of how to find the answer; as it is where that names what is asked for."""
    patterns = _patterns()
    found = patterns.preparation.match(text)
    rest = text[found.end() :] if found and _goals(found["object"]) <= _goals(text[found.end() :]) else text
    for pattern in patterns.clauses:
        shorter = pattern.sub("", rest)
        rest = shorter if patterns.goal.search(shorter) else rest
    return rest.strip() if patterns.goal.search(rest) else text


def _goals(text: str) -> set[str]:
    """Which kinds of answer a text names."""
    return {kind for match in _patterns().goal.finditer(text) for kind, said in match.groupdict().items() if said}
