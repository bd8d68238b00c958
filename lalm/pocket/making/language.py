"""Second stage: the language model learns to follow instructions over the frozen encoder's features.

A share of rows has no instruction at all and a random task as its target. Without such rows prompts work but masks do
not; with them the model, told nothing, is undecided between its tasks, and a mask decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2AudioForConditionalGeneration

from ....data.instructions import wordings
from ....data.manifest import Clip
from ....data.tasks import TASKS, TaskSpec
from ...assembly import pad_rows
from ..architecture import TEMPLATE
from .loop import train
from .stages import Log
from .store import FrameStore, training_clips

# How often a task is drawn, among those that a clip has labels for.
WEIGHTS = {"asr": 2.5, "s2tt": 2.5, "gr": 1.5, "ser": 1.5, "age": 1.5, "asv": 3.0, "aac": 1.5, "osr": 3.0}
# The same for rows without an instruction: told nothing, no task is to be likelier than the others by far. JSON answers
# all begin alike, so together they would be.
UNTOLD_WEIGHTS = WEIGHTS | {"asr": 2.0, "s2tt": 2.2, "gr": 2.2}
UNTOLD_JSON = 0.3
COMPOSABLE = ("asr", "gr", "ser", "s2tt", "age")
# Of each composite; gender with words, as in the paper, counts sixfold. Told nothing, the model is to be about as likely to
# go on with a bar after an answer as to stop there.
COMPOSITE_WEIGHT, UNTOLD_COMPOSITE_WEIGHT = 0.18, 0.28


def composites(labels: dict[str, str]) -> list[TaskSpec]:
    """The two-part composites that a clip's labels allow: every ordered pair, as pipe and as JSON."""
    parts = [part for part in COMPOSABLE if labels.get(part)]
    return [TaskSpec(pair, form) for pair in permutations(parts, 2) for form in ("pipe", "json")]


def draw_task(clip: Clip, told: bool, rng: np.random.Generator) -> TaskSpec:
    """Draw a task for a clip, whose row has an instruction (`told`) or none."""
    singles = WEIGHTS if told else UNTOLD_WEIGHTS
    single = [TaskSpec((name,), "plain") for name in TASKS if name in clip.labels]
    # An empty transcript (sounds without speech) is soon learnt.
    weights = [singles[task.parts[0]] if clip.labels[task.parts[0]] else 0.5 for task in single]
    several = composites(clip.labels)
    shares = [6.0 if set(task.parts) == {"gr", "asr"} else 1.0 for task in several]
    shares = [share if told or task.form == "pipe" else UNTOLD_JSON * share for share, task in zip(shares, several, strict=True)]
    weights += [(COMPOSITE_WEIGHT if told else UNTOLD_COMPOSITE_WEIGHT) * share for share in shares]
    tasks = single + several
    return tasks[int(rng.choice(len(tasks), p=np.array(weights) / sum(weights)))]


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
    specs = [TaskSpec((name,), "plain") for name in TASKS]
    specs += [TaskSpec(pair, form) for pair in permutations(COMPOSABLE, 2) for form in ("pipe", "json")]
    said = [text for spec in specs for text in wordings(spec)[:200]]
    answers = [label for clip in clips if clip.split == "train" for label in clip.labels.values()]
    jsons = [spec.target(clip.labels) for clip in clips[:4000] if clip.split == "train" for spec in composites(clip.labels)]
    firsts = [answer.split()[0] for answer in answers if answer]  # the form without a space
    return [TEMPLATE.before, *said * 20, *(text.capitalize() for text in said), *answers, *jsons, *firsts]


@dataclass(frozen=True)
class Row:
    """One clip, the token ids behind its audio, and those of the answer."""

    clip: int
    after: list[int]
    answer: list[int]


