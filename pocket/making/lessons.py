"""What the language model is taught of a clip: some tasks, how it is told of each (or not), and the answers.

About half of the answers follow no instruction at all. Without such rows prompts work but masks do not; with them the
model, told nothing, is undecided between its tasks, and a mask decides. What it learns there is not one answer drawn by
chance but how likely each next token is if all that fits the clip is open: else it would come to prefer a task for some
clips, as chance had it, and a mask would have to win against that. For some clips the words before the audio offer a few
tasks only: so the model learns to read there what it may answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np
from transformers import PreTrainedTokenizerFast

from ...data.manifest import Clip
from ...data.tasks import builtin_tasks, parse_task
from ..architecture import TEMPLATE, opening
from ..instructions import wordings

# How often a task is drawn, among those that a clip has labels for.
WEIGHTS = {"asr": 4.0, "s2tt": 2.0, "gr": 1.5, "ser": 2.0, "age": 1.5, "asv": 3.0, "aac": 1.5, "osr": 3.0}
# The same for answers without an instruction: told nothing, no task is to be likelier than the others by far. JSON answers
# all begin alike, so together they would be; they are to be likelier than any one label, though, so that a mask which
# leaves nothing of what was heard does not give a label that is right half the time.
UNTOLD_WEIGHTS = {"asr": 2.2, "s2tt": 2.2, "gr": 2.2, "ser": 1.5, "age": 1.5, "asv": 2.0, "aac": 1.5, "osr": 3.0}
UNTOLD_JSON = 0.7
COMPOSABLE = ("asr", "gr", "ser", "s2tt", "age")
# Of each composite; gender with words, as in the paper, counts sixfold. Told nothing, the model is to be about as likely to
# go on with a bar after an answer as to stop there.
COMPOSITE_WEIGHT, UNTOLD_COMPOSITE_WEIGHT = 0.18, 0.28
MOST_OFFERED = 6
Shares = Mapping[str, float]  # task's name → how likely it is

spec = cache(parse_task)


@cache
def _pairs(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("-".join(pair) + end for pair in permutations(parts, 2) for end in ("", "-json"))


def composites(labels: Mapping[str, str]) -> tuple[str, ...]:
    """The two-part composites that a clip's labels allow: every ordered pair, as pipe and as JSON."""
    return _pairs(tuple(part for part in COMPOSABLE if labels.get(part)))


def task_shares(clip: Clip, told: bool) -> dict[str, float]:
    """How likely each task of a clip is, for an answer that has an instruction (`told`) or none."""
    singles = WEIGHTS if told else UNTOLD_WEIGHTS
    # An empty transcript (nothing is said) is soon learnt.
    weights = {
        name: singles[name] if clip.labels[name] else 0.5 if told else 1.0 for name in builtin_tasks() if name in clip.labels
    }
    for name in composites(clip.labels):
        weight = COMPOSITE_WEIGHT if told else UNTOLD_COMPOSITE_WEIGHT
        weight *= 6.0 if set(spec(name).names) == {"gr", "asr"} else 1.0
        weights[name] = weight if told or spec(name).form == "pipe" else UNTOLD_JSON * weight
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


def all_texts(clips: Sequence[Clip], sentences: Sequence[str] = ()) -> list[str]:
    """Everything the tokenizer should know: template, instructions, answers of the training clips, further sentences."""
    said = [text for name in (*builtin_tasks(), *_pairs(COMPOSABLE)) for text in wordings(spec(name))[:200]]
    train = [clip for clip in clips if clip.split == "train"]
    answers = [label for clip in train for label in clip.labels.values()]
    jsons = [spec(name).target(clip.labels) for clip in train[::4] for name in composites(clip.labels)]
    firsts = [answer.split()[0] for answer in answers if answer]  # the form without a space
    return [TEMPLATE.before, *said * 20, *(text.capitalize() for text in said), *answers, *jsons, *firsts, *sentences]


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
    """One clip, the token ids before its audio (none: the usual opening), and several answers behind it."""

    clip: int
    before: list[int]
    answers: list[Answer]

    @property
    def text_length(self) -> int:
        """Positions beside the audio."""
        return len(self.before) + sum(len(each.given) for each in self.answers)


