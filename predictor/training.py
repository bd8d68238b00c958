"""Training the predictor: to read instructions, and to rebuild the masks of a bank.

The loss of a batch is the negative log-probability of the right intents among all possible ones, that of pointing at what
speaks of their parts (`pointer_targets.py`), that of the n-grams' own guess where one task is asked for, and for
requests that the bank has a mask for the cross-entropy of its bits, each weighted by the mask's confidence in it.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydantic
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.atomic_write import write_atomic
from ..data.tasks import Task
from ..errors import InstructionError
from ..lalm.identity import Identity
from ..mask_bank.mask import HeadMask
from ..mask_bank.schedules import LearningRateSchedule
from .encoder import Encoder, StaticEncoder
from .example import Example
from .files import encoder_digest
from .intent import Intent, IntentSpace, intent_space
from .network import Network
from .ngrams import encode_batch
from .pointer_targets import pointer_targets
from .resources import resources_digest
from .synthesis import RequestSource

if TYPE_CHECKING:
    from .predictor import Predictor

READ_BATCH = 24  # requests that are read at once
NGRAM_LR_SCALE = 10.0  # learning rate of the n-grams' task head, times this
StepFn = Callable[[int, str], None]


class PredictorSettings(pydantic.BaseModel):
    """How a predictor is trained.

    Attributes:
        steps: optimiser steps.
        batch: requests a step.
        peak, floor, warmup: the learning rate, then a cosine.
        decay: AdamW's weight decay.
        masks: weight of the masks' bits against 1 of the intents.
        pointing: weight of pointing at what speaks of the parts.
        pool: how many requests are put together once and for all, for an encoder that is slow; 0 for new ones at each step.
        save_every: steps between checkpoints.
        heads_only: learn the masks alone; what is understood stays as in the predictor to start from.
        kept: share of the weights of the predictor to start from in the result; see `average_with`.
        seed: of everything.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    steps: int = pydantic.Field(3000, ge=1)
    batch: int = pydantic.Field(48, ge=1)
    peak: float = pydantic.Field(1.5e-3, gt=0)
    floor: float = pydantic.Field(2e-5, ge=0)
    warmup: int = pydantic.Field(50, ge=0)
    decay: float = pydantic.Field(0.02, ge=0)
    masks: float = pydantic.Field(1.0, ge=0)
    pointing: float = pydantic.Field(0.5, ge=0)
    pool: int = pydantic.Field(0, ge=0)
    save_every: int = pydantic.Field(200, ge=1)
    heads_only: bool = False
    kept: float = pydantic.Field(0.0, ge=0, le=1)
    seed: int = pydantic.Field(1, ge=0)


FINETUNE_SETTINGS = {"steps": 1500, "peak": 5e-4, "kept": 0.3}
"""Settings of a training that begins with another predictor's intent."""


class MaskTargets:
    """The masks of a bank as targets of the network.

    Args:
        masks: those to rebuild; the first of each task counts.
        space: all intents.
    """

    def __init__(self, masks: Sequence[HeadMask], space: IntentSpace) -> None:
        self.masks = {intent_of(mask): mask for mask in reversed(masks)}
        self.reference_mask = masks[0]
        self.row = {space.index(intent): at for at, intent in enumerate(self.masks)}
        self.bits = torch.stack([mask.gates for mask in self.masks.values()])
        self.weights = torch.stack([_confidence(mask) for mask in self.masks.values()])

    def loss(self, logits: Float[Tensor, "row layer head"], intents: Sequence[int]) -> Float[Tensor, ""]:
        """Mean weighted cross-entropy of the bits, over the rows that there is a mask for."""
        rows = [at for at, intent in enumerate(intents) if intent in self.row]
        if not rows:
            return logits.sum() * 0
        chosen = [self.row[intents[at]] for at in rows]
        losses = nn.functional.binary_cross_entropy_with_logits(logits[rows], self.bits[chosen], reduction="none")
        weights = self.weights[chosen]
        return (losses * weights).sum() / weights.sum()


def _confidence(mask: HeadMask) -> Float[Tensor, "layer head"]:
    """A mask's confidence in each bit: |2σ(logit) - 1|, at least a tenth; 0 for heads that no mask may switch."""
    sure = torch.ones(mask.geometry.shape) if mask.logits is None else (2 * mask.logits.sigmoid() - 1).abs().clamp(min=0.1)
    return sure * mask.geometry.switchable


def intent_of(mask: HeadMask) -> Intent:
    """What a mask does."""
    if mask.task is None:
        raise InstructionError(f"mask {mask.called!r} has no task, so no instruction can ask for it")
    return Intent(mask.task.names, mask.task.form)


