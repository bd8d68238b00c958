"""What the predictor learns from: requests put together from wordings, phrases and templates, with their intents.

Some of everything is set aside. Of the train wordings, phrases and templates about one in `DEV_MOD` is for dev, which
calibrates the refusal, and of the orders that parts can have one in `HELD_OUT_MOD` is never trained: the tables ask for those.
"""

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, permutations
from typing import Literal

import numpy as np

from ..data.tasks import Task
from .augmentation import augment
from .example import MARKS, Example
from .intent import FORMS, UNSUPPORTED, Intent
from .resources import choice, fill_pattern, held_out_requests, load_demands, load_frames, load_patterns, normalise
from .templates import Style, build_template
from .wordings import PLACES, Request, TaskWordings, Templates, Wordings, read_wordings

Split = Literal["train", "dev", "all", "test"]
DEV_MOD = 8
HELD_OUT_MOD = 6
P_FROM_PIECES = 0.5  # share of templates that are built from pieces
P_DEMAND = 0.08  # share of requests with the rest of a demand for a form
NOT_DEMANDED = ("labels", "separator", "lines")  # they name labels, or are for several parts, which templates have anyway
GERMAN = 0.15  # share of German among what is put together
STYLE_SHARES: dict[Style, int] = {"phrases": 5, "imperatives": 2, "clauses": 2}  # how often parts are spoken of in which way
STYLES = tuple(style for style, share in STYLE_SHARES.items() for _ in range(share))
MAX_CLAUSE_WORDS = 7  # words that a whole request may have to stand among others
# How often each kind of request is drawn: for one task, for several, for none.
SHARES = {"single": 44, "pattern": 14, "phrase": 6, "single_with_exclusion": 9}
SHARES |= {"scene": 3, "pair_with_exclusion": 4, "pipe2": 14, "json2": 10, "pipe3": 6, "json3": 5, "request": 16}
UNSUPPORTED_SHARES = {"near": 18, "far": 11, "negated": 2, "unsupported_mix": 10, "unsupported_pattern": 6}
PATTERN_KINDS = {
    "unsupported_pattern": ("none", UNSUPPORTED),
    "scene": ("scene", Intent(("aac",))),
}  # patterns, and what they ask
# How many of each kind are put together for dev.
DEV_COUNTS = {"phrase": 80, "single_with_exclusion": 60, "negated": 30, "unsupported_mix": 40}
DEV_COUNTS |= {"pipe2": 80, "json2": 60, "pipe3": 40, "json3": 40}
KINDS = tuple(kind for kind, share in (SHARES | UNSUPPORTED_SHARES).items() for _ in range(share))


def _digits(text: str) -> int:
    return zlib.crc32(text.encode())


def is_held_out(parts: Sequence[str]) -> bool:
    """Whether these parts, or some of them, are never trained together, in no order and no form."""
    return any(
        _digits("|".join(some)) % HELD_OUT_MOD == 0 for n in range(2, len(parts) + 1) for some in combinations(sorted(parts), n)
    )


