"""The search for a composite's mask: candidates are measured on more and more clips, and each time the better half stays.

This is successive halving (Karnin et al. 2013; Jamieson and Talwalkar 2016). Nothing here knows a model: `ask` answers.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..data.metrics import Score, score
from ..data.tasks import TaskSpec
from ..errors import MaskError
from ..mask_bank.mask import HeadMask
from .candidates import Candidate, mask_key

SCREEN_CLIPS = 2  # clips after which candidates go that never answer in the form, where some do
FIRST_ROUND_CLIPS = 6  # clips of the first round that halves
MIN_TARGET_CLIPS = 24  # clips on which a target may be reached; fewer only where the data have fewer

AnswerFn = Callable[[Sequence[HeadMask], Sequence[int]], list[list[str]]]
"""(masks, clips) → what each mask answers to each clip."""


@dataclass(frozen=True)
class Target:
    """What a composite must reach to be taken.

    Attributes:
        ifr: percent of answers in the asked form, at least.
        points: by how many points of its metric a part may be worse than by its own mask, at most.
    """

    ifr: float = 99.0
    points: float = 1.0


@dataclass(frozen=True)
class PartScore:
    """How well a part is done within the composite, and by its own mask on the same clips; in percent."""

    part: str
    metric: str
    value: float
    own: float
    better: str

    @property
    def behind(self) -> float:
        """Points that the composite is worse; negative where it is better."""
        return self.value - self.own if self.better == "lower" else self.own - self.value


@dataclass(frozen=True)
class Result:
    """A row of the table: a candidate on the first so many clips.

    Attributes:
        candidate: the mask and its name.
        clips: how many clips.
        exact: percent of answers that are right in every part.
        ifr: percent of answers in the asked form.
        part_scores: of each part.
        reached: whether that is the target, on enough clips to say so.
    """

    candidate: Candidate
    clips: int
    exact: float
    ifr: float
    part_scores: tuple[PartScore, ...]
    reached: bool

    @property
    def loss(self) -> float:
        """What candidates are ranked by, lower is better: points missing to IFR 100, and behind the own masks on average."""
        behind = [min(part_score.behind, 100.0) for part_score in self.part_scores]
        return 100 - self.ifr + sum(behind) / len(behind)

    def row(self) -> dict[str, Any]:
        """The row as plain data."""
        parts = {f.part: {"metric": f.metric, "value": round(f.value, 2), "own": round(f.own, 2)} for f in self.part_scores}
        about = {"candidate": self.candidate.name, "heads_on": self.candidate.mask.heads_on, "clips": self.clips}
        return about | {"exact": round(self.exact, 2), "ifr": round(self.ifr, 2), "parts": parts, "reached": self.reached}


@dataclass
class Budget:
    """What a search may cost; None is no bound.

    Attributes:
        seconds: from the first answer on.
        answers: of all masks for all clips.
    """

    seconds: float | None = None
    answers: int | None = None
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    _asked: int = field(default=0, init=False)
    _begun: float = field(default=math.nan, init=False)

    def begin(self) -> None:
        """Start the clock, once."""
        if math.isnan(self._begun):
            self._begun = self.clock()

    def spend(self, answers: int) -> None:
        """Count answers that were asked for."""
        self._asked += answers

    @property
    def left(self) -> float:
        """Answers that it is still good for, at the pace so far."""
        by_count = math.inf if self.answers is None else float(self.answers - self._asked)
        if self.seconds is None or not self._asked:
            return by_count
        spent = self.clock() - self._begun
        return min(by_count, (self.seconds - spent) / max(spent, 1e-9) * self._asked)


def parse_budget(text: str) -> Budget:
    """A budget in words: `90s`, `3m`, or a number of answers such as `2000`.

    Raises:
        MaskError: it is neither.
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m") else (text, "")
    if not (number.isascii() and number.isdigit() and int(number)):
        raise MaskError(f"cannot read the budget {text!r}; expected seconds (90s), minutes (3m) or a number of answers (2000)")
    return Budget(seconds=int(number) * {"s": 1.0, "m": 60.0}[unit]) if unit else Budget(answers=int(number))


def plan_rounds(candidates: int, clips: int, fewest: int = FIRST_ROUND_CLIPS) -> list[int]:
    """Clips that candidates have answered after each round: a glance, then so that two are left for the last, with all clips."""
    halvings = max(0, math.ceil(math.log2(max(1, candidates))) - 1)
    counts = {max(min(fewest, clips), clips >> turn) for turn in range(halvings + 1)}
    return sorted(counts | ({min(SCREEN_CLIPS, clips)} if halvings else set()))


