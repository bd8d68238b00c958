"""The generic adapter: any audio-text model of transformers, by its own code.

The model's forward pass does everything that is its own (position ids, attention masks, per-layer embeddings, soft
caps); only the audio is taken apart. `encode` runs the model up to its decoder and keeps the embeddings at the audio's
places; later passes get a stand-in token at these places and, where the decoder begins, the embeddings. So audio is
encoded once, whatever the family calls its encoder and however it merges what that says.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from inspect import signature
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn
from transformers import BatchFeature, GenerationConfig, PreTrainedModel, ProcessorMixin

from ..errors import ModelError
from .base import LALM
from .batching import AudioFeatures, PromptTemplate, answer_spans, pad_rows
from .call_context import Arguments, Change, changed_inputs
from .chat_format import ChatFormat, render_chat
from .gating import find_sites


class _Reached(Exception):
    """Ends a forward pass where the decoder begins; carries the embeddings that were about to enter it."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


class TransformersLALM(LALM):
    """A model with a `get_decoder()` and a processor that puts a placeholder token where audio goes.

    What a family needs beyond this is in a subclass, in a file of its own.

    Attributes:
        processor: the model's own.
        placeholder: the id of the token that stands for audio.
    """

    keeps_placeholder = False
    """Whether the model looks at the placeholders' ids beyond merging audio (per-layer embeddings do)."""
    deterministic: Mapping[str, Any] = {}
    """Arguments of the model's forward pass without which it would encode audio with random noise."""

    def __init__(self, name: str, model: PreTrainedModel, processor: ProcessorMixin) -> None:
        self.processor = processor
        self.placeholder = _placeholder(model, processor)
        extractor = getattr(processor, "feature_extractor", None) or getattr(processor, "audio_processor", None)
        self.rate = int(getattr(extractor, "sampling_rate", self.rate))
        super().__init__(name, model, processor.tokenizer, PromptTemplate("", ""), find_sites(self.gated_part(model)))
        tokens = self._ids
        self.chat_format = ChatFormat(
            self.render, lambda text: tokens(text).tolist(), self._prepared_ids, self.tokenizer, self.placeholder
        )
        self.template = self.chat_format.template
        self.longest = self._longest(extractor)

    def render(self, reply: str | None = None) -> str:
        """A user's turn with audio in the model's own chat format, and the model's reply or the beginning of its turn."""
        return render_chat(self.processor, str(self.tokenizer.convert_ids_to_tokens(self.placeholder)), reply)

    def _prepared_ids(self, text: str, seconds: float) -> list[int]:
        return self.prepare(text, np.zeros(round(seconds * self.rate), np.float32))["input_ids"][0].tolist()

    def _longest(self, extractor: Any) -> float | None:  # noqa: ANN401
        """Seconds of a clip that the processor passes on; None for all.

        An extractor's window is a limit for some families and for others only the size of the pieces that they encode one
        after the other. Clips of one window and of two tell: what is cut has no tokens of its own.
        """
        window = _window(extractor, self.rate)
        most = getattr(self.processor, "max_audio_len", None)
        if most:  # a limit in seconds, of whole windows
            return float(most // window * window if window else most)
        if window is None:
            return None
        one, two = (
            self._prepared_ids(self.chat_format.frame(), seconds).count(self.placeholder) for seconds in (window, 2 * window)
        )
        return window if one == two else None

    @staticmethod
    def gated_part(model: PreTrainedModel) -> nn.Module:
        """The part of the model whose heads are gated, and no other part's."""
        return model.get_decoder()

    def prepare(self, text: str, wave: Float32[np.ndarray, " time"]) -> BatchFeature:
        """The processor's inputs for a text with one placeholder and its audio."""
        # A chat template that writes the first token itself wants no second one.
        begun = bool(self.processor.tokenizer.bos_token) and text.startswith(self.processor.tokenizer.bos_token)
        settings = {"padding": True} | ({"add_special_tokens": False} if begun else {})
        return self.processor(text=[text], audio=[wave], return_tensors="pt", text_kwargs=settings)

    @property
    def entry(self) -> tuple[nn.Module, str]:
        """The first module that gets the embeddings of audio and text together, and by which argument."""
        return self.decoder, "inputs_embeds"

    def _encode(self, waves: Sequence[Float32[np.ndarray, " _"]]) -> AudioFeatures:
        """The model's own audio path, up to its decoder.

        Clip by clip, since in a batch several families pad a clip otherwise than alone, and encode the padding.
        """
        embeds, mask = pad_rows([self._encode_one(wave) for wave in waves], "right")
        return AudioFeatures(embeds, mask.sum(1).cpu())

    def _encode_one(self, wave: Float32[np.ndarray, " time"]) -> Float[Tensor, "position width"]:
        with self._tokenizing:
            inputs = self.prepare(self.chat_format.frame(), wave).to(self.device, self.model.dtype)
        module, argument = self.entry
        try:
            with changed_inputs({module: _stop(argument)}):
                self.model(**inputs, **self.deterministic, use_cache=False)
            raise ModelError(f"{self.name}: {type(self.model).__name__} never called its decoder")
        except _Reached as reached:
            state = reached.states[0]
        ids = inputs["input_ids"][0].tolist()
        start, end = len(self.chat_format.before), len(ids) - len(self.chat_format.after)
        if ids[:start] != self.chat_format.before or ids[end:] != self.chat_format.after:
            raise ModelError(f"{self.name}: the text around a clip is not {self.template}")
        return state[start:end]  # with what some families write beside it, such as its length

    def _with_audio(self, features: AudioFeatures, places: Bool[Tensor, "row position"]) -> AbstractContextManager[None]:
        """Within this context the audio's embeddings enter the decoder at their places, for beams too, and once with a cache."""
        module, argument = self.entry
        clips = [row[:length] for row, length in zip(features.embeds, features.lengths.tolist(), strict=True)]
        length = places.shape[1]

        def put(args: tuple, kwargs: dict) -> Arguments:
            states = _argument(argument, args, kwargs)
            if states.shape[1] < length:  # a step with a cache: the prompt has been through
                return args, kwargs
            beams = len(states) // len(clips)
            mask = places.to(states.device).repeat_interleave(beams, 0).unsqueeze(-1)
            audio = torch.cat([row for row in clips for _ in range(beams)]).to(states)
            prompt = states[:, :length].masked_scatter(mask, audio)
            return _with_argument(argument, args, kwargs, torch.cat([prompt, states[:, length:]], 1))

        return changed_inputs({module: put})

    def _prompt_ids(self, features: AudioFeatures, prompts: Sequence[str]) -> tuple[list[Tensor], list[Tensor]]:
        """Each row's prompt, with a stand-in where audio goes, and where that is."""
        if any(prompts) and "{}" not in self.template.after:
            raise ModelError(f"{self.name}: {type(self.model).__name__} takes no prompt; give it a mask")
        stand_in = self.placeholder if self.keeps_placeholder else self.pad_token
        before = self._ids(self.template.before)
        after = {text: self._ids(self.template.after.format(text)) for text in set(prompts)}
        ids, places = [], []
        for length, text in zip(features.lengths.tolist(), prompts, strict=True):
            ids.append(torch.cat([before, before.new_full((length,), stand_in), after[text]]))
            places.append(torch.zeros(len(ids[-1]), dtype=torch.bool, device=self.device))
            places[-1][len(before) : len(before) + length] = True
        return ids, places

    def _answer_logits(
        self, features: AudioFeatures, answers: Sequence[Tensor], prompts: Sequence[str]
    ) -> Float[Tensor, "token vocabulary"]:
        contexts, places = self._prompt_ids(features, prompts)
        rows = [torch.cat([context, answer[:-1]]) for context, answer in zip(contexts, answers, strict=True)]
        ids, mask = self._pad(rows, "right")
        first = min(map(len, contexts)) - 1  # nothing before the shortest prompt's end is asked for
        with self._with_audio(features, _stack(places, "right")):
            kept = ids.shape[1] - first
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=kept).logits
        # Not every family knows logits_to_keep.
        return answer_spans(logits[:, -kept:], [row[first:] for row in rows], answers)

    def _continue(self, features: AudioFeatures, prompts: Sequence[str], settings: GenerationConfig) -> Int[Tensor, "row token"]:
        contexts, places = self._prompt_ids(features, prompts)
        ids, mask = self._pad(contexts, "left")
        with self._with_audio(features, _stack(places, "left")):
            return self._search(settings, input_ids=ids, attention_mask=mask)[:, ids.shape[1] :]

    def _pad(self, rows: list[Tensor], side: str) -> tuple[Int[Tensor, "row position"], Int[Tensor, "row position"]]:
        mask = _stack([torch.ones_like(row) for row in rows], side)
        ids = _stack(rows, side)
        return ids.masked_fill(mask == 0, self.pad_token), mask


