"""The search for a composite's mask: candidates are measured on more and more clips, and each time the better half stays.

This is successive halving (Karnin et al. 2013; Jamieson and Talwalkar 2016). Nothing here knows a model: an `AnswerFn` answers.
What is found here is the best of several, so its scores flatter it; whether it is good enough is decided on other clips
(`composer.confirmation`).
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

FIRST_ROUND_CLIPS = 4

Job = tuple[HeadMask, TaskSpec]
"""A mask and the task that its answers are held to."""
AnswerFn = Callable[[Sequence[Job], Sequence[int]], list[list[str]]]
"""(jobs, clips) → what each job answers to each clip."""


@dataclass(frozen=True)
class PartScore:
    """How well a part is done within the composite, and by its own mask on the same clips; in percent."""

    part: str
    metric: str
    value: float
    own: float
    better: str

    @property
    def gap(self) -> float:
        """Points that the composite is worse; negative where it is better."""
        return self.value - self.own if self.better == "lower" else self.own - self.value


@dataclass(frozen=True)
class CandidateScore:
    """A row of the table: a candidate on the first so many clips.

    Attributes:
        candidate: the mask and its name.
        clips: how many clips.
        exact: percent of answers that are right in every part.
        ifr: percent of answers in the asked form.
        part_scores: of each part.
    """

    candidate: Candidate
    clips: int
    exact: float
    ifr: float
    part_scores: tuple[PartScore, ...]

    @property
    def loss(self) -> float:
        """What candidates are ranked by, lower is better: points missing to IFR 100, and behind the own masks on average."""
        gaps = [min(part.gap, 100.0) for part in self.part_scores]
        return 100 - self.ifr + sum(gaps) / len(gaps)

    def row(self) -> dict[str, Any]:
        """The row as plain data."""
        parts = {p.part: {"metric": p.metric, "value": round(p.value, 2), "own": round(p.own, 2)} for p in self.part_scores}
        about = {"candidate": self.candidate.name, "heads_on": self.candidate.mask.heads_on, "clips": self.clips}
        return about | {"exact": round(self.exact, 2), "ifr": round(self.ifr, 2), "parts": parts}


@dataclass
class Budget:
    """What a search may cost; None is no bound. Labelling, encoding and confirming are not counted.

    Attributes:
        seconds: from the first answer on.
        answers: of all masks for all clips.
    """

    seconds: float | None = None
    answers: int | None = None
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    _spent: int = field(default=0, init=False)
    _begun: float = field(default=math.nan, init=False)

    def begin(self) -> None:
        """Start the clock, once."""
        if math.isnan(self._begun):
            self._begun = self.clock()

    def spend(self, answers: int) -> None:
        """Count answers that were asked for."""
        self._spent += answers

    @property
    def answers_left(self) -> float:
        """Answers that it is still good for, at the pace so far."""
        by_count = math.inf if self.answers is None else float(self.answers - self._spent)
        if self.seconds is None or not self._spent:
            return by_count
        spent = self.clock() - self._begun
        return min(by_count, (self.seconds - spent) / max(spent, 1e-9) * self._spent)


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
    """Clips that candidates have answered after each round, so that two are left for the last, with all clips."""
    halvings = max(0, math.ceil(math.log2(max(1, candidates))) - 1)
    return sorted({max(min(fewest, clips), clips >> turn) for turn in range(halvings + 1)})


def score_part_masks(spec: TaskSpec, answers: Mapping[str, Sequence[str]], references: Sequence[str]) -> dict[str, Score]:
    """How well each part is done by its own mask.

    Args:
        spec: the composite task.
        answers: of each part what its own mask said.
        references: what is right, in the composite's form.
    """
    right = [spec.split(reference) or {} for reference in references]
    return {
        part.name: score(TaskSpec(parts=(part,)), answers[part.name], [row[part.name] for row in right])[0] for part in spec.parts
    }


def score_composite(spec: TaskSpec, answers: Sequence[str], references: Sequence[str]) -> list[Score]:
    """The scores of a composite's answers; JSON whose keys come in another order than it is held to is not in the form."""
    return score(spec, [answer if _in_order(spec, answer) else "" for answer in answers], references)


