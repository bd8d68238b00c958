"""Training masks: the model is frozen, the only trainable numbers are one logit a head (AHAMask, section 3).

Soft `S = σ((M + G)/τ)`, hard `m = 1[S > 0.5]` with the straight-through gradient, a loss on (audio, answer) pairs without
any instruction, and λ·Σm where sparsity is wanted. The loss is next-token cross-entropy, in which tokens may be weighed, or
`margin_loss`. Several tasks and several seeds train in one pass: each row of a batch has the gates of its own mask. A
mask's batches and noise depend on its task, its seed and the step alone, so a training that was killed goes on to the
same bits.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.metrics import score
from ..data.tasks import TaskSpec
from ..errors import DataError
from ..lalm.base import LALM
from ..lalm.parallel import TaskRow, answer_task_rows
from .checkpoint import Checkpoint, TrainingState
from .labelled_clips import LabelledClips
from .losses import row_losses
from .mask import HeadMask
from .recipe import Recipe
from .sampling import draw_noise, relaxed, straight_through
from .schedules import LearningRateSchedule, LinearSchedule

MAX_ROWS = 24  # rows that go through the model at once
MAX_LENGTH_RATIO = 1.3  # how much longer the longest of them may be than the shortest; shorter ones are padded
EVAL_BATCH = 50  # dev clips that are answered at once

ScoreFn = Callable[[TaskSpec, list[str], list[str]], float]
"""(task, answers, references) → a figure of merit; higher is better."""


@dataclass(frozen=True)
class TrainingJob:
    """One mask to be trained: its task, its seed, and the mask it starts from (none: all heads on)."""

    task: TaskSpec
    seed: int
    start: HeadMask | None = None


@dataclass(frozen=True)
class TrainingProgress:
    """What a training tells after each step; one number a job."""

    step: int
    steps: int
    tau: float
    losses: tuple[float, ...]
    heads_on: tuple[int, ...]
    dev_scores: tuple[float | None, ...]
    seconds_left: float


def headline(task: TaskSpec, answers: list[str], references: list[str]) -> float:
    """The task's headline metric as a figure of merit: error rates count downwards."""
    head = score(task, answers, references)[0]
    return -head.value if head.better == "lower" else head.value


@torch.no_grad()
def score_mask(
    model: LALM, task: TaskSpec, mask: HeadMask, dev: LabelledClips, clips: Sequence[int], score_answers: ScoreFn = headline
) -> float:
    """A mask's figure of merit on dev clips, of answers as the mask gives them in use: held to the task's labels or form.

    Args:
        model: the model.
        task: what the mask does.
        mask: the mask.
        dev: clips with labels.
        clips: those of them that count.
        score_answers: scores the answers.
    """
    clips = sorted(clips, key=dev.features.count)  # so that little is padded
    references = [task.target(dev.labels[clip]) for clip in clips]
    limit = model.max_tokens_for(references)
    texts: list[str] = []
    for start in range(0, len(clips), EVAL_BATCH):
        features = dev.features.rows(clips[start : start + EVAL_BATCH])
        rows = [TaskRow(at, mask.gates, task=task) for at in range(len(features))]
        texts += [answer.text for answer in answer_task_rows(model, features, rows, max_new_tokens=limit, batch=EVAL_BATCH)]
    return score_answers(task, texts, references)


def group_by_length(lengths: Sequence[float]) -> list[list[int]]:
    """Rows in pieces of similar length, the shortest first: so little is padded, which costs as much as what is heard."""
    pieces: list[list[int]] = []
    for at in sorted(range(len(lengths)), key=lambda at: lengths[at]):
        if not pieces or len(pieces[-1]) == MAX_ROWS or lengths[at] > MAX_LENGTH_RATIO * lengths[pieces[-1][0]]:
            pieces.append([])
        pieces[-1].append(at)
    return pieces