def _stack(rows: list[Tensor], side: str) -> Tensor:
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_side=side)


def _placeholder(model: PreTrainedModel, processor: ProcessorMixin) -> int:
    """The id of the token that stands for audio."""
    for config in (model.config, getattr(model.config, "audio_config", None)):
        for name in ("audio_token_id", "audio_token_index"):
            found = getattr(config, name, None)
            if found is not None:
                return int(found)
    raise ModelError(f"{type(model).__name__} with {type(processor).__name__}: no audio_token_id in its configuration")


def _window(extractor: Any, rate: int) -> float | None:  # noqa: ANN401
    """Seconds that a feature extractor takes at once: its `chunk_length`, or where its call cuts by default."""
    chunk = getattr(extractor, "chunk_length", None)
    if chunk:
        return float(chunk)
    arguments = {name: argument.default for name, argument in signature(type(extractor).__call__).parameters.items()}
    cut = arguments.get("max_length")
    return cut / rate if arguments.get("truncation") is True and isinstance(cut, int) else None


def _argument(name: str, args: tuple, kwargs: dict) -> Tensor:
    """An argument of a call, given by name or first."""
    return kwargs[name] if name in kwargs else args[0]


def _with_argument(name: str, args: tuple, kwargs: dict, value: Tensor) -> Arguments:
    """The same call's arguments with another value for it."""
    return (args, kwargs | {name: value}) if name in kwargs else ((value, *args[1:]), kwargs)


def _stop(argument: str) -> Change:
    def stop(args: tuple, kwargs: dict) -> Arguments:
        raise _Reached(_argument(argument, args, kwargs))

    return stop
