"""What the language model is taught of a clip: a task, how it is told of it (or not), and the answer.

A share of rows has no instruction at all. Without such rows prompts work but masks do not; with them the model, told nothing,
is undecided between its tasks, and a mask decides. What it learns there is not one answer drawn by chance but how likely each
next token is if all that fits the clip is open: else it would come to prefer a task for some clips, as chance had it, and a mask
would have to win against that. In some of these rows the words before the audio offer a few tasks only: so the model
learns to read there what it may answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np
from transformers import PreTrainedTokenizerFast

from ...data.manifest import Clip
from ...data.tasks import TaskSpec, builtin_tasks, parse_task
from ..architecture import TEMPLATE, opening
from ..instructions import wordings

# How often a task is drawn, among those that a clip has labels for.
WEIGHTS = {"asr": 2.5, "s2tt": 2.5, "gr": 1.5, "ser": 1.5, "age": 1.5, "asv": 3.0, "aac": 1.5, "osr": 3.0}
# The same for rows without an instruction: told nothing, no task is to be likelier than the others by far. JSON answers
# all begin alike, so together they would be; they are to be likelier than any one label, though, so that a mask which
# leaves nothing of what was heard does not give a label that is right half the time.
UNTOLD_WEIGHTS = WEIGHTS | {"asr": 2.0, "s2tt": 2.2, "gr": 2.2, "asv": 2.0}
UNTOLD_JSON = 0.7
COMPOSABLE = ("asr", "gr", "ser", "s2tt", "age")
# Of each composite; gender with words, as in the paper, counts sixfold. Told nothing, the model is to be about as likely to
# go on with a bar after an answer as to stop there.
COMPOSITE_WEIGHT, UNTOLD_COMPOSITE_WEIGHT = 0.18, 0.28
MOST_OFFERED = 6


def composites(labels: dict[str, str]) -> list[TaskSpec]:
    """The two-part composites that a clip's labels allow: every ordered pair, as pipe and as JSON."""
    parts = [part for part in COMPOSABLE if labels.get(part)]
    return [parse_task("-".join(pair) + end) for pair in permutations(parts, 2) for end in ("", "-json")]


def task_shares(clip: Clip, told: bool) -> dict[TaskSpec, float]:
    """How likely each task of a clip is, in a row that has an instruction (`told`) or none."""
    singles = WEIGHTS if told else UNTOLD_WEIGHTS
    single = [parse_task(name) for name in builtin_tasks() if name in clip.labels]
    # An empty transcript (sounds without speech) is soon learnt.
    weights = [singles[task.names[0]] if clip.labels[task.names[0]] else 0.5 if told else 1.0 for task in single]
    several = composites(clip.labels)
    shares = [6.0 if set(task.names) == {"gr", "asr"} else 1.0 for task in several]
    shares = [share if told or task.form == "pipe" else UNTOLD_JSON * share for share, task in zip(shares, several, strict=True)]
    weights += [(COMPOSITE_WEIGHT if told else UNTOLD_COMPOSITE_WEIGHT) * share for share in shares]
    return dict(zip(single + several, (np.array(weights) / sum(weights)).tolist(), strict=True))


def _draw(shares: dict[TaskSpec, float], rng: np.random.Generator) -> TaskSpec:
    weights = np.array(list(shares.values()))
    return list(shares)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def _some(shares: dict[TaskSpec, float], likely: dict[TaskSpec, float], rng: np.random.Generator) -> dict[TaskSpec, float]:
    """The shares of one to six tasks, in any order; those are chosen that are `likely`."""
    count = min(int(rng.integers(1, MOST_OFFERED + 1)), len(shares))
    tasks = list(shares)
    chosen = rng.choice(len(tasks), count, replace=False, p=list(likely.values()))
    return {tasks[int(at)]: shares[tasks[int(at)]] for at in chosen}


