"""What the language model is taught of a clip: some tasks, how it is prompted for each (or not), and the answers.

About half of the answers follow no instruction at all. Without such rows prompts work but masks do not; with them the
model, unprompted, is undecided between its tasks, and a mask decides. What it learns there is not one answer drawn by
chance but how likely each next token is if all that fits the clip is open: else it would come to prefer a task for some
clips, as chance had it, and a mask would have to win against that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np
from transformers import PreTrainedTokenizerFast

from ...data.manifest import Clip
from ...data.tasks import builtin_tasks, parse_task
from ..architecture import TEMPLATE
from ..instructions import wordings

# How often a task is drawn, among those that a clip has labels for.
WEIGHTS = {"asr": 4.0, "s2tt": 2.0, "gr": 1.5, "ser": 3.0, "age": 1.5, "asv": 3.0, "aac": 1.5, "osr": 3.0}
# The same for answers without an instruction: unprompted, no task is to be likelier than the others by far. JSON answers
# all begin alike, so together they would be; they are to be likelier than any one label, though, so that a mask which
# leaves nothing of what was heard does not give a label that is right half the time.
UNPROMPTED_WEIGHTS = {"asr": 2.2, "s2tt": 2.2, "gr": 1.2, "ser": 1.5, "age": 1.5, "asv": 2.0, "aac": 1.5, "osr": 3.0}
UNPROMPTED_JSON = 0.7
COMPOSABLE = ("asr", "gr", "ser", "s2tt", "age")
# Of each composite; gender with words, as in the paper, counts sixfold. Unprompted, the model is to be about as likely to
# go on with a bar after an answer as to stop there.
COMPOSITE_WEIGHT, UNPROMPTED_COMPOSITE_WEIGHT = 0.18, 0.28
Shares = Mapping[str, float]  # task's name → how likely it is

spec = cache(parse_task)


@cache
def _pairs(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("-".join(pair) + end for pair in permutations(parts, 2) for end in ("", "-json"))


def composites(labels: Mapping[str, str]) -> tuple[str, ...]:
    """The two-part composites that a clip's labels allow: every ordered pair, as pipe and as JSON."""
    return _pairs(tuple(part for part in COMPOSABLE if labels.get(part)))


def task_shares(clip: Clip, prompted: bool) -> dict[str, float]:
    """How likely each task of a clip is, for an answer that has an instruction (`prompted`) or none."""
    singles = WEIGHTS if prompted else UNPROMPTED_WEIGHTS
    # An empty transcript (nothing is said) is soon learnt.
    weights = {
        name: singles[name] if clip.labels[name] else 0.5 if prompted else 1.0 for name in builtin_tasks() if name in clip.labels
    }
    for name in composites(clip.labels):
        weight = COMPOSITE_WEIGHT if prompted else UNPROMPTED_COMPOSITE_WEIGHT
        weight *= 6.0 if set(spec(name).names) == {"gr", "asr"} else 1.0
        weights[name] = weight if prompted or spec(name).form == "pipe" else UNPROMPTED_JSON * weight
    whole = sum(weights.values())
    return {name: weight / whole for name, weight in weights.items()}


def _draw(shares: Shares, count: int, rng: np.random.Generator) -> list[str]:
    """Some different tasks, the likelier the oftener."""
    names, weights = list(shares), np.array(list(shares.values()))
    return [names[int(at)] for at in rng.choice(len(names), min(count, len(names)), replace=False, p=weights / weights.sum())]


def vary(instruction: str, rng: np.random.Generator) -> str:
    """Small variations of a wording: politeness, capital letter, final mark."""
    if rng.random() < 0.15:
        instruction = f"please {instruction}" if "please" not in instruction else instruction
    if rng.random() < 0.2:
        instruction = instruction[0].upper() + instruction[1:]
    if rng.random() < 0.2:
        instruction += str(rng.choice([".", "?", " please"]))
    return instruction


def next_shares(answer: Sequence[int], others: Sequence[tuple[Sequence[int], float]]) -> list[dict[int, float]]:
    """How likely each token is at each place of an answer, if it was drawn among others.

    Args:
        answer: token ids, the end token last.
        others: all answers that it was drawn among, itself included, with their weights; none begins with another.

    Returns:
        For each place: token → its share among the answers that are the same up to there.
    """
    places = []
    for at, token in enumerate(answer):
        shares: dict[int, float] = {}
        for other, weight in others:
            shares[other[at]] = shares.get(other[at], 0.0) + weight
        whole = sum(shares.values())
        places.append({each: share / whole for each, share in shares.items()})
        others = [(other, weight) for other, weight in others if other[at] == token]
    return places


@dataclass(frozen=True)
class Answer:
    """The token ids behind the audio and of the answer, and how likely each token is at each place of the answer."""

    after: list[int]
    answer: list[int]
    shares: list[dict[int, float]]

    @property
    def given(self) -> list[int]:
        """What the model reads: all but the last token."""
        return self.after + self.answer[:-1]


@dataclass(frozen=True)
class Lesson:
    """One clip and several answers behind it."""

    clip: int
    answers: list[Answer]


class Lessons:
    """Draws tasks, instructions and answers for clips.

    Args:
        tokenizer: the model's.
        clips: all clips.
        prompted: answers with an instruction for each clip.
        unprompted: answers without one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, clips: Sequence[Clip], prompted: int, unprompted: int) -> None:
        self.tokenizer, self.clips, self.prompted, self.unprompted = tokenizer, clips, prompted, unprompted
        self._wordings = cache(lambda name: wordings(spec(name)))
        self._ids = cache(self._tokenize)

    def _tokenize(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _target(self, name: str, clip: Clip) -> list[int]:
        return self._ids(spec(name).target(clip.labels) + self.tokenizer.eos_token)

    def _prompted(self, clip: Clip, rng: np.random.Generator) -> list[Answer]:
        found = []
        for name in _draw(task_shares(clip, prompted=True), self.prompted, rng):
            choices, target = self._wordings(name), self._target(name, clip)
            prompt = vary(choices[int(rng.integers(len(choices)))], rng)
            found.append(Answer(self._ids(TEMPLATE.after.format(prompt)), target, [{token: 1.0} for token in target]))
        return found

    def _unprompted(self, clip: Clip, rng: np.random.Generator) -> list[Answer]:
        shares, after = task_shares(clip, prompted=False), self._ids(TEMPLATE.after.format(""))
        targets = {name: self._target(name, clip) for name in shares}
        others = [(targets[name], share) for name, share in shares.items()]
        drawn = _draw(shares, self.unprompted, rng)
        return [Answer(after, targets[name], next_shares(targets[name], others)) for name in drawn]

    def lesson(self, number: int, rng: np.random.Generator) -> Lesson:
        """What is taught of a clip."""
        clip = self.clips[number]
        answers = self._prompted(clip, rng)
        # A clip with one label only is always prompted: else the model would say that, unprompted.
        if len(clip.labels) > 1:
            answers += self._unprompted(clip, rng)
        return Lesson(number, answers)
