"""`Predictor`: a trained network with its encoder, on disk and in use."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.tasks import Task
from ..errors import ModelError
from ..lalm.identity import Identity
from ..mask_bank.mask import HeadMask
from .decision import Decision
from .encoder import Encoder, load_encoder
from .files import Record, encoder_digest, load, save
from .letters import read_in
from .nearest import WordingIndex
from .network import Network
from .quick import QuickNetwork
from .reading import Scores, possible_readings
from .wordings import read_wordings

SHIPPED = Path(__file__).parent / "weights" / "pocket.safetensors"
REMEMBERED = 4096  # instructions whose answers are kept
COMPARED = 200  # wordings of a task that others are compared with


@dataclass(frozen=True)
class Heard:
    """What the network says of one instruction.

    Attributes:
        chances: of each possible reading; they add up to 1.
        logits: one a head.
    """

    chances: Float[Tensor, " reading"]
    logits: Float[Tensor, "layer head"]

    @property
    def served(self) -> float:
        """The chance that any task serves it; the last reading is that none does."""
        return float(self.chances[:-1].sum())


class Predictor:
    """A trained network with its encoder.

    Args:
        network: the network.
        encoder: the one that it was trained with.
        record: about both.

    Raises:
        ModelError: the encoder is another one.
    """

    def __init__(self, network: Network, encoder: Encoder, record: Record) -> None:
        if encoder_digest(encoder) != record.encoder_digest:
            raise ModelError(f"this predictor was trained with another encoder {record.encoder!r}; train it anew")
        self.network, self.encoder, self.record = network.eval().requires_grad_(False), encoder, record
        self.possible = possible_readings(tuple(task.name for task in record.tasks))
        self._heard: dict[str, Heard] = {}

    @classmethod
    def load(cls, path: Path = SHIPPED, encoder: str | None = None) -> "Predictor":
        """A predictor of a file.

        Args:
            path: the file; by default the one that comes with amask.
            encoder: where its encoder is, if not where the record says.

        Raises:
            ModelError: the file or the encoder cannot be read, or they do not go together.
        """
        record, tensors = load(path)
        loaded = load_encoder(encoder or record.encoder)
        network = Network(loaded.width, len(record.tasks), record.identity.geometry)
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            why = str(error).splitlines()[-1].strip()
            message = f"cannot read predictor {path}: its tensors do not fit: {why}; train it anew with 'amask predictor train'"
            raise ModelError(message) from None
        return cls(network, loaded, record)

    def save(self, path: Path) -> None:
        """Write it to a file, whole or not at all."""
        save(self.network, self.record, path)

    @cached_property
    def digest(self) -> str:
        """A hash of its weights."""
        state = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        return hashlib.sha256(safetensors.torch.save(state)).hexdigest()

    @property
    def identity(self) -> Identity:
        """The LALM whose heads it predicts."""
        return self.record.identity

    @cached_property
    def wordings(self) -> WordingIndex:
        """Some of what people say for each of the tasks that it knows: to encode all of it would take seconds."""
        return WordingIndex(self.encoder, {task.name: _spread(said_for(task)) for task in self.record.tasks})

    @cached_property
    def suggestions(self) -> WordingIndex:
        """Plain wordings of the same tasks, to be shown to someone who was not understood: those that each task comes with."""
        return WordingIndex(self.encoder, {task.name: task.wordings or said_for(task) for task in self.record.tasks})

    @torch.inference_mode()
    def hear(self, instructions: Sequence[str]) -> list[Heard]:
        """What the network says of each instruction; the answers to the last few thousand are kept."""
        new = [text for text in dict.fromkeys(instructions) if text not in self._heard]
        if len(self._heard) + len(new) > REMEMBERED:
            self._heard.clear()
            new = list(dict.fromkeys(instructions))
        for start in range(0, len(new), 256):
            texts = new[start : start + 256]
            scores, logits, alone = self._read(texts)
            rows = zip(texts, self.possible.chances(scores, alone), logits, strict=True)
            self._heard |= {text: Heard(chances, logits) for text, chances, logits in rows}
        return [self._heard[text] for text in instructions]

    def _read(self, texts: Sequence[str]) -> tuple[Scores, Float[Tensor, "row layer head"], Float[Tensor, "row task"]]:
        vectors, real, found = read_in(self.encoder, texts)
        if len(texts) == 1:
            return self._quick(vectors, found)
        said = self.network(vectors, real, found)
        return said.scores, said.logits, said.alone

    @cached_property
    def _quick(self) -> QuickNetwork:
        return QuickNetwork(self.network)

    def decide(self, instructions: Sequence[str], masks: Iterable[HeadMask], *, raw: bool = False) -> list[Decision]:
        """What to do about each instruction, given the masks that there are; see `Decider`."""
        from .decider import Decider  # noqa: PLC0415  (it needs this module)

        return Decider(self, masks).decide(instructions, raw=raw)


def _spread(texts: Sequence[str]) -> Sequence[str]:
    """At most `COMPARED` of some texts, evenly spread."""
    return texts[:: -(-len(texts) // COMPARED)]


def said_for(task: Task) -> tuple[str, ...]:
    """What people say for a task: the hand-written wordings but for what is withheld, and its own."""
    given = read_wordings().tasks.get(task.name)
    return tuple(dict.fromkeys((*(given.train if given else ()), *task.wordings, *task.phrases))) or (task.title or task.name,)
