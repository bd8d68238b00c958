"""What the predictor learns from: requests put together from wordings, phrases and templates, with their readings.

Some of everything is set aside. Of the train wordings, phrases and templates about one in `DEV` is for dev, which
calibrates the refusal, and of the orders that parts can have one in `UNSEEN` is never trained: the tables ask for those.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from typing import Literal

import numpy as np

from ..data.tasks import Task
from .assembling import Saying, assemble
from .example import MARKS, Example
from .material import bare, fill, frames, patterns, pick, withheld
from .noise import roughen
from .reading import NONE, Reading
from .wordings import PLACES, Request, TaskWordings, Templates, Wordings, read_wordings

Split = Literal["train", "dev", "all", "withheld"]
DEV = 8
UNSEEN = 6
ASSEMBLED = 0.5  # share of templates that are put together from pieces
GERMAN = 0.15  # share of German among what is put together
SAYINGS: tuple[Saying, ...] = (*["phrases"] * 5, *["deeds"] * 2, *["clauses"] * 2)  # how often parts are spoken of in which way
CLAUSE = 7  # words that a whole request may have to stand among others
# How often each kind of request is drawn: for one task, for several, for none.
SHARES = {"single": 44, "pattern": 8, "phrase": 6, "single_with_exclusion": 9}
SHARES |= {"pair_with_exclusion": 4, "pipe2": 14, "json2": 10, "pipe3": 6, "json3": 5, "request": 16}
FOREIGN = {"near": 18, "far": 11, "negated": 2, "strange": 10, "foreign_pattern": 6}
# How many of each kind are put together for dev.
DRAWN = {"phrase": 80, "single_with_exclusion": 60, "negated": 30, "strange": 40}
DRAWN |= {"pipe2": 80, "json2": 60, "pipe3": 40, "json3": 40}
KINDS = tuple(kind for kind, share in (SHARES | FOREIGN).items() for _ in range(share))


def _digits(text: str) -> int:
    return zlib.crc32(text.encode())


def unseen(parts: Sequence[str]) -> bool:
    """Whether these parts are never trained together, in no order and no form."""
    return len(parts) > 1 and _digits("|".join(sorted(parts))) % UNSEEN == 0


@dataclass(frozen=True)
class Examples:
    """A source of examples of one split.

    Attributes:
        tasks: the single tasks by name; those without wordings among amask's come with their own.
        split: "train", "dev", both of them ("all"), or "withheld", which nothing is trained on.
        seen: orders of parts that are trained though they would be set aside, since the bank has a mask for them.
    """

    tasks: tuple[Task, ...]
    split: Split = "train"
    seen: frozenset[tuple[str, ...]] = frozenset()

    @property
    def _said(self) -> Wordings:
        return read_wordings()

    def _mine(self, texts: Iterable[str]) -> tuple[str, ...]:
        """Of what is not withheld, this split's."""
        texts = tuple(dict.fromkeys(texts))
        if self.split == "all" or len(texts) < DEV:
            return texts
        return tuple(text for text in texts if (_digits(text) % DEV == 0) == (self.split == "dev")) or texts

    def _side(self, table: TaskWordings | Templates, german: bool = False) -> tuple[str, ...]:
        """The whole requests or templates of this split."""
        name = ("withheld" if self.split == "withheld" else "train") + ("_de" if german else "")
        return getattr(table, name) if self.split == "withheld" else self._mine(getattr(table, name))

    @cached_property
    def templates(self) -> dict[tuple[str, bool], tuple[str, ...]]:
        """Templates by kind, and whether they are German."""
        given = self._said.composites
        return {(kind, german): self._side(getattr(given, kind), german) for kind in PLACES for german in (False, True)}

    @cached_property
    def singles(self) -> dict[str, tuple[str, ...]]:
        """Whole requests by task."""
        given = self._said.tasks
        if self.split == "withheld":
            return {task.name: given[task.name].withheld if task.name in given else () for task in self.tasks}
        hand_written = {task.name: given[task.name].train if task.name in given else () for task in self.tasks}
        return {task.name: self._mine((*hand_written[task.name], *task.wordings)) for task in self.tasks}

    @cached_property
    def phrases(self) -> dict[str, tuple[str, ...]]:
        """What each task gives, for templates."""
        found = {}
        for task in self.tasks:
            given = self._said.tasks.get(task.name)
            own = task.phrases or (() if given else (task.title or task.name,))
            if given and self.split == "withheld":
                found[task.name] = given.phrases_withheld
            else:
                found[task.name] = self._mine((*(given.phrases if given else ()), *own)) or own
        return found

    @cached_property
    def german(self) -> dict[str, tuple[str, ...]]:
        """The same for German templates; German phrases are few, so dev and test share them."""
        return {task.name: self._said.tasks[task.name].phrases_de for task in self.tasks if task.name in self._said.tasks}

    @cached_property
    def deeds(self) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
        """What each task does, as one asks for it, in English and in German; of tasks that have wordings among amask's."""
        given = {task.name: self._said.tasks[task.name] for task in self.tasks if task.name in self._said.tasks}
        english = {name: self._mine(table.deeds) for name, table in given.items()}
        return english, {name: table.deeds_de for name, table in given.items()}

    @cached_property
    def requests(self) -> tuple[Request, ...]:
        """Whole requests for several tasks, of orders that this split has."""
        names = {task.name for task in self.tasks}
        if self.split == "withheld":
            return tuple(r for r in self._said.composites.requests.withheld if names.issuperset(r.parts))
        texts = set(self._mine(request.text for request in self._said.composites.requests.train))
        given = self._said.composites.requests.train
        return tuple(r for r in given if r.text in texts and names.issuperset(r.parts) and self._has(r.parts))

    @cached_property
    def foreign(self) -> dict[str, tuple[str, ...]]:
        """Requests that no task serves, far and near."""
        given = self._said.foreign
        if self.split == "withheld":
            return {"far": given.far_withheld, "near": given.near_withheld}
        return {"far": self._mine(given.far), "near": self._mine(given.near)}

    @cached_property
    def strangers(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Things that no task gives, English and German; the frames have none that are withheld."""
        return self._mine(frames()["strangers"]), self._mine(frames()["strangers_de"])

    def _has(self, parts: tuple[str, ...]) -> bool:
        return self.split in ("all", "withheld") or parts in self.seen or not unseen(parts)

    @cached_property
    def orders(self) -> dict[int, tuple[tuple[str, ...], ...]]:
        """The orders that this split has of two parts and of three."""
        names = [task.name for task in self.tasks if self.phrases[task.name]]
        return {count: tuple(filter(self._has, permutations(names, count))) for count in (2, 3)}

    def filled(self, kind: str, parts: tuple[str, ...], reading: Reading, rng: np.random.Generator) -> Example:
        """A template of a kind with what speaks of its parts in its places; of the reading's parts it is marked."""
        return Example(self._put(kind, parts, len(reading.parts), rng), reading, told=True)

    def _put(self, kind: str, parts: Sequence[str | None], marked: int, rng: np.random.Generator) -> str:
        """A template with what speaks of some parts in its places, the first so many marked; None is what no task gives."""
        saying: Saying = "phrases"
        if self.split != "withheld" and kind != "single" and all(part in self.deeds[0] for part in parts if part):
            saying = pick(SAYINGS, rng)
        if saying == "clauses" and "exclusion" in kind:
            saying = "deeds"
        german = saying != "clauses" and all(part in self.german for part in parts if part) and rng.random() < GERMAN
        said = [self._spoken(part, saying, german, rng) for part in parts]
        if saying != "phrases" or kind not in PLACES or (self.split != "withheld" and rng.random() < ASSEMBLED):
            template = assemble(kind, rng, german=german, saying=saying)
        else:
            template = pick(self.templates[kind, german], rng)
        marks = (*MARKS[:marked], *[""] * len(said))
        return template.format(*(f"{mark}{text}{mark}" for mark, text in zip(marks, said, strict=False)))

    def _spoken(self, part: str | None, saying: Saying, german: bool, rng: np.random.Generator) -> str:
        """What speaks of a part."""
        if saying == "clauses":
            return self._clause(part, rng)
        if part is None:
            thing = pick(self.strangers[german], rng)
            return thing if saying == "phrases" else f"{pick(frames()['deed_de' if german else 'deed'], rng)} {thing}"
        if saying == "deeds":
            return pick(self.deeds[german][part], rng)
        return pick((self.german if german else self.phrases)[part], rng)

    def _clause(self, part: str | None, rng: np.random.Generator) -> str:
        """A short request for a task, or for what none does: whole as written, a pattern, or a deed."""
        way = rng.random()
        if part is None:
            text = fill(patterns()[1]["none"], rng) if way < 0.7 else pick(self._short["near"], rng)
        elif way < 0.5:
            text = fill(patterns()[1][part], rng)
        else:
            text = pick(self._short[part] if way < 0.85 else self.deeds[0][part], rng)
        return text.rstrip("?.! ")

    @cached_property
    def _short(self) -> dict[str, tuple[str, ...]]:
        """Whole requests of few words, by task, and "near" for those that no task serves."""
        whole = self.singles | {"near": self.foreign["near"]}
        return {name: tuple(text for text in texts if len(text.split()) <= CLAUSE) for name, texts in whole.items()}

    def composed(self, kind: str, parts: tuple[str, ...], rng: np.random.Generator) -> Example:
        """A request for several parts: a template of kind `pipe2`, `json3` and so on, with phrases for its places."""
        return self.filled(kind, parts, Reading(parts, "json" if kind.startswith("json") else "pipe"), rng)

    def draw(self, rng: np.random.Generator) -> Example:
        """One example, with typos, capitals, politeness and lost punctuation; nothing that happens to be withheld."""
        while True:
            example = self.of_kind(pick(KINDS, rng), rng)
            if bare(example.text) not in withheld():
                return replace(example, marked=roughen(example.marked, rng, frames()))

    def of_kind(self, kind: str, rng: np.random.Generator) -> Example:
        """One example of a kind."""
        if kind in ("near", "far"):
            return Example(pick(self.foreign[kind], rng), NONE)
        if kind == "request" and self.requests:
            request = pick(self.requests, rng)
            return Example(request.text, Reading(request.parts, request.form))
        if kind in ("pipe2", "json2", "pipe3", "json3"):
            orders = self.orders[int(kind[-1])]
            if orders:
                return self.composed(kind, pick(orders, rng), rng)
        if kind == "pair_with_exclusion" and self.orders[2] and len(self.tasks) > 2:
            pair, form = pick(self.orders[2], rng), pick(("pipe", "json"), rng)
            others = [task.name for task in self.tasks if task.name not in pair]
            return self.filled(f"{form}2_with_exclusion", (*pair, pick(others, rng)), Reading(pair, form), rng)
        task = pick(self.tasks, rng).name
        if kind == "single_with_exclusion" and len(self.tasks) > 1:
            other = pick([each.name for each in self.tasks if each.name != task], rng)
            return self.filled(kind, (task, other), Reading((task,)), rng)
        if kind == "strange":
            return self._strange(rng)
        if kind == "foreign_pattern":
            return Example(fill(patterns()[1]["none"], rng), NONE)
        if kind == "pattern" and task in patterns()[1]:
            return Example(fill(patterns()[1][task], rng), Reading((task,)))
        if kind == "phrase" and rng.random() < ASSEMBLED:
            return self.filled("single", (task,), Reading((task,)), rng)
        german = task in self.german and rng.random() < GERMAN
        phrase = pick((self.german if german else self.phrases)[task], rng)
        if kind == "negated":
            return Example(pick(frames()["negated_de" if german else "negated"], rng).format(phrase), NONE, told=True)
        if kind == "phrase" or not self.singles[task]:
            frame = pick(frames()["single_de" if german else "single"], rng)
            return Example(frame.format(f"{MARKS[0]}{phrase}{MARKS[0]}"), Reading((task,)), told=True)
        return Example(pick(self.singles[task], rng), Reading((task,)))

    def _strange(self, rng: np.random.Generator) -> Example:
        """Things that no task gives, by themselves or beside what one gives; where each is spoken of is told all the same."""
        count = (1, 1, 2, 2, 3)[int(rng.integers(5))]
        about = [None if rng.random() < 0.6 else pick(self.tasks, rng).name for _ in range(count)]
        about[int(rng.integers(count))] = None
        if count == 1 and rng.random() < 0.5:
            german = rng.random() < GERMAN
            frame, thing = pick(frames()["single_de" if german else "single"], rng), pick(self.strangers[german], rng)
            return Example(frame.format(f"{MARKS[0]}{thing}{MARKS[0]}"), NONE, told=True, about=(None,))
        kind = "single" if count == 1 else f"{pick(('pipe', 'json'), rng)}{count}"
        return Example(self._put(kind, about, count, rng), NONE, told=True, about=tuple(about))


def dev_examples(tasks: Sequence[Task], seen: frozenset[tuple[str, ...]], seed: int) -> list[Example]:
    """The dev requests: all whole ones, and some put together; half of them as people type."""
    source = Examples(tuple(tasks), "dev", seen)
    found = [Example(text, Reading((task,))) for task, texts in source.singles.items() for text in texts]
    found += [Example(text, NONE) for texts in source.foreign.values() for text in texts]
    found += [Example(request.text, Reading(request.parts, request.form)) for request in source.requests]
    rng = np.random.default_rng([seed, 1])
    found += [source.of_kind(kind, rng) for kind, count in DRAWN.items() for _ in range(count)]
    return [replace(each, marked=roughen(each.marked, rng, frames())) if rng.random() < 0.5 else each for each in found]