class Lessons:
    """Draws tasks, instructions and answers for clips."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, clips: list[Clip], no_instruction: float) -> None:
        self.tokenizer, self.clips, self.no_instruction = tokenizer, clips, no_instruction
        self._wordings = cache(wordings)

    def draw(self, chosen: list[int], rng: np.random.Generator) -> list[Row]:
        """One row a clip."""
        after, answers = [], []
        for i in chosen:
            clip = self.clips[i]
            # A clip with one label only is always told what to do: else the model would say that, told nothing.
            told = len(clip.labels) == 1 or rng.random() >= self.no_instruction
            task = draw_task(clip, told, rng)
            said = ""
            if told:
                choices = self._wordings(task)
                said = vary(choices[int(rng.integers(len(choices)))], rng)
            after.append(TEMPLATE.after.format(said))
            answers.append(task.target(clip.labels) + self.tokenizer.eos_token)
        ids = [self.tokenizer(texts, add_special_tokens=False)["input_ids"] for texts in (after, answers)]
        return [Row(*row) for row in zip(chosen, *ids, strict=True)]

    def batches(self, chosen: list[int], lengths: list[int], size: int, seed: int, chunk: int = 16) -> Iterator[list[Row]]:
        """Endless batches of rows of similar length: drawn for some batches at once, sorted, and shuffled."""
        rng = np.random.default_rng(seed)
        while True:
            order = rng.permutation(chosen)
            for start in range(0, len(order) - size * chunk + 1, size * chunk):
                rows = self.draw([int(i) for i in order[start : start + size * chunk]], rng)
                rows.sort(key=lambda row: lengths[row.clip] + len(row.after) + len(row.answer))
                yield from (rows[at : at + size] for at in rng.permutation(np.arange(0, len(rows), size)))


def answer_loss(
    model: Qwen2AudioForConditionalGeneration, audio: list[Tensor], before: list[int], rows: list[Row]
) -> dict[str, Tensor]:
    """Cross-entropy on the answers: the first token, which decides the task, apart from the mean of the others."""
    embed = model.get_input_embeddings()
    start = embed(torch.tensor(before))
    pairs = zip(audio, rows, strict=True)
    inputs = [torch.cat([start, heard, embed(torch.tensor(row.after + row.answer[:-1]))]) for heard, row in pairs]
    answers = [row.answer for row in rows]
    embeds, _ = pad_rows(inputs, "right")  # causal attention never sees padding on the right
    hidden = model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    picked = torch.cat([hidden[row, len(x) - len(a) : len(x)] for row, (x, a) in enumerate(zip(inputs, answers, strict=True))])
    targets = torch.tensor([token for answer in answers for token in answer])
    losses = nn.functional.cross_entropy(model.lm_head(picked), targets, reduction="none")
    lengths = torch.tensor([len(answer) for answer in answers])
    first = torch.zeros(len(targets), dtype=torch.bool)
    first[torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)[:-1]])] = True
    return {"first": 0.3 * losses[first].mean(), "rest": losses[~first].mean()}


def train_language(
    model: Qwen2AudioForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    store: FrameStore,
    clips: list[Clip],
    settings: dict,
    seed: int,
    folder: Path,
    log: Log,
) -> None:
    """Train projector and language model on the training clips' features, in rounds; checkpoints lie in `folder`."""
    lengths = [store.length(i) for i in range(len(clips))]
    before = tokenizer(TEMPLATE.before, add_special_tokens=False)["input_ids"]
    modules = nn.ModuleDict(
        {"projector": model.model.multi_modal_projector, "language": model.model.language_model, "head": model.lm_head}
    )
    for number, phase in enumerate(settings["rounds"], 1):
        lessons = Lessons(tokenizer, clips, phase["no_instruction"])
        chosen = training_clips(clips, phase.get("repeat", {}))
        batches = enumerate(lessons.batches(chosen, lengths, settings["batch"], seed + number))

        def losses(step: int, batches: Iterator = batches, number: int = number) -> dict[str, Tensor]:
            rows = next(rows for at, rows in batches if at == step)
            rng = np.random.default_rng([seed, number, step])
            features, heard = store.batch([row.clip for row in rows])
            features = features + 0.1 * torch.from_numpy(rng.normal(size=features.shape).astype(np.float32))
            projected = model.model.multi_modal_projector(features)
            audio = [row[:length] for row, length in zip(projected, heard.tolist(), strict=True)]
            return answer_loss(model, audio, before, rows)

        kept = {key: phase[key] for key in ("steps", "peak", "warmup")}
        train(modules, losses, checkpoint=folder / f"language{number}.pt", log=log, **kept)
