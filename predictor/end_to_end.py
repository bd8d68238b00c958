"""The second stage: end to end through the frozen LALM.

Each row of a batch is an instruction with a clip that has the labels for it. The network's logits become sampled gates of
that row's own (straight-through, as when masks are trained), and the loss is the LALM's on the right answer. So the bits of
compositions are learned too, for which the bank has no mask to rebuild. The intents are kept by their own loss.
"""

import copy
from collections.abc import Sequence

import numpy as np
import pydantic
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.tasks import TaskSpec
from ..lalm.base import LALM
from ..mask_bank.labelled_clips import LabelledClips as Clips
from ..mask_bank.sampling import draw_noise, relaxed, straight_through
from .example import Example
from .ngrams import encode_batch
from .predictor import Predictor
from .training import StepFn, Training


class EndToEndSettings(pydantic.BaseModel):
    """How the second stage goes.

    Attributes:
        steps: optimiser steps.
        batch: instructions with a clip a step; as many more are for the intents and the bank's bits alone.
        lr: learning rate of the part that makes the logits, constant; the reader's is a tenth of it.
        tau: temperature of the gates.
        rebuild_weight: weight of the bank's bits, which keeps what the first stage learned.
        seed: of everything.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    steps: int = pydantic.Field(200, ge=1)
    batch: int = pydantic.Field(24, ge=1)
    lr: float = pydantic.Field(3e-4, gt=0)
    tau: float = pydantic.Field(1.0, gt=0)
    rebuild_weight: float = pydantic.Field(1.0, ge=0)
    seed: int = pydantic.Field(1, ge=0)


class EndToEndTraining:
    """Tunes a predictor.

    Args:
        training: the first stage, which draws the instructions.
        model: the LALM.
        data: encoded clips with labels.
        settings: all settings.

    Raises:
        MaskError: the predictor's masks are of another model.
    """

    def __init__(self, training: Training, model: LALM, data: Clips, settings: EndToEndSettings) -> None:
        training.targets.reference_mask.require(model)
        self.training, self.model, self.data, self.settings = training, model, data, settings
        self._serving: dict[tuple[str, ...], list[int]] = {}

    def clips_for(self, spec: TaskSpec) -> list[int]:
        """The clips that have labels for a task."""
        if spec.names not in self._serving:
            self._serving[spec.names] = self.data.clips_for(spec)
        return self._serving[spec.names]

    def sample_rows(self, step: int) -> list[tuple[Example, TaskSpec, int]]:
        """Instructions, what each asks for, and a clip for it."""
        rng = np.random.default_rng([self.settings.seed, 2, step])
        tasks = {task.name: task for task in self.training.tasks}
        found: list[tuple[Example, TaskSpec, int]] = []
        while len(found) < self.settings.batch:
            example = self.training.examples.draw(rng)
            if example.intent.parts:
                spec = TaskSpec(parts=tuple(tasks[part] for part in example.intent.parts), form=example.intent.form)
                if chosen := self.clips_for(spec):
                    found.append((example, spec, chosen[int(rng.integers(len(chosen)))]))
        return found

    def loss(self, rows: Sequence[tuple[Example, TaskSpec, int]], logits: Float[Tensor, "row layer head"], step: int) -> Tensor:
        """The LALM's loss on the right answers, each row by its own sampled gates."""
        noise = draw_noise(tuple(logits.shape), "logistic", torch.Generator().manual_seed(self.settings.seed * 1_000_003 + step))
        gates = straight_through(relaxed(logits, noise, self.settings.tau))
        targets = [spec.target(self.data.labels[clip]) for _, spec, clip in rows]
        features = self.data.features.rows([clip for *_, clip in rows])
        losses, real = self.model.token_losses(features, targets, gates.to(self.model.device))
        return ((losses * real).sum(1) / real.sum(1)).mean()

    def run(self, predictor: Predictor, on_progress: StepFn = lambda _step, _note: None) -> Predictor:
        """Tune a copy of a predictor's network."""
        network = copy.deepcopy(predictor.network).requires_grad_(True).train()
        groups = [
            {"params": network.heads.parameters(), "lr": self.settings.lr},
            {
                "params": [p for name, p in network.named_parameters() if not name.startswith("heads.")],
                "lr": self.settings.lr / 10,
            },
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        for step in range(self.settings.steps):
            torch.manual_seed(self.settings.seed * 1_000_003 + step)
            rows = self.sample_rows(step)
            kept = self.training.losses(network, self.training.batch(self.training.settings.steps + step))
            output = network(*encode_batch(predictor.encoder, [example.text for example, *_ in rows]))
            answers = self.loss(rows, output.logits, step)
            optimizer.zero_grad()
            (answers + self.training.total_loss(kept, self.settings.rebuild_weight)).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            on_progress(step + 1, " ".join(f"{name} {loss:.3f}" for name, loss in ({"answers": answers} | kept).items()))
        lineage = dict(predictor.record.lineage) | {"tuning": self.settings.model_dump()}
        return Predictor(network, predictor.encoder, predictor.record.model_copy(update={"lineage": lineage}))
