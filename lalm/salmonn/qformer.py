"""SALMONN's window-level Q-Former: each third of a second of both encoders' frames becomes one audio embedding."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError
from torch import Tensor, nn
from torch.nn import functional
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from ...errors import ModelError
from .files import fill, read_json

BERT = "speech_Qformer.bert."


class QFormerSettings(BaseModel):
    """What no tensor's shape tells, as BERT's configuration calls it; by default as in bert-base with heads 64 wide."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    num_attention_heads: PositiveInt | None = None
    hidden_act: Literal["gelu"] = "gelu"
    layer_norm_eps: PositiveFloat = 1e-12
    cross_attention_freq: PositiveInt = 1

    @classmethod
    def read(cls, path: Path | None) -> "QFormerSettings":
        """From a JSON file, where there is one.

        Raises:
            ModelError: the file is missing or damaged, or holds a setting that amask does not know.
        """
        try:
            return cls() if path is None else cls.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            raise ModelError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; expected BERT's settings") from None


class WindowQFormer(nn.Module):
    """Norms, windows, Q-Former and projection (SALMONN, section 3.1).

    Args:
        config: of the Q-Former.
        widths: of the speech encoder's frames, of the audio encoder's, and of the language model.
        queries: learned queries, and so embeddings of a window.
        window: frames of a window.
        stride: frames from one window to the next.
    """

    def __init__(self, config: Blip2QFormerConfig, widths: tuple[int, int, int], queries: int, window: int, stride: int) -> None:
        super().__init__()
        self.window, self.stride = window, stride
        self.ln_speech, self.ln_audio = nn.LayerNorm(widths[0]), nn.LayerNorm(widths[1])
        self.speech_query_tokens = nn.Parameter(torch.zeros(1, queries, config.hidden_size))
        self.qformer = Blip2QFormerModel(config)
        self.speech_llama_proj = nn.Linear(config.hidden_size, widths[2])

    def windows(
        self,
        speech: Float[Tensor, "row frame speechwidth"],
        audio: Float[Tensor, "row patch audiowidth"],
        padding: Bool[Tensor, "row patch"] | None,
    ) -> Float[Tensor, "row window offset width"]:
        """Both encoders' frames side by side, cut into windows; frames behind the last whole one are left out.

        Args:
            speech: frames of the speech encoder.
            audio: patches of the audio encoder; the shorter of the two is padded with zeros.
            padding: True at patches that are padding, which become zeros too; None takes them as they are.
        """
        speech, audio = self.ln_speech(speech), self.ln_audio(audio)
        if padding is not None:
            audio = audio.masked_fill(padding[..., None], 0)
        longest = max(speech.shape[1], audio.shape[1])
        padded = [functional.pad(frames, (0, 0, 0, longest - frames.shape[1])) for frames in (speech, audio)]
        return torch.cat(padded, dim=-1).unfold(1, self.window, self.stride).transpose(2, 3)

    def forward(
        self,
        speech: Float[Tensor, "row frame speechwidth"],
        audio: Float[Tensor, "row patch audiowidth"],
        padding: Bool[Tensor, "row patch"] | None,
    ) -> Float[Tensor, "row position width"]:
        """Audio embeddings as the language model takes them; arguments as of `windows`."""
        frames = self.windows(speech, audio, padding)
        queries = self.speech_query_tokens.expand(frames.shape[0] * frames.shape[1], -1, -1)
        answers = self.qformer(query_embeds=queries, encoder_hidden_states=frames.flatten(0, 1)).last_hidden_state
        return self.speech_llama_proj(answers).unflatten(0, frames.shape[:2]).flatten(1, 2)


def _official(name: str) -> str:
    """What SALMONN's checkpoint calls a tensor of ours: as BERT does, where transformers' BLIP-2 has names of its own."""
    if not name.startswith("qformer."):
        return name
    name = name.removeprefix("qformer.").replace("layernorm", "embeddings.LayerNorm")
    return BERT + re.sub(r"attention\.(query|key|value)\.", r"self.\1.", name)


def read_qformer(
    tensors: Mapping[str, Tensor], settings: QFormerSettings, widths: tuple[int, int, int], frames: tuple[int, int], path: Path
) -> WindowQFormer:
    """The Q-Former and what is around it.

    Args:
        tensors: of SALMONN's checkpoint; sizes are read from them.
        settings: the rest.
        widths: of the speech encoder's frames, of the audio encoder's, and of the language model.
        frames: of a window, and from one window to the next.
        path: where the tensors come from.

    Raises:
        ModelError: a tensor is missing or of another shape.
    """
    prefix = f"{BERT}encoder.layer."
    known = tensors.get("speech_query_tokens"), tensors.get(f"{prefix}0.intermediate_query.dense.weight")
    if known[0] is None or known[0].dim() != 3 or known[1] is None:
        raise ModelError(f"{path} has no window-level Q-Former; expected SALMONN's official checkpoint; download it again")
    (_, queries, width), inner = known[0].shape, len(known[1])
    layers = {name.removeprefix(prefix).partition(".")[0] for name in tensors if name.startswith(prefix)}
    heads = settings.num_attention_heads or max(1, width // 64)
    if width % heads:
        raise ModelError(f"{path}: a Q-Former {width} wide cannot have {heads} heads; correct its configuration")
    config = Blip2QFormerConfig(
        hidden_size=width,
        num_hidden_layers=len(layers),
        num_attention_heads=heads,
        intermediate_size=inner,
        hidden_act=settings.hidden_act,
        layer_norm_eps=settings.layer_norm_eps,
        encoder_hidden_size=widths[0] + widths[1],
        cross_attention_frequency=settings.cross_attention_freq,
    )
    module = WindowQFormer(config, widths, queries, *frames)
    fill(module, tensors, path, _official)
    return module