@dataclass(frozen=True)
class RequestSource:
    """A source of examples of one split.

    Attributes:
        tasks: the single tasks by name; those without wordings among amask's come with their own.
        split: "train", "dev", both of them ("all"), or "test", which nothing is trained on.
        seen: orders of parts that are trained though they would be set aside, since the bank has a mask for them.
    """

    tasks: tuple[Task, ...]
    split: Split = "train"
    seen: frozenset[tuple[str, ...]] = frozenset()

    @property
    def _wordings(self) -> Wordings:
        return read_wordings()

    def _in_split(self, texts: Iterable[str]) -> tuple[str, ...]:
        """Of what is not held out, this split's."""
        texts = tuple(dict.fromkeys(texts))
        if self.split == "all":
            return texts
        if len(texts) < DEV_MOD:  # too few to draw from: one in `DEV_MOD`, at least one of two, is dev's
            return tuple(text for at, text in enumerate(texts) if (at % DEV_MOD == 1) == (self.split == "dev")) or texts
        return tuple(text for text in texts if (_digits(text) % DEV_MOD == 0) == (self.split == "dev")) or texts

    def _split_texts(self, table: TaskWordings | Templates, german: bool = False) -> tuple[str, ...]:
        """The whole requests or templates of this split."""
        name = ("held_out" if self.split == "test" else "train") + ("_de" if german else "")
        return getattr(table, name) if self.split == "test" else self._in_split(getattr(table, name))

    @cached_property
    def templates(self) -> dict[tuple[str, bool], tuple[str, ...]]:
        """Templates by kind, and whether they are German."""
        given = self._wordings.composites
        return {(kind, german): self._split_texts(getattr(given, kind), german) for kind in PLACES for german in (False, True)}

    @cached_property
    def singles(self) -> dict[str, tuple[str, ...]]:
        """Whole requests by task."""
        given = self._wordings.tasks
        if self.split == "test":
            return {task.name: given[task.name].held_out if task.name in given else () for task in self.tasks}
        hand_written = {task.name: given[task.name].train if task.name in given else () for task in self.tasks}
        return {task.name: self._in_split((*hand_written[task.name], *task.wordings)) for task in self.tasks}

    @cached_property
    def phrases(self) -> dict[str, tuple[str, ...]]:
        """What each task gives, for templates."""
        found = {}
        for task in self.tasks:
            given = self._wordings.tasks.get(task.name)
            own = task.phrases or (() if given else (task.title or task.name,))
            if given and self.split == "test":
                found[task.name] = given.phrases_held_out
            else:
                found[task.name] = self._in_split((*(given.phrases if given else ()), *own)) or own
        return found

    @cached_property
    def german(self) -> dict[str, tuple[str, ...]]:
        """The same for German templates; German phrases are few, so dev and test share them."""
        return {task.name: self._wordings.tasks[task.name].phrases_de for task in self.tasks if task.name in self._wordings.tasks}

    @cached_property
    def imperatives(self) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
        """What each task does, as one asks for it, in English and in German; of tasks that have wordings among amask's."""
        given = {task.name: self._wordings.tasks[task.name] for task in self.tasks if task.name in self._wordings.tasks}
        english = {name: self._in_split(table.imperatives) for name, table in given.items()}
        return english, {name: table.imperatives_de for name, table in given.items()}

    @cached_property
    def requests(self) -> tuple[Request, ...]:
        """Whole requests for several tasks, of orders that this split has."""
        names = {task.name for task in self.tasks}
        if self.split == "test":
            return tuple(r for r in self._wordings.composites.requests.held_out if names.issuperset(r.parts))
        texts = set(self._in_split(request.text for request in self._wordings.composites.requests.train))
        given = self._wordings.composites.requests.train
        return tuple(r for r in given if r.text in texts and names.issuperset(r.parts) and self._has(r.parts))

    @cached_property
    def unsupported(self) -> dict[str, tuple[str, ...]]:
        """Requests that no task serves, far and near."""
        given = self._wordings.unsupported
        if self.split == "test":
            return {"far": given.far_held_out, "near": given.near_held_out}
        return {"far": self._in_split(given.far), "near": self._in_split(given.near)}

    @cached_property
    def unsupported_items(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Things that no task gives, English and German; the frames have none that are held out."""
        return self._in_split(load_frames()["unsupported_items"]), self._in_split(load_frames()["unsupported_items_de"])

    def _has(self, parts: tuple[str, ...]) -> bool:
        return self.split in ("all", "test") or parts in self.seen or not is_held_out(parts)

    @cached_property
    def orders(self) -> dict[int, tuple[tuple[str, ...], ...]]:
        """The orders that this split has of two parts and of three."""
        names = [task.name for task in self.tasks if self.phrases[task.name]]
        return {count: tuple(filter(self._has, permutations(names, count))) for count in (2, 3)}

    def filled(self, kind: str, parts: tuple[str, ...], intent: Intent, rng: np.random.Generator) -> Example:
        """A template of a kind with what speaks of its parts in its places; of the intent's parts it is marked."""
        return Example(self._fill_template(kind, parts, len(intent.parts), rng), intent, fully_labelled=True)

    def _fill_template(self, kind: str, parts: Sequence[str | None], n_marked: int, rng: np.random.Generator) -> str:
        """A template with what speaks of some parts in its places, the first so many marked; None is what no task gives."""
        style: Style = "phrases"
        if self.split != "test" and kind != "single" and all(part in self.imperatives[0] for part in parts if part):
            style = choice(STYLES, rng)
        if style == "clauses" and "exclusion" in kind:
            style = "imperatives"
        german = style != "clauses" and all(part in self.german for part in parts if part) and rng.random() < GERMAN
        said = [self._part_text(part, style, german, rng) for part in parts]
        if style != "phrases" or kind not in PLACES or (self.split != "test" and rng.random() < P_FROM_PIECES):
            template = build_template(kind, rng, german=german, style=style)
        else:
            template = choice(self.templates[kind, german], rng)
        marks = (*MARKS[:n_marked], *[""] * len(said))
        return template.format(*(f"{mark}{text}{mark}" for mark, text in zip(marks, said, strict=False)))

    def _part_text(self, part: str | None, style: Style, german: bool, rng: np.random.Generator) -> str:
        """What speaks of a part."""
        if style == "clauses":
            return self._clause(part, rng)
        if part is None:
            thing = choice(self.unsupported_items[german], rng)
            return (
                thing
                if style == "phrases"
                else f"{choice(load_frames()['imperative_de' if german else 'imperative'], rng)} {thing}"
            )
        if style == "imperatives":
            return choice(self.imperatives[german][part], rng)
        return choice((self.german if german else self.phrases)[part], rng)

    def _clause(self, part: str | None, rng: np.random.Generator) -> str:
        """A short request for a task, or for what none does: whole as written, a pattern, or an imperative."""
        way = rng.random()
        if part is None:
            text = fill_pattern(load_patterns()[1]["none"], rng) if way < 0.7 else choice(self._short["near"], rng)
        elif way < 0.5:
            text = fill_pattern(load_patterns()[1][part], rng)
        else:
            text = choice(self._short[part] if way < 0.85 else self.imperatives[0][part], rng)
        return text.rstrip("?.! ")

    @cached_property
    def _short(self) -> dict[str, tuple[str, ...]]:
        """Whole requests of few words, by task, and "near" for those that no task serves."""
        whole = self.singles | {"near": self.unsupported["near"]}
        return {name: tuple(text for text in texts if len(text.split()) <= MAX_CLAUSE_WORDS) for name, texts in whole.items()}

    def composed(self, kind: str, parts: tuple[str, ...], rng: np.random.Generator) -> Example:
        """A request for several parts: a template of kind `pipe2`, `json3` and so on, with phrases for its places."""
        return self.filled(kind, parts, Intent(parts, "json" if kind.startswith("json") else "pipe"), rng)

    def draw(self, rng: np.random.Generator) -> Example:
        """One example, with typos, capitals, politeness and lost punctuation; nothing that happens to be held out."""
        while True:
            example = self.draw_kind(choice(KINDS, rng), rng)
            if normalise(example.text) not in held_out_requests():
                text = add_demand(example.marked_text, rng, several=len(example.intent.parts) > 1)
                return replace(example, marked_text=augment(text, rng, load_frames()))

    def draw_kind(self, kind: str, rng: np.random.Generator) -> Example:
        """One example of a kind."""
        if kind in ("near", "far"):
            return Example(choice(self.unsupported[kind], rng), UNSUPPORTED)
        if kind == "request" and self.requests:
            request = choice(self.requests, rng)
            return Example(request.text, Intent(request.parts, request.form))
        if kind in ("pipe2", "json2", "pipe3", "json3"):
            orders = self.orders[int(kind[-1])]
            if orders:
                return self.composed(kind, choice(orders, rng), rng)
        if kind == "pair_with_exclusion" and self.orders[2] and len(self.tasks) > 2:
            pair, form = choice(self.orders[2], rng), choice(FORMS, rng)
            others = [task.name for task in self.tasks if task.name not in pair]
            return self.filled(f"{form}2_with_exclusion", (*pair, choice(others, rng)), Intent(pair, form), rng)
        pattern, intent = PATTERN_KINDS.get(kind, ("", UNSUPPORTED))
        if pattern and {task.name for task in self.tasks}.issuperset(intent.parts):
            return Example(fill_pattern(load_patterns()[1][pattern], rng), intent)
        task = choice(self.tasks, rng).name
        if kind == "single_with_exclusion" and len(self.tasks) > 1:
            other = choice([each.name for each in self.tasks if each.name != task], rng)
            return self.filled(kind, (task, other), Intent((task,)), rng)
        if kind == "unsupported_mix":
            return self._unsupported_mix(rng)
        if kind == "pattern" and task in load_patterns()[1]:
            return Example(fill_pattern(load_patterns()[1][task], rng), Intent((task,)))
        if kind == "phrase" and rng.random() < P_FROM_PIECES:
            return self.filled("single", (task,), Intent((task,)), rng)
        german = task in self.german and rng.random() < GERMAN
        phrase = choice((self.german if german else self.phrases)[task], rng)
        if kind == "negated":
            return Example(
                choice(load_frames()["negated_de" if german else "negated"], rng).format(phrase), UNSUPPORTED, fully_labelled=True
            )
        if kind == "phrase" or not self.singles[task]:
            frame = choice(load_frames()["single_de" if german else "single"], rng)
            return Example(frame.format(f"{MARKS[0]}{phrase}{MARKS[0]}"), Intent((task,)), fully_labelled=True)
        return Example(choice(self.singles[task], rng), Intent((task,)))

    def _unsupported_mix(self, rng: np.random.Generator) -> Example:
        """Things that no task gives, by themselves or beside what one gives; where each is spoken of is labelled all the same."""
        count = (1, 1, 2, 2, 3)[int(rng.integers(5))]
        part_tasks = [None if rng.random() < 0.6 else choice(self.tasks, rng).name for _ in range(count)]
        part_tasks[int(rng.integers(count))] = None
        if count == 1 and rng.random() < 0.5:
            german = rng.random() < GERMAN
            frame, thing = (
                choice(load_frames()["single_de" if german else "single"], rng),
                choice(self.unsupported_items[german], rng),
            )
            return Example(frame.format(f"{MARKS[0]}{thing}{MARKS[0]}"), UNSUPPORTED, fully_labelled=True, part_tasks=(None,))
        kind = "single" if count == 1 else f"{choice(('pipe', 'json'), rng)}{count}"
        return Example(
            self._fill_template(kind, part_tasks, count, rng), UNSUPPORTED, fully_labelled=True, part_tasks=tuple(part_tasks)
        )


def add_demand(text: str, rng: np.random.Generator, *, several: bool) -> str:
    """A request, now and then with what a demand for a form leaves behind when its literals are taken out."""
    if rng.random() >= P_DEMAND:
        return text
    kinds = [kind for kind in load_demands() if kind not in NOT_DEMANDED and not (several and kind in ("json", "key"))]
    demand = re.sub(r"\{\w*\}", "", choice(load_demands()[choice(kinds, rng)], rng))
    return f"{text.rstrip('.?! ')}{choice((', ', '. ', '; ', ' and ', ' '), rng)}{' '.join(demand.split())}"


def dev_examples(tasks: Sequence[Task], seen: frozenset[tuple[str, ...]], seed: int) -> list[Example]:
    """The dev requests: all whole ones, and some put together; half of them as people type."""
    source = RequestSource(tuple(tasks), "dev", seen)
    found = [Example(text, Intent((task,))) for task, texts in source.singles.items() for text in texts]
    found += [Example(text, UNSUPPORTED) for texts in source.unsupported.values() for text in texts]
    found += [Example(request.text, Intent(request.parts, request.form)) for request in source.requests]
    rng = np.random.default_rng([seed, 1])
    found += [source.draw_kind(kind, rng) for kind, count in DEV_COUNTS.items() for _ in range(count)]
    return [
        replace(each, marked_text=augment(each.marked_text, rng, load_frames())) if rng.random() < 0.5 else each for each in found
    ]