def score_part_masks(spec: TaskSpec, answers: Mapping[str, Sequence[str]], references: Sequence[str]) -> dict[str, float]:
    """How well each part is done by its own mask, in percent of its metric.

    Args:
        spec: the composite task.
        answers: of each part what its own mask said.
        references: what is right, in the composite's form.
    """
    right = [spec.split(reference) or {} for reference in references]
    return {
        part.name: score(TaskSpec(parts=(part,)), answers[part.name], [row[part.name] for row in right])[0].value
        for part in spec.parts
    }


def judge(
    spec: TaskSpec,
    candidate: Candidate,
    answers: Sequence[str],
    own: Mapping[str, float],
    references: Sequence[str],
    target: Target,
    *,
    enough: int = MIN_TARGET_CLIPS,
) -> Result:
    """Measure a candidate's answers against the parts' own masks on the same clips.

    Args:
        spec: the composite task.
        candidate: who answered.
        answers: what it said.
        own: how well each part is done by its own mask (`score_part_masks`).
        references: what is right, in the composite's form.
        target: what is wanted.
        enough: clips on which the target may be reached.
    """
    scores = score(spec, [answer if _in_order(spec, answer) else "" for answer in answers], references)
    part_scores = []
    for part in spec.parts:
        within = next(each for each in scores if each.part == part.name)
        part_scores.append(PartScore(part.name, within.metric, within.value, own[part.name], within.better))
    ifr = _value(scores, "ifr")
    good = ifr >= target.ifr and all(part_score.behind <= target.points + 1e-9 for part_score in part_scores)
    return Result(candidate, len(answers), _value(scores, "exact"), ifr, tuple(part_scores), good and len(answers) >= enough)


def _in_order(spec: TaskSpec, answer: str) -> bool:
    """Whether a JSON answer has its keys in the order that it is held to when the mask is used; no JSON has no order."""
    return spec.form != "json" or spec.split(answer) is None or list(json.loads(answer)) == list(spec.json_keys)


def _value(scores: Iterable[Score], metric: str) -> float:
    return next(each.value for each in scores if each.metric == metric and not each.part)


def search(
    spec: TaskSpec,
    candidates: Sequence[Candidate],
    own: Mapping[str, HeadMask],
    references: Sequence[str],
    ask: AnswerFn,
    *,
    target: Target | None = None,
    budget: Budget | None = None,
    enough: int = MIN_TARGET_CLIPS,
) -> Iterator[Result]:
    """Measure candidates, yielding a row for each in each round; those of the last round have seen the most clips.

    The better half goes on to the next round, after a glance at a few clips all; of these, where any gave an answer in the
    form, only those that did. One that is left alone goes on with all clips at once.
    Where the budget ends, a round has fewer clips and is the last; the first has one clip at least.

    Args:
        spec: the composite task.
        candidates: the masks; of equal ones the earlier is preferred.
        own: each part's own mask.
        references: what is right for each clip, in the composite's form.
        ask: answers.
        target: what is wanted.
        budget: what it may cost.
        enough: clips on which the target may be reached.
    """
    if not candidates or not references:
        raise MaskError(f"nothing to search for {spec.name}: got {len(candidates)} candidates and {len(references)} clips")
    target, budget = target or Target(), budget or Budget()
    said: dict[bytes, list[str]] = {}
    alive, done = list(candidates), 0
    budget.begin()
    for planned in plan_rounds(len(candidates), len(references)):
        count = planned if len(alive) > 1 else len(references)
        masks = {mask_key(mask): mask for mask in [*own.values(), *(each.mask for each in alive)]}
        more = int(max(min(count - done, budget.left / len(masks)), 0 if done else 1))
        clips = range(done, done + more)
        if not clips:
            break
        for heads, answers in zip(masks, ask(list(masks.values()), clips), strict=True):
            said.setdefault(heads, []).extend(answers)
        budget.spend(len(masks) * len(clips))
        done = clips.stop
        alone = score_part_masks(spec, {name: said[mask_key(mask)] for name, mask in own.items()}, references[:done])
        results = [
            judge(spec, each, said[mask_key(each.mask)], alone, references[:done], target, enough=enough) for each in alive
        ]
        yield from results
        if done < count:
            break
        better = rank(results)[: len(alive) if done <= SCREEN_CLIPS else max(1, math.ceil(len(alive) / 2))]
        formed = [result for result in better if result.ifr > 0]
        alive = [result.candidate for result in formed or better]


def rank(results: Iterable[Result]) -> list[Result]:
    """Best first: those that reached the target, then by loss; equal ones stay in their order."""
    return sorted(results, key=lambda result: (not result.reached, result.loss))


def winner(results: Sequence[Result]) -> Result:
    """The best of those that were measured on the most clips."""
    most = max(result.clips for result in results)
    return rank(result for result in results if result.clips == most)[0]
