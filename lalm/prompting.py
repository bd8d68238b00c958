"""What every model family shares before it answers: identity, audio to embeddings, and the text around them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from threading import RLock
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.audio import Channels, check_wave
from ..errors import AudioError, MaskError, ModelError
from .batching import AudioFeatures, PromptTemplate
from .call_context import keeps_state
from .fingerprint import hash_model
from .gating import GatesLike, Geometry, HeadSite, as_gates
from .identity import Identity

Gates = Float[Tensor, "layer head"] | Float[Tensor, "row layer head"] | None


class PromptedModel(ABC):
    """A frozen model between text and audio; attributes as of `LALM`."""

    rate = 16_000
    longest: float | None = None
    channels: Channels = "mean"
    kept_heads: Bool[Tensor, "layer head"] | None = None  # of a pruned model: the heads that it has; see `pruning`
    feature_source: str | None = None  # of a pruned model: the hash of the model that encodes; see `feature_cache`

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        template: PromptTemplate,
        sites: Sequence[HeadSite],
        fixed_layers: Sequence[int] = (),
    ) -> None:
        self.name, self.template, self.sites = name, template, tuple(sites)
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.geometry = Geometry(tuple(site.heads for site in sites), tuple(fixed_layers))
        # Several threads may use a model. Tokenizers change their own settings with each call, hence one at a time.
        self._tokenizing = RLock()
        self.exclusive: AbstractContextManager[Any] = RLock() if keeps_state(model) else nullcontext()

    def __repr__(self) -> str:
        """`Qwen2Audio('pocket', 8×64 heads, 0123456789abcdef)`."""
        return f"{type(self).__name__}({self.name!r}, {self.geometry} heads, {self.fingerprint})"

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return next(self.model.get_input_embeddings().parameters()).device

    @property
    def identity(self) -> Identity:
        """What masks for this model are bound to."""
        return Identity(self.geometry, self.fingerprint, self.name)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that tell whether a mask was made for this very model, see `fingerprint.hash_model`."""
        return hash_model(self._facts(), self._weights())

    def _facts(self) -> dict[str, Any]:
        """What, beside the weights, the fingerprint is made of."""
        text = [self.template.before, self.template.after, self.template.end]
        heads = [[site.heads, site.width] for site in self.sites]
        return {"type": self.model.config.model_type, "heads": heads, "text": text}

    def _weights(self) -> Iterable[Tensor]:
        """The parameters that the fingerprint is made of."""
        return self.model.parameters()

    @torch.no_grad()
    def encode(self, waves: Sequence[Any]) -> AudioFeatures:
        """Turn waveforms into audio embeddings; no mask or prompt has a part in it, nor what else is in the batch.

        Args:
            waves: one-dimensional float arrays of samples at `rate`, full scale 1.0; see `data.audio.to_mono_rate`.

        Raises:
            AudioError: there is no clip, or one is no such array, is shorter than 0.1 s or longer than `longest`, or has
                samples that are not finite or far beyond full scale.
        """
        if not len(waves):
            raise AudioError("there is no clip to encode; give at least one")
        checked = [self._check(wave, f"clip {at} of {len(waves)}: ") for at, wave in enumerate(waves, start=1)]
        with self.exclusive:
            return self._encode(checked)

    def _check(self, wave: Any, which: str) -> Float32[np.ndarray, " time"]:  # noqa: ANN401
        try:
            return check_wave(wave, self.rate, self.longest)
        except AudioError as error:
            raise AudioError(f"{which}{error}") from None

    @abstractmethod
    def _encode(self, waves: Sequence[Float32[np.ndarray, " _"]]) -> AudioFeatures:
        """`encode` for clips that have been checked."""

    def _ids(self, text: str) -> Int[Tensor, " token"]:
        with self._tokenizing:
            return torch.tensor(self._tokenize(text), dtype=torch.long, device=self.device)

    def _tokenize(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _embed(self, text: str) -> Float[Tensor, "position width"]:
        return self.model.get_input_embeddings()(self._ids(text))

    def checked_gates(self, features: AudioFeatures, given: GatesLike) -> Gates:
        """The gates that a pass over some rows has to apply; of a pruned model none, as its heads are cut.

        Refuses gates of another model's shape, and per-row gates for other rows, which beams would hide from the hooks.

        Raises:
            MaskError: what is given is a mask of another model.
            ModelError: the gates do not fit, or the model is pruned to other heads than they have on.
        """
        owner = getattr(given, "identity", None)
        if owner is not None and not owner.same(self.identity):
            raise MaskError(f"the mask is for {owner}; this model is {self.identity}; give a mask of this model")
        gates = as_gates(given)
        if gates is None:
            return None
        if tuple(gates.shape[-2:]) != self.geometry.shape:
            shape = " × ".join(map(str, gates.shape[-2:]))
            raise ModelError(f"gates for {shape} heads do not fit {self.name}, a model of {self.geometry} (layers × heads)")
        if gates.dim() == 3 and len(gates) != len(features):
            raise ModelError(f"got gates for {len(gates)} rows and audio for {len(features)}; give each row its own gates")
        if self.kept_heads is None:
            return gates
        if bool(((gates == self.kept_heads.to(gates.device)) | ~self.geometry.present.to(gates.device)).all()):
            return None
        raise ModelError(f"{self.name} is pruned to the heads of one mask; run others by the model that it was made from")

    def prompts_by_row(self, features: AudioFeatures, prompts: str | Sequence[str] | None) -> list[str]:
        """Each row's prompt, empty for none."""
        if prompts is None or isinstance(prompts, str):
            return [prompts or ""] * len(features)
        if len(prompts) != len(features):
            raise ModelError(f"got {len(prompts)} prompts for {len(features)} rows; give one for all or one a row")
        return list(prompts)

    def _prompt_embeds(self, features: AudioFeatures, prompts: Sequence[str]) -> list[Tensor]:
        """Embeddings of text before, audio, text after (with each row's prompt, which may be empty)."""
        before = self._embed(self.template.before)
        after = {text: self._embed(self.template.after.format(text)) for text in set(prompts)}
        clips = (row[:length] for row, length in zip(features.embeds, features.lengths.tolist(), strict=True))
        return [torch.cat([before, audio, after[text]]) for audio, text in zip(clips, prompts, strict=True)]

    @property
    def decoder(self) -> nn.Module:
        """The transformer inside the language model: embeddings in, last hidden states out."""
        decoder = self.model.get_decoder()
        if decoder is None:
            raise ModelError(f"{self.name}: {type(self.model).__name__} does not say which part of it is the decoder")
        return decoder

    @property
    def end_token(self) -> int:
        """The token that ends an answer in training: the template's, else the tokenizer's."""
        own = self.template.end
        token: Any = self.tokenizer.convert_tokens_to_ids(own) if own else self.tokenizer.eos_token_id
        return int(token)

    @property
    def end_tokens(self) -> list[int]:
        """All tokens that end a generated answer: also those that the model's own files name."""
        own = self.model.generation_config.eos_token_id if self.model.generation_config else None
        others = own if isinstance(own, list) else [own]
        return sorted({self.end_token, *(int(token) for token in others if token is not None)})

    @property
    def pad_token(self) -> int:
        """What fills rows up."""
        return int(self.end_token if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id)