class MaskTrainer:
    """Trains masks for some jobs at once on one model.

    Args:
        model: the frozen model.
        jobs: the masks to be trained.
        train: clips to learn from.
        dev: clips on which the thresholded masks are tried.
        recipe: all settings.
        score_answers: scores answers on dev; by default the task's headline metric.
        checkpoints: a folder for the file that a killed training goes on from; None keeps none.

    Raises:
        DataError: no clip has the labels of a job's task.
        MaskError: a job starts from a mask of another model.
    """

    def __init__(
        self,
        model: LALM,
        jobs: Sequence[TrainingJob],
        train: LabelledClips,
        dev: LabelledClips,
        recipe: Recipe,
        score_answers: ScoreFn = headline,
        checkpoints: Path | None = None,
    ) -> None:
        for job in jobs:
            if job.start is not None:
                job.start.require(model)
        self.model, self.jobs, self.recipe, self.score_answers = model, tuple(jobs), recipe, score_answers
        self.train_set, self.dev_set = train, dev
        self.train_clips = [train.clips_for(job.task) for job in jobs]
        self.dev_clips = [dev.clips_for(job.task)[: recipe.dev_clips] for job in jobs]
        for job, clips, tried in zip(jobs, self.train_clips, self.dev_clips, strict=True):
            if not clips or not tried:
                where = "train" if not clips else "dev"
                raise DataError(
                    f"no {where} clip has labels for {job.task.name}; give a manifest that has with --data, see docs/data.md"
                )
        self.data = [train.hash(job.task, clips) for job, clips in zip(jobs, self.train_clips, strict=True)]
        self.dev_data = [dev.hash(job.task, clips) for job, clips in zip(jobs, self.dev_clips, strict=True)]
        self.learning_rate = LearningRateSchedule(recipe.peak, recipe.floor, recipe.warmup, recipe.steps, start=recipe.floor)
        self.temperature = LinearSchedule(recipe.tau_begin, recipe.tau_end, recipe.tau_fraction, recipe.steps)
        self.noise_scale = LinearSchedule(1.0, recipe.noise_end, 1.0, recipe.steps)
        names = "+".join(dict.fromkeys(job.task.name for job in jobs))
        self.checkpoint = Checkpoint(checkpoints, self.key, names) if checkpoints else None
        self.masks: list[HeadMask] = []

    @property
    def key(self) -> str:
        """Identifies the training: model, jobs, their data, and recipe. Only a checkpoint of the same key is gone on from."""
        jobs = [(job.task.model_dump(mode="json"), job.seed, job.start and job.start.digest) for job in self.jobs]
        parts = [self.model.fingerprint, jobs, self.data, self.dev_data, self.recipe.model_dump()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _generator(self, job: TrainingJob, *numbers: int) -> torch.Generator:
        seed = hashlib.sha256(json.dumps([job.task.name, job.seed, *numbers]).encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(seed[:7], "little"))

    def _initial(self, job: TrainingJob) -> Float[Tensor, "layer head"]:
        shape = self.model.geometry.shape
        noise = self.recipe.deviation * torch.randn(shape, generator=self._generator(job))
        if job.start is None:
            return self.recipe.mean + noise
        # A start keeps its choice but can still change its mind: ±3 is sampled against its sign in one draw of 20.
        return torch.where(job.start.bits, 3.0, -3.0) + noise

    def run(self, save_seconds: float = 20.0, stop: int | None = None) -> Iterator[TrainingProgress]:
        """Train, yielding after each step; afterwards `masks` are the result.

        Args:
            save_seconds: between two checkpoints.
            stop: the step to stop at, where that is before the recipe's end; until then all is as the recipe says.
        """
        state = TrainingState.begin(torch.stack([self._initial(job) for job in self.jobs]), self.recipe.peak)
        if self.checkpoint:
            self.checkpoint.load(state)
        tries = np.linspace(0, self.recipe.steps, self.recipe.evaluations + 1)[1:].round().astype(int).tolist()
        started, first, saved = time.monotonic(), state.step, time.monotonic()
        end = self.recipe.steps if stop is None else min(stop, self.recipe.steps)
        while state.step < end:
            losses, heads_on, tau = self._step(state)
            state.step += 1
            if state.step == end or state.step in tries:
                self._try(state)
            if self.checkpoint and (time.monotonic() - saved > save_seconds or state.step in tries):
                self.checkpoint.save(state)
                saved = time.monotonic()
            pace = (time.monotonic() - started) / (state.step - first)
            left = pace * (end - state.step)
            yield TrainingProgress(state.step, self.recipe.steps, tau, losses, heads_on, tuple(state.dev_scores), left)
        self.masks = [self._mask(at, state) for at in range(len(self.jobs))]

    def _draw(self, at: int, step: int) -> tuple[list[int], torch.Generator]:
        """The clips of a job's batch, and the generator that its noise comes from."""
        generator = self._generator(self.jobs[at], step)
        picks = torch.randint(len(self.train_clips[at]), (self.recipe.batch,), generator=generator)
        return [self.train_clips[at][int(pick)] for pick in picks], generator

    def _step(self, state: TrainingState) -> tuple[tuple[float, ...], tuple[int, ...], float]:
        recipe, step = self.recipe, state.step
        tau, scale = self.temperature.at(step), self.noise_scale.at(step)
        state.optimizer.param_groups[0]["lr"] = self.learning_rate.at(step)
        rows: list[int] = []
        gates: list[Tensor] = []
        targets: list[str] = []
        for at, job in enumerate(self.jobs):
            chosen, generator = self._draw(at, step)
            noise = draw_noise((recipe.batch, *self.model.geometry.shape), recipe.noise, generator)
            gates.append(straight_through(relaxed(state.logits[at], noise * scale, tau)))
            targets += [job.task.target(self.train_set.labels[clip]) for clip in chosen]
            rows += chosen
        self.train_set.features.prefetch([*rows, *(clip for at in range(len(self.jobs)) for clip in self._draw(at, step + 1)[0])])
        sampled = torch.cat(gates).masked_fill(self.model.geometry.fixed, 1.0)
        leaf = sampled.detach().requires_grad_()
        losses = self._row_losses(rows, targets, leaf)
        per_job = losses.view(len(self.jobs), recipe.batch).mean(1)
        penalty = recipe.sparsity * sampled[:, self.model.geometry.switchable].sum() / recipe.batch
        state.optimizer.zero_grad()
        torch.autograd.backward([sampled, penalty], [leaf.grad, None])
        state.optimizer.step()
        on = (state.logits.detach() >= 0)[:, self.model.geometry.switchable].sum(-1)
        return tuple(per_job.tolist()), tuple(on.tolist()), tau

    def _row_losses(self, rows: list[int], targets: list[str], gates: Tensor) -> Float[Tensor, " row"]:
        """Loss of each row; the gradient of all jobs' mean losses is added up in `gates.grad`.

        Rows of similar length go through the model together, forwards and backwards before the next ones, so that the
        memory taken does not grow with the number of rows.
        """
        features = self.train_set.features
        losses = torch.empty(len(rows))
        for piece in group_by_length([features.count(row) + len(target) / 4 for row, target in zip(rows, targets, strict=True)]):
            heard, right = features.rows([rows[at] for at in piece]), [targets[at] for at in piece]
            found = row_losses(self.model, heard, right, gates[piece], self.recipe)
            (found.sum() / self.recipe.batch).backward()
            losses[piece] = found.detach().float().cpu()
        return losses

    def _try(self, state: TrainingState) -> None:
        """Try the thresholded masks on dev clips and keep those that are at least as good as before."""
        for at, job in enumerate(self.jobs):
            mask = HeadMask.from_logits(state.logits[at], self.model.identity)
            dev_score = score_mask(self.model, job.task, mask, self.dev_set, self.dev_clips[at], self.score_answers)
            before = state.dev_scores[at]
            if before is None or dev_score >= before:
                state.dev_scores[at] = dev_score
                state.best[at] = state.logits[at].detach()

    def _mask(self, at: int, state: TrainingState) -> HeadMask:
        job, dev_score = self.jobs[at], state.dev_scores[at]
        lineage = {"operation": "train", "task": job.task.name, "seed": job.seed, "data": self.data[at]}
        lineage |= {"dev_data": self.dev_data[at], "recipe": self.recipe.model_dump(), "clips": len(self.train_clips[at])}
        if state.step < self.recipe.steps:
            lineage["stopped"] = state.step
        if job.start is not None:
            lineage["start"] = dict(job.start.lineage) | job.start.reference()
        return HeadMask.from_logits(
            state.best[at],
            self.model.identity,
            task=job.task,
            lineage=lineage,
            scores={} if dev_score is None else {"dev": round(dev_score, 2)},
        )
