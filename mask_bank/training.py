"""Training masks: the model is frozen, the only trainable numbers are one logit a head (AHAMask, section 3).

Soft `S = σ((M + G)/τ)`, hard `m = 1[S > 0.5]` with the straight-through gradient, a loss on (audio, answer) pairs without
any instruction, and λ·Σm where sparsity is wanted. The loss is next-token cross-entropy, in which tokens may be weighed and
only those counted that the answer is held to. Several tasks and several seeds train in one pass: each row of a batch has the
gates of its own mask. A mask's batches and noise depend on its task, its seed and the step alone, so a training that was
killed resumes with identical results.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.tasks import TaskSpec
from ..errors import DataError, ModelError
from ..lalm.base import LALM
from ..lalm.constrained_decoding import task_constraint
from .checkpoint import Checkpoint, TrainingState
from .dev_scoring import ScoreFn, headline, score_mask
from .distributed import leave, this_process
from .labelled_clips import LabelledClips
from .lessons import MAX_TOKENS, Lesson, draw_prompts, group_by_length, lesson_losses
from .mask import HeadMask
from .recipe import Recipe
from .sampling import draw_noise, relaxed, straight_through
from .schedules import LearningRateSchedule, LinearSchedule

_log = logging.getLogger(__name__)


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
        DataError: no clip has the labels of a job's task, or there is no prompt to distil.
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
        self.dev_clips = [dev.draw(job.task, recipe.dev_clips) for job in jobs]
        for job, clips, tried in zip(jobs, self.train_clips, self.dev_clips, strict=True):
            if not clips or not tried:
                where = "train" if not clips else "dev"
                raise DataError(
                    f"no {where} clip has labels for {job.task.name}; give a manifest that has with --data, see docs/data.md"
                )
        recipe.check_distillation(job.task for job in jobs)
        self.constraints = [task_constraint(job.task) for job in jobs]
        self.data = [train.hash(job.task, clips) for job, clips in zip(jobs, self.train_clips, strict=True)]
        self.dev_data = [dev.hash(job.task, clips) for job, clips in zip(jobs, self.dev_clips, strict=True)]
        self.learning_rate = LearningRateSchedule(recipe.peak, recipe.floor, recipe.warmup, recipe.steps, start=recipe.floor)
        self.temperature = LinearSchedule(recipe.tau_begin, recipe.tau_end, recipe.tau_fraction, recipe.steps)
        self.noise_scale = LinearSchedule(recipe.noise_begin, recipe.noise_end, 1.0, recipe.steps)
        names = "+".join(dict.fromkeys(job.task.name for job in jobs))
        self.checkpoint = Checkpoint(checkpoints, self.key, names) if checkpoints else None
        self.masks: list[HeadMask] = []
        self.ended_early = False
        self.process = this_process()
        self.max_tokens = MAX_TOKENS

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
        try:
            if self.checkpoint and self.process.is_first:
                self.checkpoint.load(state)
            self._from_first(state)
            yield from self._steps(state, save_seconds, stop)
            self._from_first(state)
        finally:
            if self.checkpoint:
                self.checkpoint.release()
            leave()
        self.masks = [self._mask(at, state) for at in range(len(self.jobs))]
        for mask in self.masks:
            if mask.heads_on == mask.heads_total:
                words = "the training of %s ended with all heads on: the mask changes nothing; give more --steps, or --sparsity"
                _log.warning(words, mask.task_name)

    def _steps(self, state: TrainingState, save_seconds: float, stop: int | None) -> Iterator[TrainingProgress]:
        tries = np.linspace(0, self.recipe.steps, self.recipe.evaluations + 1)[1:].round().astype(int).tolist()
        started, first, saved = time.monotonic(), state.step, time.monotonic()
        end = self.recipe.steps if stop is None else min(stop, self.recipe.steps)
        while state.step < end and not self._is_over(state):
            losses, heads_on, tau = self._step(state)
            state.step += 1
            if self.process.is_first and (state.step == end or state.step in tries):
                self._try(state)
            due = time.monotonic() - saved > save_seconds or state.step in tries
            if self.checkpoint and self.process.is_first and due:
                self.checkpoint.save(state)
                saved = time.monotonic()
            if state.step in tries:
                state.stale = self.process.from_first(state.stale)
            pace = (time.monotonic() - started) / (state.step - first)
            left = pace * (end - state.step)
            yield TrainingProgress(state.step, self.recipe.steps, tau, losses, heads_on, tuple(state.dev_scores), left)
        self.ended_early = state.step < end

    def _is_over(self, state: TrainingState) -> bool:
        """Whether no mask has become better in the last tries."""
        return self.recipe.patience > 0 and min(state.stale) >= self.recipe.patience

    def _from_first(self, state: TrainingState) -> None:
        """Make the state of all processes that of the first."""
        if self.process.size > 1:
            stored = self.process.from_first(state.to_bytes(self.key) if self.process.is_first else b"")
            if not self.process.is_first:
                state.restore(stored, self.key)

    def _draw(self, at: int, step: int) -> tuple[list[int], torch.Generator]:
        """The clips of a job's batch, and the generator that its noise comes from."""
        generator = self._generator(self.jobs[at], step)
        picks = torch.randint(len(self.train_clips[at]), (self.recipe.batch,), generator=generator)
        return [self.train_clips[at][int(pick)] for pick in picks], generator

    def _step(self, state: TrainingState) -> tuple[tuple[float, ...], tuple[int, ...], float]:
        recipe, step = self.recipe, state.step
        tau, scale = self.temperature.at(step), self.noise_scale.at(step)
        state.optimizer.param_groups[0]["lr"] = self.learning_rate.at(step)
        lessons: list[Lesson] = []
        gates: list[Tensor] = []
        for at, job in enumerate(self.jobs):
            chosen, generator = self._draw(at, step)
            noise = draw_noise((recipe.batch, *self.model.geometry.shape), recipe.noise, generator)
            gates.append(straight_through(relaxed(state.logits[at], noise * scale, tau)))
            prompts = draw_prompts(job.task, recipe, generator)
            labels = [self.train_set.labels[clip] for clip in chosen]
            rows = zip(chosen, labels, prompts, strict=True)
            lessons += [Lesson(clip, job.task.target(said), self.constraints[at], prompt) for clip, said, prompt in rows]
        ahead = [clip for at in range(len(self.jobs)) for clip in self._draw(at, step + 1)[0]]
        self.train_set.features.prefetch([*(lesson.clip for lesson in lessons), *ahead])
        sampled = torch.cat(gates).masked_fill(self.model.geometry.fixed, 1.0)
        leaf = sampled.detach().requires_grad_()
        losses = self._row_losses(lessons, leaf)
        per_job = losses.view(len(self.jobs), recipe.batch).mean(1)
        penalty = recipe.sparsity * sampled[:, self.model.geometry.switchable].sum() / recipe.batch
        state.optimizer.zero_grad()
        torch.autograd.backward([sampled, penalty], [leaf.grad, None])
        state.optimizer.step()
        on = (state.logits.detach() >= 0)[:, self.model.geometry.switchable].sum(-1)
        return tuple(per_job.tolist()), tuple(on.tolist()), tau

    def _row_losses(self, lessons: list[Lesson], gates: Tensor) -> Float[Tensor, " row"]:
        """Loss of each row; the gradient of all jobs' mean losses is added up in `gates.grad`.

        Rows of similar length go through the model together, forwards and backwards before the next ones, and no more tokens
        at once than a budget, so that the memory taken does not grow with the number of rows. Several processes share them.

        Raises:
            ModelError: there is no memory for a single row, or another process has ended.
        """
        features = self.train_set.features
        lengths = [features.count(lesson.clip) + len(lesson.target) / 4 for lesson in lessons]
        losses, gradient = torch.zeros(len(lessons)), torch.zeros_like(gates)
        pieces = self.process.share(group_by_length(lengths, self.max_tokens))
        while pieces:
            piece = pieces.pop(0)
            leaf = gates[piece].detach().requires_grad_()
            try:
                found = lesson_losses(self.model, features, [lessons[at] for at in piece], leaf, self.recipe)
                (found.sum() / self.recipe.batch).backward()
            except torch.OutOfMemoryError:
                pieces = self._halved(piece, [lengths[at] for at in piece]) + pieces
                continue
            assert leaf.grad is not None
            losses[piece], gradient[piece] = found.detach().float().cpu(), leaf.grad
        self.process.add_up(losses)
        gates.grad = self.process.add_up(gradient)
        return losses

    def _halved(self, piece: list[int], lengths: list[float]) -> list[list[int]]:
        """A piece for which there was no memory, in smaller ones; all later ones are smaller, too."""
        tokens = max(lengths) * len(piece)
        if len(piece) == 1:
            raise ModelError(f"out of memory with one row of {tokens:.0f} tokens; use a smaller --dtype, or shorter clips")
        self.max_tokens = max(1, int(min(tokens, self.max_tokens) / 2))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _log.warning(
            "out of memory with %d rows of %d tokens; from now on at most %d at once", len(piece), tokens, self.max_tokens
        )
        return [[piece[at] for at in part] for part in group_by_length(lengths, self.max_tokens)]

    def _try(self, state: TrainingState) -> None:
        """Try the thresholded masks on dev clips and keep those that are at least as good as before."""
        for at, job in enumerate(self.jobs):
            mask = HeadMask.from_logits(state.logits[at], self.model.identity)
            found = score_mask(self.model, job.task, mask, self.dev_set, self.dev_clips[at], self.score_answers)
            before = state.merits[at]
            state.stale[at] = 0 if before is None or found.merit > before else state.stale[at] + 1
            if before is None or found.merit >= before:
                state.dev_scores[at], state.merits[at] = found.value, found.merit
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