def vary(instruction: str, rng: np.random.Generator) -> str:
    """Small variations of a wording: politeness, capital letter, final mark."""
    if rng.random() < 0.15:
        instruction = f"please {instruction}" if "please" not in instruction else instruction
    if rng.random() < 0.2:
        instruction = instruction[0].upper() + instruction[1:]
    if rng.random() < 0.2:
        instruction += str(rng.choice([".", "?", " please"]))
    return instruction


def all_texts(clips: list[Clip]) -> list[str]:
    """Everything the tokenizer should know: template, instructions, and answers of the training clips."""
    specs = [parse_task(name) for name in builtin_tasks()]
    specs += [parse_task("-".join(pair) + end) for pair in permutations(COMPOSABLE, 2) for end in ("", "-json")]
    said = [text for spec in specs for text in wordings(spec)[:200]]
    answers = [label for clip in clips if clip.split == "train" for label in clip.labels.values()]
    jsons = [spec.target(clip.labels) for clip in clips[:4000] if clip.split == "train" for spec in composites(clip.labels)]
    firsts = [answer.split()[0] for answer in answers if answer]  # the form without a space
    return [TEMPLATE.before, *said * 20, *(text.capitalize() for text in said), *answers, *jsons, *firsts]


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
class Row:
    """One clip, the token ids around its audio and of the answer, and how likely each token is at each place of the answer."""

    clip: int
    before: list[int]
    after: list[int]
    answer: list[int]
    shares: list[dict[int, float]]

    @property
    def text_length(self) -> int:
        """Positions beside the audio."""
        return len(self.before) + len(self.after) + len(self.answer)


class Lessons:
    """Draws tasks, instructions and answers for clips.

    Args:
        tokenizer: the model's.
        clips: all clips.
        no_instruction: share of rows without an instruction.
        offers: share of these in which the words before the audio offer some of a clip's tasks only.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, clips: list[Clip], no_instruction: float, offers: float = 0.0) -> None:
        self.tokenizer, self.clips, self.no_instruction, self.offers = tokenizer, clips, no_instruction, offers
        self._wordings = cache(wordings)
        self._whole = self._ids(TEMPLATE.before)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _row(self, number: int, rng: np.random.Generator) -> Row:
        clip = self.clips[number]
        # A clip with one label only is always told what to do: else the model would say that, told nothing.
        told = len(clip.labels) == 1 or rng.random() >= self.no_instruction
        shares, before, said = task_shares(clip, told), self._whole, ""
        if not told and rng.random() < self.offers:
            shares = _some(shares, task_shares(clip, told=True), rng)
            before = self._ids(opening(list(shares)))
        task = _draw(shares, rng)
        if told:
            choices = self._wordings(task)
            said = vary(choices[int(rng.integers(len(choices)))], rng)
            shares = {task: 1.0}
        texts = [each.target(clip.labels) + self.tokenizer.eos_token for each in shares]
        answers = dict(zip(shares, self.tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True))
        others = [(answers[each], share) for each, share in shares.items()]
        after = self._ids(TEMPLATE.after.format(said))
        return Row(number, before, after, answers[task], next_shares(answers[task], others))

    def draw(self, chosen: list[int], rng: np.random.Generator) -> list[Row]:
        """One row a clip."""
        return [self._row(number, rng) for number in chosen]

    def batches(self, chosen: list[int], lengths: list[int], size: int, seed: int, chunk: int = 16) -> Iterator[list[Row]]:
        """Endless batches of rows of similar length: drawn for some batches at once, sorted, and shuffled."""
        rng = np.random.default_rng(seed)
        while True:
            order = rng.permutation(chosen)
            for start in range(0, len(order) - size * chunk + 1, size * chunk):
                rows = self.draw([int(i) for i in order[start : start + size * chunk]], rng)
                rows.sort(key=lambda row: lengths[row.clip] + row.text_length)
                yield from (rows[at : at + size] for at in rng.permutation(np.arange(0, len(rows), size)))