def init_network(encoder: Encoder, parts: int, identity: Identity, seed: int) -> Network:
    """A network that is not trained; its token encoder is the encoder's, where that has one."""
    torch.manual_seed(seed)
    network = Network(encoder.width, parts, identity.geometry)
    if isinstance(encoder, StaticEncoder):
        network.token_encoder.load_state_dict(encoder.token_encoder.state_dict())
    return network


def _groups(network: Network) -> list[dict[str, object]]:
    """The weights: a run of letters is in few requests, so its own move faster than those that are in all."""
    learned = [(name, tensor) for name, tensor in network.named_parameters() if tensor.requires_grad]
    rare = [tensor for name, tensor in learned if name.startswith("ngram_tasks.")]
    rest = [tensor for name, tensor in learned if not name.startswith("ngram_tasks.")]
    return [{"params": rest, "lr_scale": 1.0}, *([{"params": rare, "lr_scale": NGRAM_LR_SCALE}] if rare else [])]


def load_matching_weights(network: Network, tasks: Sequence[Task], known: "Predictor") -> None:
    """Let a network read as another predictor does; how heads follow from that is taken only if the LALM has as many.

    Args:
        network: gets the weights, in place.
        tasks: its tasks; those that the other does not know stay as they are.
        known: a predictor with the same encoder.

    Raises:
        InstructionError: it is of another size.
    """
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    names = [task.name for task in known.record.tasks]
    for name, tensor in known.network.state_dict().items():
        if name.startswith("pointer.task."):
            for at, task in enumerate(tasks):
                if task.name in names:
                    own[name][at] = tensor[names.index(task.name)]
        elif name.startswith("ngram_tasks."):
            for at, task in enumerate(tasks):
                if task.name in names:
                    own[name][:, at] = tensor[:, names.index(task.name)]
        elif own[name].shape == tensor.shape:
            own[name] = tensor
        elif not name.startswith("heads."):
            raise InstructionError(f"the predictor to start from is of another size at {name}; train from scratch")
    network.load_state_dict(own)


def average_with(network: Network, tasks: Sequence[Task], start: "Predictor", kept: float) -> None:
    """Average a network with the one that its training began with (Wortsman et al., CVPR 2022, WiSE-FT); its heads stay its own.

    What was learned lately and what was known before are then both kept to a large part.

    Args:
        network: trained; gets the averages, in place.
        tasks: its tasks.
        start: what it began with.
        kept: the share of the start, from 0 to 1.
    """
    trained = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    load_matching_weights(network, tasks, start)
    begun = network.state_dict()
    network.load_state_dict(
        {name: tensor if name.startswith("heads.") else torch.lerp(tensor, begun[name], kept) for name, tensor in trained.items()}
    )


