"""`LALM`: the one face that every model family shows."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import cached_property
from threading import RLock
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..data.audio import Channels, check_wave
from ..errors import AudioError, ModelError
from .assembly import AudioFeatures, PromptTemplate, answer_spans, pad_rows
from .calls import keeps_state
from .fingerprint import hash_model
from .gating import Geometry, HeadSite, gated
from .identity import Identity

Gates = Float[Tensor, "layer head"] | Float[Tensor, "row layer head"] | None


class LALM(ABC):
    """A frozen large audio language model whose heads can be gated.

    A family says how audio becomes embeddings (`_encode`) and what text stands around them (`template`); the rest is
    shared. The text around the audio is the same in training and in use, with and without an instruction.

    Attributes:
        name: how users call the model.
        model: the transformers model that holds the language model and its head; frozen, in eval mode.
        tokenizer: its tokenizer.
        template: the exact text around the audio.
        sites: where the heads are.
        rate: sampling rate of the audio, Hz.
        longest: seconds of audio that the model takes at once; None where it takes clips of any length.
        channels: which channels of a file the model hears, see `data.audio.read_audio`.
    """

    rate = 16_000
    longest: float | None = None
    channels: Channels = "mean"

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        template: PromptTemplate,
        sites: Sequence[HeadSite],
    ) -> None:
        self.name, self.template, self.sites = name, template, tuple(sites)
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.geometry = Geometry(tuple(site.heads for site in sites))
        # Several threads may use a model. Tokenizers change their own settings with each call, hence one at a time.
        self._tokenizing = RLock()
        self._exclusive: AbstractContextManager[Any] = RLock() if keeps_state(model) else nullcontext()

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
        with self._exclusive:
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

    def _check_gates(self, features: AudioFeatures, gates: Gates) -> None:
        """Refuse gates of another model's shape, and per-row gates for other rows, which beams would hide from the hooks."""
        if gates is None:
            return
        if tuple(gates.shape[-2:]) != self.geometry.shape:
            shape = " × ".join(map(str, gates.shape[-2:]))
            raise ModelError(f"gates for {shape} heads do not fit {self.name}, a model of {self.geometry} (layers × heads)")
        if gates.dim() == 3 and len(gates) != len(features):
            raise ModelError(f"got gates for {len(gates)} rows and audio for {len(features)}; give each row its own gates")

    def _prompt_rows(self, features: AudioFeatures, instructions: Sequence[str] | None) -> list[Tensor]:
        """Embeddings of text before, audio, text after (with each row's instruction, or none)."""
        said = [""] * len(features) if instructions is None else list(instructions)
        before = self._embed(self.template.before)
        after = {text: self._embed(self.template.after.format(text)) for text in set(said)}
        heard = (row[:length] for row, length in zip(features.embeds, features.lengths.tolist(), strict=True))
        return [torch.cat([before, audio, after[text]]) for audio, text in zip(heard, said, strict=True)]

    def token_losses(
        self,
        features: AudioFeatures,
        targets: Sequence[str],
        gates: Gates = None,
        instructions: Sequence[str] | None = None,
    ) -> tuple[Float[Tensor, "row token"], Bool[Tensor, "row token"]]:
        """Next-token cross-entropy of each target token, the end token included.

        Args:
            features: encoded audio, one row a target.
            targets: the right answers.
            gates: head gates; differentiable.
            instructions: one a row; none by default, as masks are trained and used.

        Returns:
            Losses, padded with zeros, and where they are real.
        """
        logits, ids, real = self._answered(features, targets, gates, instructions)
        losses = logits.new_zeros(real.shape)
        losses[real] = nn.functional.cross_entropy(logits, ids, reduction="none")
        return losses, real

    def token_margins(
        self,
        features: AudioFeatures,
        targets: Sequence[str],
        gates: Gates = None,
        instructions: Sequence[str] | None = None,
    ) -> tuple[Float[Tensor, "row token"], Bool[Tensor, "row token"]]:
        """By how much each target token's logit is above that of the likeliest other token; arguments as for `token_losses`.

        Greedy search gives exactly the target where all of a row's margins are above 0.

        Returns:
            Margins, padded with infinity, and where they are real.
        """
        logits, ids, real = self._answered(features, targets, gates, instructions)
        (best, second), likeliest = logits.topk(2).values.unbind(-1), logits.argmax(-1)
        own = logits.gather(-1, ids[:, None])[:, 0]
        margins = logits.new_full(real.shape, torch.inf)
        margins[real] = own - torch.where(likeliest == ids, second, best)
        return margins, real

    def _answered(
        self, features: AudioFeatures, targets: Sequence[str], gates: Gates, instructions: Sequence[str] | None
    ) -> tuple[Float[Tensor, "said vocabulary"], Int[Tensor, " said"], Bool[Tensor, "row token"]]:
        """Logits and ids of all targets' tokens, ends included, one target after the other; and where a row has them."""
        self._check_gates(features, gates)
        end = torch.tensor([self.end_token], device=self.device)
        answers = [torch.cat([self._ids(target), end]) for target in targets]
        with self._exclusive, gated(self.sites, gates):
            logits = self._answer_logits(features, answers, instructions)
        lengths = torch.tensor([len(answer) for answer in answers], device=logits.device)
        real = torch.arange(int(lengths.max()), device=logits.device) < lengths[:, None]
        return logits.to(torch.promote_types(logits.dtype, torch.float32)), torch.cat(answers).to(logits.device), real

    def _answer_logits(
        self, features: AudioFeatures, answers: Sequence[Tensor], instructions: Sequence[str] | None
    ) -> Float[Tensor, "token vocabulary"]:
        """Logits of every answer's tokens given those before it, one answer after the other."""
        prompts = self._prompt_rows(features, instructions)
        embed = self.model.get_input_embeddings()
        rows = [torch.cat([prompt, embed(answer[:-1])]) for prompt, answer in zip(prompts, answers, strict=True)]
        embeds, _ = pad_rows(rows, "right")  # causal attention never sees padding on the right
        hidden = self.decoder(inputs_embeds=embeds, use_cache=False).last_hidden_state
        return self.model.get_output_embeddings()(answer_spans(hidden, rows, answers))

    def loss(
        self,
        features: AudioFeatures,
        targets: Sequence[str],
        gates: Gates = None,
        instructions: Sequence[str] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean next-token cross-entropy over all target tokens of the batch (AHAMask, section 3)."""
        losses, real = self.token_losses(features, targets, gates, instructions)
        return losses.sum() / real.sum()

    @torch.no_grad()
    def generate(
        self,
        features: AudioFeatures,
        gates: Gates = None,
        instructions: Sequence[str] | None = None,
        *,
        max_new_tokens: int = 200,
        num_beams: int = 1,
    ) -> list[str]:
        """Answer by greedy or beam search, masked by gates or told by instructions (or neither).

        Args:
            features: encoded audio.
            gates: head gates, for all rows or for each.
            instructions: one a row.
            max_new_tokens: where an answer is cut.
            num_beams: 1 for greedy search.

        Returns:
            One answer a row, without special tokens.
        """
        self._check_gates(features, gates)
        settings = self._settings(max_new_tokens, num_beams)
        with self._exclusive, gated(self.sites, gates):
            ids = self._continue(features, instructions, settings)
        with self._tokenizing:
            return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def _settings(self, max_new_tokens: int, num_beams: int = 1) -> GenerationConfig:
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            num_beams=num_beams,
            do_sample=False,
            bos_token_id=self.model.generation_config.bos_token_id,
            eos_token_id=self.end_tokens,
            pad_token_id=self.pad_token,
        )

    def _search(self, settings: GenerationConfig, **inputs: Any) -> Int[Tensor, "row token"]:  # noqa: ANN401
        """Greedy or beam search by transformers, with these settings and none from the model's files.

        Transformers fills what is not set from the model's own `generation_config` and keeps caches on the model. It gets
        a shallow copy, whose `generation_config` these settings are, so that nothing leaks in or stays behind.
        """
        model = copy(self.model)
        model.generation_config = settings
        return self._generate(model, generation_config=settings, **inputs)

    def _generate(self, model: PreTrainedModel, **inputs: Any) -> Int[Tensor, "row token"]:  # noqa: ANN401
        return model.generate(**inputs)

    def _continue(
        self, features: AudioFeatures, instructions: Sequence[str] | None, settings: GenerationConfig
    ) -> Int[Tensor, "row token"]:
        """The tokens that the model generates."""
        embeds, mask = pad_rows(self._prompt_rows(features, instructions), "left")
        return self._search(settings, inputs_embeds=embeds, attention_mask=mask)

    def count_tokens(self, text: str) -> int:
        """How many tokens a text is."""
        return len(self._ids(text))

    def room_for(self, answers: Sequence[str]) -> int:
        """Tokens that are enough for answers like these: twice the longest, and eight more."""
        return 8 + 2 * max(map(self.count_tokens, answers))

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