def _in_order(spec: TaskSpec, answer: str) -> bool:
    """Whether a JSON answer has its keys in the order that it is held to when the mask is used; no JSON has no order."""
    return spec.form != "json" or spec.split(answer) is None or list(json.loads(answer)) == list(spec.json_keys)


def score_of(scores: Iterable[Score], metric: str = "", part: str = "") -> Score:
    """The first score of a metric, or of a part."""
    return next(each for each in scores if each.part == part and (not metric or each.metric == metric))


def score_candidate(
    spec: TaskSpec, candidate: Candidate, answers: Sequence[str], own: Mapping[str, Score], references: Sequence[str]
) -> CandidateScore:
    """Measure a candidate's answers against the parts' own masks on the same clips.

    Args:
        spec: the composite task.
        candidate: who answered.
        answers: what it said.
        own: how well each part is done by its own mask (`score_part_masks`).
        references: what is right, in the composite's form.
    """
    scores = score_composite(spec, answers, references)
    part_scores = []
    for name in spec.names:
        within = score_of(scores, part=name)
        part_scores.append(PartScore(name, within.metric, within.value, own[name].value, within.better))
    exact, ifr = (score_of(scores, metric).value for metric in ("exact", "ifr"))
    return CandidateScore(candidate, len(answers), exact, ifr, tuple(part_scores))


def search(
    spec: TaskSpec,
    candidates: Sequence[Candidate],
    part_masks: Mapping[str, HeadMask],
    references: Sequence[str],
    answer: AnswerFn,
    *,
    budget: Budget | None = None,
) -> Iterator[CandidateScore]:
    """Measure candidates, yielding a row for each in each round; those of the last round have seen the most clips.

    The better half goes on to the next round; one that is left alone goes on with all clips at once.
    Where the budget ends, a round has fewer clips and is the last; the first has one clip at least.

    Args:
        spec: the composite task.
        candidates: the masks; of equal ones the earlier is preferred.
        part_masks: each part's own mask.
        references: what is right for each clip, in the composite's form.
        answer: answers.
        budget: what it may cost.
    """
    if not candidates or not references:
        raise MaskError(f"nothing to search for {spec.name}: got {len(candidates)} candidates and {len(references)} clips")
    budget = budget or Budget()
    answers: dict[bytes | str, list[str]] = {}
    singles = {part.name: TaskSpec(parts=(part,)) for part in spec.parts}
    alive, done = list(candidates), 0
    budget.begin()
    for planned in plan_rounds(len(candidates), len(references)):
        count = planned if len(alive) > 1 else len(references)
        jobs: dict[bytes | str, Job] = {name: (mask, singles[name]) for name, mask in part_masks.items()}
        jobs |= {mask_key(each.mask): (each.mask, spec) for each in alive}
        more = int(max(min(count - done, budget.answers_left / len(jobs)), 0 if done else 1))
        clips = range(done, done + more)
        if not clips:
            break
        for key, texts in zip(jobs, answer(list(jobs.values()), clips), strict=True):
            answers.setdefault(key, []).extend(texts)
        budget.spend(len(jobs) * len(clips))
        done = clips.stop
        own = score_part_masks(spec, {name: answers[name] for name in part_masks}, references[:done])
        results = [score_candidate(spec, each, answers[mask_key(each.mask)], own, references[:done]) for each in alive]
        yield from results
        if done < count:
            break
        alive = [result.candidate for result in rank(results)[: max(1, math.ceil(len(alive) / 2))]]


def rank(results: Iterable[CandidateScore]) -> list[CandidateScore]:
    """Best first; equal ones stay in their order."""
    return sorted(results, key=lambda result: result.loss)


def best_result(results: Sequence[CandidateScore]) -> CandidateScore:
    """The best of those that were measured on the most clips."""
    most = max(result.clips for result in results)
    return rank(result for result in results if result.clips == most)[0]
