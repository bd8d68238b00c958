"""`Predictor`: a trained network with its encoder, on disk and in use."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.tasks import Task
from ..errors import ModelError
from ..lalm.identity import Identity
from .encoder import Encoder, load_encoder
from .files import Record, encoder_digest, load, save
from .intent import IntentScores, intent_space
from .nearest import WordingIndex
from .network import Network
from .ngrams import encode_batch
from .quick import QuickNetwork
from .spelling import SpellingMender
from .wordings import read_wordings

SHIPPED = Path(__file__).parent / "weights" / "pocket.safetensors"
CACHE_SIZE = 4096  # instructions whose predictions are kept
PREDICT_BATCH = 256
MAX_INDEXED_WORDINGS = 200  # wordings of a task that others are compared with


@dataclass(frozen=True)
class Prediction:
    """What the network says of one instruction.

    Attributes:
        probs: of each possible intent; they add up to 1.
        logits: one a head.
    """

    probs: Float[Tensor, " intent"]
    logits: Float[Tensor, "layer head"]

    @property
    def p_supported(self) -> float:
        """The probability that any task serves it; the last intent is that none does."""
        return float(self.probs[:-1].sum())


class Predictor:
    """A trained network with its encoder: what an instruction means, and which heads would do it.

    >>> import amask
    >>> predictor = amask.Predictor.load()  # the one that comes with amask, for the pocket model
    >>> (found,) = predictor.predict(["is it a man or a woman?"])
    >>> found.p_supported > 0.5
    True
    >>> found.logits.shape == predictor.identity.geometry.shape
    True

    Args:
        network: the network.
        encoder: the one that it was trained with.
        record: about both.

    Raises:
        ModelError: the encoder is another one.
    """

    def __init__(self, network: Network, encoder: Encoder, record: Record) -> None:
        if encoder_digest(encoder) != record.encoder_digest:
            raise ModelError(f"this predictor was trained with another encoder {record.encoder!r}; train it again")
        self.network, self.encoder, self.record = network.eval().requires_grad_(False), encoder, record
        self.space = intent_space(tuple(task.name for task in record.tasks))
        self._cache: OrderedDict[str, Prediction] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Predictor, (self.network, self.encoder, self.record)

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
            message = f"cannot read predictor {path}: its tensors do not fit: {why}; train it again with 'amask predictor train'"
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
        return WordingIndex(self.encoder, {task.name: _subsample(wordings_for(task)) for task in self.record.tasks})

    @cached_property
    def suggestion_index(self) -> WordingIndex:
        """Plain wordings of the same tasks, to be shown to someone who was not understood: those that each task comes with."""
        return WordingIndex(self.encoder, {task.name: task.wordings or wordings_for(task) for task in self.record.tasks})

    @cached_property
    def mender(self) -> SpellingMender:
        """Mends words that neither the wordings have nor, as one token, the encoder."""
        return SpellingMender(lambda word: sum(start < end for start, end in self.encoder.offsets([word])[0]) == 1)

    @torch.inference_mode()
    def predict(self, instructions: Sequence[str]) -> list[Prediction]:
        """What the network says of each instruction; the last `CACHE_SIZE` predictions are kept. Threads may share it."""
        wanted = dict.fromkeys(instructions)
        with self._lock:
            found = {text: self._cache[text] for text in wanted if text in self._cache}
        new = [text for text in wanted if text not in found]
        for start in range(0, len(new), PREDICT_BATCH):
            texts = new[start : start + PREDICT_BATCH]
            scores, logits, single_task = self._read(texts)
            rows = zip(texts, self.space.probs(scores, single_task), logits, strict=True)
            found |= {text: Prediction(probs, logits) for text, probs, logits in rows}
        with self._lock:
            for text in wanted:
                self._cache[text] = found[text]
                self._cache.move_to_end(text)
            while len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        return [found[text] for text in instructions]

    def _read(self, texts: Sequence[str]) -> tuple[IntentScores, Float[Tensor, "row layer head"], Float[Tensor, "row task"]]:
        vectors, token_mask, found = encode_batch(self.encoder, texts)
        if len(texts) == 1:
            return self._quick(vectors, found)
        output = self.network(vectors, token_mask, found)
        return output.scores, output.logits, output.single_task

    @cached_property
    def _quick(self) -> QuickNetwork:
        return QuickNetwork(self.network)


def _subsample(texts: Sequence[str]) -> Sequence[str]:
    """At most `MAX_INDEXED_WORDINGS` of some texts, evenly spread."""
    return texts[:: -(-len(texts) // MAX_INDEXED_WORDINGS)]


def wordings_for(task: Task) -> tuple[str, ...]:
    """What people say for a task: the hand-written wordings but for what is held out, and its own."""
    given = read_wordings().tasks.get(task.name)
    return tuple(dict.fromkeys((*(given.train if given else ()), *task.wordings, *task.phrases))) or (task.title or task.name,)
