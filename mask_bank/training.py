"""Training masks: the model is frozen, the only trainable numbers are one logit a head (AHAMask, section 3).

Soft `S = σ((M + G)/τ)`, hard `m = 1[S > 0.5]` with the straight-through gradient, a loss on (audio, answer) pairs without
any instruction, and λ·Σm where sparsity is wanted. The loss is next-token cross-entropy, in which tokens may be weighed, or
`margin_loss`. Several tasks and several seeds train in one pass: each row of a batch has the gates of its own mask. A
mask's batches and noise depend on its task, its seed and the step alone, so a training that was killed goes on to the
same bits.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.files import write_whole
from ..data.tasks import TaskSpec
from ..errors import DataError
from ..lalm.assembly import AudioFeatures
from ..lalm.base import LALM
from .mask import HeadMask
from .recipe import Recipe
from .sampling import draw_noise, relaxed, straight_through
from .schedules import LearningRateSchedule, LinearSchedule

TOGETHER = 24  # rows that go through the model at once; more would be padded more
SLOPE = 0.01  # of the margin loss, where an answer is far from right

Judge = Callable[[TaskSpec, list[str], list[str]], float]
"""(task, answers, references) → a figure of merit; higher is better."""


@dataclass(frozen=True)
class Examples:
    """Encoded clips and their labels."""

    features: AudioFeatures
    labels: tuple[dict[str, str], ...]

    def serving(self, task: TaskSpec) -> list[int]:
        """The clips that have a label for every part of a task; composites need parts that are not empty."""
        needed = task.names
        whole = [i for i, labels in enumerate(self.labels) if all(part in labels for part in needed)]
        return whole if task.form == "plain" else [i for i in whole if all(self.labels[i][part] for part in needed)]


@dataclass(frozen=True)
class Job:
    """One mask to be trained: its task, its seed, and the mask it starts from (none: all heads on)."""

    task: TaskSpec
    seed: int
    start: HeadMask | None = None


@dataclass(frozen=True)
class Progress:
    """What a training tells after each step; one number a job."""

    step: int
    steps: int
    tau: float
    losses: tuple[float, ...]
    heads_on: tuple[int, ...]
    merits: tuple[float | None, ...]
    seconds_left: float


@dataclass
class _State:
    """Everything that changes, and all that a checkpoint holds."""

    logits: Tensor
    optimizer: torch.optim.Adam
    step: int
    best: Tensor
    merits: list[float | None]

    def save(self, path: Path, key: str) -> None:
        content = {"logits": self.logits.detach(), "optimizer": self.optimizer.state_dict(), "step": self.step}
        buffer = io.BytesIO()
        torch.save(content | {"best": self.best, "merits": self.merits, "key": key}, buffer)
        write_whole(buffer.getvalue(), path, parents=True)


def default_judge(_task: TaskSpec, answers: list[str], references: list[str]) -> float:
    """Share of answers that are right as a whole, in percent."""
    return 100 * sum(a == r for a, r in zip(answers, references, strict=True)) / len(answers)


def margin_loss(margins: Float[Tensor, "row token"], sharpness: float) -> Float[Tensor, " row"]:
    """A smooth form of "greedy search gives another answer": `1 − exp(−d) + d/100`, where `d = log(1 + Σ exp(−k·margin)) / k`.

    For a large k, d is how far the worst margin is below 0. What counts are the tokens that are not the likeliest, or only
    just, wherever they stand in the answer; a token that is far ahead counts no more. An answer that is far from right counts
    little, but never nothing, so that a mask can be learned where all answers are.

    Args:
        margins: of each token, as `LALM.token_margins` gives them; infinity where there is none.
        sharpness: k, in 1/nat.
    """
    behind = torch.cat([margins.new_zeros(len(margins), 1), -sharpness * margins], 1).logsumexp(1) / sharpness
    return 1 - torch.exp(-behind) + SLOPE * behind


class MaskTrainer:
    """Trains masks for some jobs at once on one model.

    Args:
        model: the frozen model.
        jobs: the masks to be trained.
        train: clips to learn from.
        dev: clips on which the thresholded masks are tried.
        recipe: all settings.
        judge: scores answers on dev; by default the share that is right as a whole.
        checkpoint: a file that a killed training goes on from; none keeps no checkpoint.

    Raises:
        DataError: no clip has the labels of a job's task.
        MaskError: a job starts from a mask of another model.
    """

    def __init__(
        self,
        model: LALM,
        jobs: Sequence[Job],
        train: Examples,
        dev: Examples,
        recipe: Recipe,
        judge: Judge = default_judge,
        checkpoint: Path | None = None,
    ) -> None:
        for job in jobs:
            if job.start is not None:
                job.start.require(model)
        self.model, self.jobs, self.recipe, self.judge, self.checkpoint = model, tuple(jobs), recipe, judge, checkpoint
        self.train_set, self.dev_set = train, dev
        self.train_clips = [train.serving(job.task) for job in jobs]
        self.dev_clips = [dev.serving(job.task)[: recipe.dev_clips] for job in jobs]
        for job, clips, tried in zip(jobs, self.train_clips, self.dev_clips, strict=True):
            if not clips or not tried:
                where = "train" if not clips else "dev"
                raise DataError(
                    f"no {where} clip has labels for {job.task.name}; give a manifest that has with --data, see docs/data.md"
                )
        self.learning_rate = LearningRateSchedule(recipe.peak, recipe.floor, recipe.warmup, recipe.steps, start=recipe.floor)
        self.temperature = LinearSchedule(recipe.tau_begin, recipe.tau_end, recipe.tau_fraction, recipe.steps)
        self.noise_scale = LinearSchedule(1.0, recipe.noise_end, float(recipe.steps), recipe.steps)

    @property
    def key(self) -> str:
        """Identifies the training: model, data, jobs and recipe. A checkpoint with another key is not resumed."""
        jobs = [(j.task.name, j.seed, j.start and j.start.gates.flatten().int().tolist()) for j in self.jobs]
        parts = [self.model.fingerprint, self.data_hash, jobs, self.recipe.model_dump()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def data_hash(self) -> str:
        """Hash of labels and features of the clips."""
        hashed = hashlib.sha256()
        for examples in (self.train_set, self.dev_set):
            hashed.update(json.dumps(examples.labels, sort_keys=True).encode())
            hashed.update(examples.features.lengths.numpy().tobytes())
        return hashed.hexdigest()[:16]

    def _generator(self, job: Job, *numbers: int) -> torch.Generator:
        seed = hashlib.sha256(json.dumps([job.task.name, job.seed, *numbers]).encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(seed[:7], "little"))

    def _initial(self, job: Job) -> Float[Tensor, "layer head"]:
        shape = self.model.geometry.shape
        noise = self.recipe.deviation * torch.randn(shape, generator=self._generator(job))
        if job.start is None:
            return self.recipe.mean + noise
        # A start keeps its choice but can still change its mind: ±3 is sampled against its sign in one draw of 20.
        return torch.where(job.start.bits, 3.0, -3.0) + noise

    def _state(self) -> _State:
        logits = torch.stack([self._initial(job) for job in self.jobs]).requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=self.recipe.peak)
        state = _State(logits, optimizer, 0, logits.detach().clone(), [None] * len(self.jobs))
        if self.checkpoint and self.checkpoint.exists():
            stored = torch.load(self.checkpoint, weights_only=True)
            if stored.get("key") == self.key:
                logits.data.copy_(stored["logits"])
                optimizer.load_state_dict(stored["optimizer"])
                state.step, state.best, state.merits = stored["step"], stored["best"], stored["merits"]
        return state

    def run(self, save_seconds: float = 20.0) -> Iterator[Progress]:
        """Train to the end, yielding after each step; afterwards `masks` are the result."""
        state = self._state()
        tries = np.linspace(0, self.recipe.steps, self.recipe.evaluations + 1)[1:].round().astype(int).tolist()
        started, first, saved = time.monotonic(), state.step, time.monotonic()
        key = self.key
        while state.step < self.recipe.steps:
            losses, heads_on, tau = self._step(state)
            state.step += 1
            if state.step in tries:
                self._try(state)
            if self.checkpoint and (time.monotonic() - saved > save_seconds or state.step in tries):
                state.save(self.checkpoint, key)
                saved = time.monotonic()
            pace = (time.monotonic() - started) / (state.step - first)
            left = pace * (self.recipe.steps - state.step)
            yield Progress(state.step, self.recipe.steps, tau, losses, heads_on, tuple(state.merits), left)
        self.masks = [self._mask(job, state.best[at], state.merits[at]) for at, job in enumerate(self.jobs)]

    def _step(self, state: _State) -> tuple[tuple[float, ...], tuple[int, ...], float]:
        recipe, step = self.recipe, state.step
        tau, scale = self.temperature.at(step), self.noise_scale.at(step)
        state.optimizer.param_groups[0]["lr"] = self.learning_rate.at(step)
        rows: list[int] = []
        gates: list[Tensor] = []
        targets: list[str] = []
        for at, job in enumerate(self.jobs):
            generator = self._generator(job, step)
            picks = torch.randint(len(self.train_clips[at]), (recipe.batch,), generator=generator)
            chosen = [self.train_clips[at][int(pick)] for pick in picks]
            noise = draw_noise((recipe.batch, *self.model.geometry.shape), recipe.noise, generator)
            gates.append(straight_through(relaxed(state.logits[at], noise * scale, tau)))
            targets += [job.task.target(self.train_set.labels[clip]) for clip in chosen]
            rows += chosen
        sampled = torch.cat(gates)
        leaf = sampled.detach().requires_grad_()
        losses = self._row_losses(rows, targets, leaf)
        per_job = losses.view(len(self.jobs), recipe.batch).mean(1)
        penalty = recipe.sparsity * sampled[:, self.model.geometry.present].sum() / recipe.batch
        state.optimizer.zero_grad()
        torch.autograd.backward([sampled, penalty], [leaf.grad, None])
        state.optimizer.step()
        on = (state.logits.detach() >= 0)[:, self.model.geometry.present].sum(-1)
        return tuple(per_job.tolist()), tuple(on.tolist()), tau

    def _row_losses(self, rows: list[int], targets: list[str], gates: Tensor) -> Float[Tensor, " row"]:
        """Loss of each row; the gradient of all jobs' mean losses is added up in `gates.grad`.

        Rows of similar length go through the model together, forwards and backwards before the next ones, so that the
        memory taken does not grow with the number of rows.
        """
        lengths = self.train_set.features.lengths[rows].tolist()
        order = sorted(range(len(rows)), key=lambda at: lengths[at] + len(targets[at]) / 4)
        losses = torch.empty(len(rows))
        for start in range(0, len(order), TOGETHER):
            piece = order[start : start + TOGETHER]
            found = self._piece_losses([rows[i] for i in piece], [targets[i] for i in piece], gates[piece])
            (found.sum() / self.recipe.batch).backward()
            losses[piece] = found.detach().float()
        return losses

    def _piece_losses(self, rows: list[int], targets: list[str], gates: Tensor) -> Float[Tensor, " row"]:
        """The same for rows that go together."""
        features, gates = self.train_set.features.rows(rows), gates.to(self.model.device)
        if self.recipe.margin:
            return margin_loss(self.model.token_margins(features, targets, gates)[0], self.recipe.margin).cpu()
        losses, real = self.model.token_losses(features, targets, gates)
        weights = real.to(losses.dtype)
        weights[:, 0] *= self.recipe.first
        sure = torch.exp(-losses.detach())
        # Not divided by the sum of focal weights: a row that is all but right should count little.
        return ((weights * (1 - sure) ** self.recipe.focal * losses).sum(1) / weights.sum(1)).cpu()

    def _try(self, state: _State) -> None:
        """Try the thresholded masks on dev clips and keep those that are at least as good as before."""
        for at, job in enumerate(self.jobs):
            mask = HeadMask.from_logits(state.logits[at], self.model.identity)
            clips = self.dev_clips[at]
            answers: list[str] = []
            references = [job.task.target(self.dev_set.labels[clip]) for clip in clips]
            room = self.model.room_for(references)
            for start in range(0, len(clips), 50):
                features = self.dev_set.features.rows(clips[start : start + 50])
                answers += self.model.generate(features, mask.gates.to(self.model.device), max_new_tokens=room)
            merit = self.judge(job.task, answers, references)
            before = state.merits[at]
            if before is None or merit >= before:
                state.merits[at] = merit
                state.best[at] = state.logits[at].detach()

    def _mask(self, job: Job, logits: Tensor, merit: float | None) -> HeadMask:
        lineage = {"operation": "train", "task": job.task.name, "seed": job.seed, "data": self.data_hash}
        lineage |= {"recipe": self.recipe.model_dump(), "clips": len(self.train_clips[self.jobs.index(job)])}
        if job.start is not None:
            lineage["start"] = dict(job.start.lineage)
        return HeadMask.from_logits(
            logits,
            self.model.identity,
            task=job.task,
            lineage=lineage,
            scores={} if merit is None else {"dev": round(merit, 2)},
        )