class Training:
    """Trains one network.

    Args:
        encoder: gives the token vectors.
        tasks: single tasks that instructions may ask for.
        masks: masks to rebuild, all of one model.
        settings: all settings.
        checkpoint: a file that a stopped training resumes from.
        start: a predictor whose weights the network begins with.

    Raises:
        InstructionError: there are no masks, or the predictor to start from has another encoder.
        MaskError: the masks are of different models.
    """

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[Task],
        masks: Sequence[HeadMask],
        settings: PredictorSettings,
        checkpoint: Path | None = None,
        start: "Predictor | None" = None,
    ) -> None:
        if start and start.record.encoder_digest != encoder_digest(encoder):
            known = start.record.encoder
            raise InstructionError(
                f"the predictor to start from has another encoder, {known!r}; take that one, or train from scratch"
            )
        if settings.heads_only and start is None:
            raise InstructionError("to learn the masks alone, a predictor to start from is needed; leave --heads-only out")
        if not masks:
            raise InstructionError("there are no masks to learn from; train some with 'amask bank train'")
        for mask in masks:
            mask.require(masks[0])
        self.encoder, self.settings, self.checkpoint, self.start = encoder, settings, checkpoint, start
        self.tasks, self.identity = tuple(tasks), masks[0].identity
        self.space = intent_space(tuple(task.name for task in self.tasks))
        self.targets = MaskTargets(masks, self.space)
        self.seen = frozenset(intent.parts for intent in self.targets.masks)
        self.examples = RequestSource(self.tasks, "train", self.seen)
        self.rate = LearningRateSchedule(settings.peak, settings.floor, settings.warmup, settings.steps, start=settings.floor)

    @property
    def key(self) -> str:
        """Identifies the training; a checkpoint with another key is ignored."""
        tasks = [task.model_dump(mode="json") for task in self.tasks]
        masks = {str(intent): mask.digest for intent, mask in self.targets.masks.items()}
        parts = [
            encoder_digest(self.encoder),
            tasks,
            masks,
            resources_digest(),
            self.settings.model_dump(),
            self.start.digest if self.start else "",
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def batch(self, step: int) -> list[Example]:
        """The examples of a step."""
        rng = np.random.default_rng([self.settings.seed, step])
        if self.settings.pool:
            return [self.pool[at] for at in rng.integers(self.settings.pool, size=self.settings.batch)]
        return [self.examples.draw(rng) for _ in range(self.settings.batch)]

    @cached_property
    def pool(self) -> list[Example]:
        """Requests that are put together once, where the settings want that."""
        rng = np.random.default_rng(self.settings.seed)
        return [self.examples.draw(rng) for _ in range(self.settings.pool)]

    def losses(self, network: Network, examples: Sequence[Example]) -> dict[str, Float[Tensor, ""]]:
        """Of the intents, of pointing at their parts, of the masks' bits, and of the n-grams' own guess."""
        ordered = sorted(examples, key=lambda example: len(example.text))  # of similar length, so that little is padding
        probs, pointing, logits, single_task = [], [], [], []
        for start in range(0, len(ordered), READ_BATCH):
            some = ordered[start : start + READ_BATCH]
            texts = [example.text for example in some]
            given = encode_batch(self.encoder, texts)
            output = network(*given)
            names = [task.name for task in self.tasks]
            targets = pointer_targets(some, self.encoder.offsets(texts), given[1].shape[1], names)
            pointing.append(targets.loss(output.pointer) * len(some) / len(ordered))
            probs.append(self.space.log_probs(output.scores))
            logits.append(output.logits)
            single_task.append(output.single_task)
        numbers = [self.space.index(example.intent) for example in ordered]
        right = torch.cat(probs)[torch.arange(len(numbers)), numbers]
        bits = self.targets.loss(torch.cat(logits), numbers)
        ngrams = self._ngram_loss(torch.cat(single_task), [example.intent for example in ordered])
        return {"intent": -right.mean(), "pointing": torch.stack(pointing).sum(), "bits": bits, "ngrams": ngrams}

    def _ngram_loss(self, single_task: Float[Tensor, "row task"], intents: Sequence[Intent]) -> Float[Tensor, ""]:
        """Cross-entropy of the n-grams' task, over the requests for one task alone."""
        rows = [at for at, intent in enumerate(intents) if len(intent.parts) == 1]
        tasks = [task.name for task in self.tasks]
        wanted = torch.tensor([tasks.index(intents[at].parts[0]) for at in rows], dtype=torch.long)
        return nn.functional.cross_entropy(single_task[rows], wanted) if rows else single_task.sum() * 0

    def total_loss(self, losses: Mapping[str, Float[Tensor, ""]], masks: float) -> Float[Tensor, ""]:
        """The losses as one; `masks` is the weight of the masks' bits."""
        own = losses["intent"] + losses["ngrams"] + self.settings.pointing * losses["pointing"]
        return own + masks * losses["bits"]

    def run(self, on_progress: StepFn = lambda _step, _note: None) -> Network:
        """Train to the end."""
        network = init_network(self.encoder, len(self.tasks), self.identity, self.settings.seed).train()
        if self.start:
            load_matching_weights(network, self.tasks, self.start)
        if self.settings.heads_only:
            network.requires_grad_(False).eval().heads.requires_grad_(True)
        optimizer = torch.optim.AdamW(_groups(network), lr=self.settings.peak, weight_decay=self.settings.decay)
        for step in range(self._resume(network, optimizer), self.settings.steps):
            torch.manual_seed(self.settings.seed * 1_000_003 + step)  # dropout
            for group in optimizer.param_groups:
                group["lr"] = self.rate.at(step) * group["lr_scale"]
            losses = self.losses(network, self.batch(step))
            optimizer.zero_grad()
            (losses["bits"] if self.settings.heads_only else self.total_loss(losses, self.settings.masks)).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            on_progress(step + 1, " ".join(f"{name} {loss:.3f}" for name, loss in losses.items()))
            if self.checkpoint and (step + 1) % self.settings.save_every == 0:
                self._save(self.checkpoint, network, optimizer, step + 1)
        if self.start and self.settings.kept:
            average_with(network, self.tasks, self.start, self.settings.kept)
        return network.eval().requires_grad_(False)

    def _save(self, checkpoint: Path, network: Network, optimizer: torch.optim.Optimizer, step: int) -> None:
        buffer = io.BytesIO()
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "key": self.key}
        torch.save(state, buffer)
        write_atomic(buffer.getvalue(), checkpoint, parents=True)

    def _resume(self, network: Network, optimizer: torch.optim.Optimizer) -> int:
        """Take up a checkpoint of this very training; the step to resume from."""
        if not self.checkpoint or not self.checkpoint.exists():
            return 0
        state: Mapping = torch.load(self.checkpoint, weights_only=True)
        if state.get("key") != self.key:
            return 0
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])