class Lessons:
    """Draws tasks, instructions and answers for clips.

    Args:
        tokenizer: the model's.
        clips: all clips.
        told: answers with an instruction for each clip.
        untold: answers without one.
        offers: share of the clips before which some of its tasks only are offered; all their answers are without instruction.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, clips: Sequence[Clip], told: int, untold: int, offers: float = 0.0
    ) -> None:
        self.tokenizer, self.clips, self.told, self.untold, self.offers = tokenizer, clips, told, untold, offers
        self._wordings = cache(lambda name: wordings(spec(name)))
        self._ids = cache(self._tokenize)
        self.opening = self._ids(TEMPLATE.before)

    def _tokenize(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _target(self, name: str, clip: Clip) -> list[int]:
        return self._ids(spec(name).target(clip.labels) + self.tokenizer.eos_token)

    def _told(self, clip: Clip, rng: np.random.Generator) -> list[Answer]:
        found = []
        for name in _draw(task_shares(clip, told=True), self.told, rng):
            choices, target = self._wordings(name), self._target(name, clip)
            said = vary(choices[int(rng.integers(len(choices)))], rng)
            found.append(Answer(self._ids(TEMPLATE.after.format(said)), target, [{token: 1.0} for token in target]))
        return found

    def _untold(self, clip: Clip, shares: Shares, count: int, rng: np.random.Generator) -> list[Answer]:
        after = self._ids(TEMPLATE.after.format(""))
        targets = {name: self._target(name, clip) for name in shares}
        others = [(targets[name], share) for name, share in shares.items()]
        return [Answer(after, targets[name], next_shares(targets[name], others)) for name in _draw(shares, count, rng)]

    def lesson(self, number: int, rng: np.random.Generator) -> Lesson:
        """What is taught of a clip."""
        clip = self.clips[number]
        shares = task_shares(clip, told=False)
        # A clip with one label only is always told what to do: else the model would say that, told nothing.
        if len(clip.labels) > 1 and rng.random() < self.offers:
            offered = _draw(task_shares(clip, told=True), int(rng.integers(1, MOST_OFFERED + 1)), rng)
            few = {name: shares[name] for name in offered}
            return Lesson(number, self._ids(opening([spec(n) for n in few])), self._untold(clip, few, self.untold, rng))
        answers = self._told(clip, rng)
        if len(clip.labels) > 1:
            answers += self._untold(clip, shares, self.untold, rng)
        return Lesson(number, [], answers)

    def batches(
        self, chosen: Sequence[int], lengths: Sequence[int], most: int, seed: int, short_first: Sequence[Sequence[int]] = ()
    ) -> Iterator[list[Lesson]]:
        """Endless batches of lessons in any order, of `most` tokens at most (or one lesson).

        Args:
            chosen: the clips.
            lengths: of every clip's audio.
            most: tokens of a batch.
            seed: of the order and of what is drawn.
            short_first: (step, length): until that step only clips up to that length, as it is easier to find out in short ones
                what of the audio an answer's words come from (Amodei et al. 2016, section 3.2).
        """
        rng = np.random.default_rng(seed)
        batch: list[Lesson] = []
        tokens, step = len(self.opening), 0
        while True:
            longest = next((length for until, length in short_first if step < until), max(lengths))
            ends = next((until for until, _ in short_first if step < until), None)
            for at in rng.permutation([at for at in chosen if lengths[at] <= longest]):
                lesson = self.lesson(int(at), rng)
                size = lengths[lesson.clip] + lesson.text_length
                if batch and tokens + size > most:
                    yield batch
                    batch, tokens, step = [], len(self.opening), step + 1
                batch.append(lesson)
                tokens += size
                if step == ends:
                    break
