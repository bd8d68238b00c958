"""Which role the literals of a clause have: prefix, suffix, wrapping, separator, key, or template of the answer."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .form_cues import is_cue, named_patterns
from .literals import Literal, json_keys_of, template_parts

_WORD = re.compile(r"[^\W_][\w'’-]*")
_NAME = re.compile(r"[^\W\d][\w-]{0,39}")
_SEPARATOR_NOUNS = frozenset(("delimiter", "delimiters", "separator", "separators", "trennzeichen"))
_OPENERS = {"(": ")", "[": "]", "{": "}", "<": ">", "«": "»", "“": "”", "„": "“"}


class LiteralRoles:
    """Gives literals their roles, and takes down what they say.

    Args:
        json: whether the answer is to be JSON.
    """

    def __init__(self, json: bool) -> None:
        self.json = json
        self.format: dict[str, Any] = {}
        self.keys: list[str] = []
        self.order: tuple[str, ...] = ()

    def role_of(self, words: Sequence[str], places: Sequence[int], literals: Sequence[Literal]) -> str | None:
        """The role of the literals of one clause; taken down as it is found."""
        structured = [literal for literal in literals if literal.kind in ("json", "template") or self._key_braces(literal)]
        for literal in structured:
            self._read_template(literal)
        quotes = [(place, literal) for place, literal in zip(places, literals, strict=True) if literal not in structured]
        if not quotes:
            return "template" if structured else None
        scores = {role: self._score(role, words, places) for role in ("prefix", "suffix", "wrap", "separator", "key")}
        if self.json and scores["key"] > 0 and scores["key"] >= scores["prefix"]:
            self.keys += [literal.text.strip() for _, literal in quotes]
            return "key"
        if self.json and len(quotes) == 1 and not any(scores.values()) and _NAME.fullmatch(quotes[0][1].text.strip()):
            self.keys.append(quotes[0][1].text.strip())
            return "key"
        if len(quotes) == 2:
            return self._pair_role(words, [place for place, _ in quotes], [literal.text for _, literal in quotes], scores)
        if len(quotes) == 1:
            return self._single_role(words, quotes[0][0], quotes[0][1].text, scores)
        if self.json and not scores["prefix"] and not scores["suffix"] and {"with", "mit"} & set(words):
            self.keys += [literal.text.strip() for _, literal in quotes]
            return "key"
        return "template" if structured else None

    @staticmethod
    def _key_braces(literal: Literal) -> bool:
        return literal.kind == "bracket" and literal.text.startswith("{") and "," in literal.text

    def _read_template(self, literal: Literal) -> None:
        """`{"sex": …}` names keys, `<gender>/<words>` a separator, both the order."""
        if literal.kind == "template":
            names, between = template_parts(literal.text)
            self.order = names
            if between is not None and "separator" not in self.format and not self.json:
                self.format["separator"] = between.strip() or between
            return
        inner = literal.text.strip("{} ")
        keys = json_keys_of(literal.text) if literal.kind == "json" else tuple(key.strip(" \"'") for key in inner.split(","))
        if literal.kind == "bracket" and not self.json:
            return
        self.keys = list(dict.fromkeys([*keys])) if len(keys) >= len(self.keys) else self.keys
        self.order = tuple(keys)

    @staticmethod
    def _score(role: str, words: Sequence[str], places: Sequence[int]) -> float:
        """How much the words of a clause speak for a role: the nearest counts most."""
        return max(
            (
                1 / (2 + min(abs(at - place) for place in places))
                for at, word in enumerate(words)
                if _WORD.match(word) and is_cue(word, role)
            ),
            default=0.0,
        )

    def _pair_role(
        self, words: Sequence[str], places: Sequence[int], texts: Sequence[str], scores: Mapping[str, float]
    ) -> str | None:
        said = set(words)
        wraps = {word for word in words if _WORD.match(word) and is_cue(word, "wrap")}
        around = bool(said & {"before", "front", "left", "opening", "open", "ahead", "vor", "links"}) and bool(
            said & {"after", "behind", "back", "right", "closing", "close", "end", "nach", "rechts", "hinter"}
        )
        outer = [self._score(role, words, [place]) for role, place in (("prefix", places[0]), ("suffix", places[1]))]
        verbs = any(word.startswith(("begin", "start")) for word in words) and any(
            word.startswith(("end", "finish", "conclu")) for word in words
        )
        if all(outer) and verbs and not wraps - {"around"} and not is_pair(*texts):
            self.format["prefix"], self.format["suffix"] = texts
            return "prefix"
        if wraps or around or "between" in said or is_pair(*texts):
            self.format["wrap"] = (texts[0], texts[1])
            return "wrap"
        if all(outer):
            self.format["prefix"], self.format["suffix"] = texts
            return "prefix"
        if self.json and said & {"with", "mit"}:
            self.keys += [text.strip() for text in texts]
            return "key"
        return None

    def _single_role(  # noqa: PLR0912 - a case for each word that settles it
        self, words: Sequence[str], place: int, text: str, scores: Mapping[str, float]
    ) -> str | None:
        if "follow" in words and "with" in words:
            role = "suffix"
        elif "followed" in words:
            role = "prefix" if place < words.index("followed") else "suffix"
        elif _SEPARATOR_NOUNS & set(words):
            role = "separator"
        elif {"before", "after"} <= set(words) or {"vor", "nach"} <= set(words):
            role = "wrap"
        elif "before" in words or "vor" in words:
            role = "prefix"
        else:
            weak = {"tag", "pair", "contain", "contains", "quote", "frame", "within", "inside", "quotes", "tags", "tagged"}
            wraps = {word for word in words if _WORD.match(word) and is_cue(word, "wrap")}
            outer = {role: scores[role] for role in ("prefix", "suffix") if scores[role]}
            if wraps - weak and not any(word in words for word in ("end", "begin", "start")) and "between" not in words:
                outer["wrap"] = scores["wrap"] + 0.1
            elif wraps and not outer and "between" not in words:
                outer["wrap"] = scores["wrap"]
            if (
                scores["separator"]
                and (not outer or "between" in words or "zwischen" in words)
                and not (wraps - weak - {"zwischen"})
            ):
                outer["separator"] = scores["separator"] + 0.05
            if scores["key"] and not outer and self.json:
                outer["key"] = scores["key"]
            then = {at < place for at, word in enumerate(words) if word in ("then", "dann")}
            part_behind = words[-1] in ("the", "a", "then", "dann", "der", "die", "das")  # it ended at what a part is called
            if not outer and (len(then) == 2 or (then == {False} and part_behind)):  # the words, then "-", then the mood
                outer["separator"] = 1.0
            elif not outer and then:  # write "-", then the answer
                outer["suffix" if True in then else "prefix"] = 1.0
            if not outer:
                return None
            role = max(outer, key=outer.__getitem__)
        if role == "wrap":
            self.format["wrap"] = _halves(text)
        elif role == "separator":
            self.format["separator"] = _separator_named(text) or text.strip() or text
        elif role == "key":
            self.keys.append(text.strip())
        else:
            self.format[role] = text
        return role


def is_pair(left: str, right: str) -> bool:
    """Whether two texts belong together: the same mark twice, brackets, an opening and a closing tag, begin and end."""
    if left == right or (
        len(left) == len(right) and all(_OPENERS.get(a) == b for a, b in zip(left, reversed(right), strict=True))
    ):
        return True
    if right.replace("/", "", 1) == left:
        return True
    words = [re.sub(r"\W", "", text).casefold() for text in (left, right)]
    return bool(re.search(r"(?:^|_)(?:start|begin|bos|open|left|s)$|^(?:start|begin|open)", words[0])) and bool(
        re.search(r"(?:^|_)(?:end|stop|eos|close|right|e)$|^(?:end|stop|close)", words[1])
    )


def _halves(text: str) -> tuple[str, str]:
    """The left and the right half of what wraps: `[]`, `<b>`, `**`."""
    stripped = text.strip()
    if len(stripped) % 2 == 0 and stripped:
        left, right = stripped[: len(stripped) // 2], stripped[len(stripped) // 2 :]
        if all(_OPENERS.get(letter) == other for letter, other in zip(left, reversed(right), strict=True)):
            return left, right
    if re.fullmatch(r"<[^/<>]+>", stripped):
        return stripped, f"</{stripped[1:]}"
    if len(stripped) == 1 and stripped in _OPENERS:
        return stripped, _OPENERS[stripped]
    return text, text


def _separator_named(text: str) -> str:
    for pattern, separator in named_patterns("separators"):
        if pattern.fullmatch(text.strip()):
            return separator
    return ""
