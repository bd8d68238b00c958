"""The audio encoder: Whisper's weights in Qwen2-Audio's class. All layers but the last are run once for every clip."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path

import numpy as np
import soundfile
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from ...data.silence import cut_silence
from ...errors import ModelError
from ...lalm.qwen2_audio import add_tail, hidden_states, pool
from ..architecture import MARGIN, TAIL, audio_config
from ..corpus.synthesis import RATE


def load_whisper(name: str) -> WhisperForConditionalGeneration:
    """Load a Whisper model in float32.

    Raises:
        ModelError: it cannot be loaded.
    """
    try:
        return WhisperForConditionalGeneration.from_pretrained(name, dtype=torch.float32).eval()
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"cannot load Whisper from {name!r}: {reason}; give its Hub id or folder") from None


def start_encoder(whisper: WhisperForConditionalGeneration) -> Qwen2AudioEncoder:
    """Whisper's encoder as Qwen2-Audio's, which pools its states to 25 Hz before the last norm."""
    tower = Qwen2AudioEncoder(audio_config(whisper.config)).eval()
    tower.load_state_dict(whisper.model.encoder.state_dict())
    return tower


@torch.no_grad()
def early_states(tower: Qwen2AudioEncoder, paths: Sequence[Path], extractor: WhisperFeatureExtractor) -> list[np.ndarray]:
    """States before the encoder's last layer, at 50 Hz, of some files as the model hears them: (position, width) each."""
    waves = [add_tail(cut_silence(soundfile.read(path, dtype="float32")[0], RATE, MARGIN), RATE, TAIL) for path in paths]
    made = extractor(waves, sampling_rate=RATE, padding="longest", return_tensors="pt", return_attention_mask=True)
    frames = made["attention_mask"].sum(-1)
    first = copy(tower)
    first._modules = {**tower._modules, "layers": tower.layers[:-1]}
    hidden = hidden_states(first, made["input_features"], frames)
    lengths = tower._get_feat_extract_output_lengths(frames)[0]
    return [row[:length].numpy() for row, length in zip(hidden, lengths.tolist(), strict=True)]


def last_layer(
    tower: Qwen2AudioEncoder, states: Float[Tensor, "row position width"], lengths: Int[Tensor, " row"]
) -> tuple[Float[Tensor, "row pooled width"], Int[Tensor, " row"]]:
    """The encoder's output of its states before the last layer, at 25 Hz, and how many positions each row has."""
    heard = (torch.arange(states.shape[1])[None] < lengths[:, None]).long()
    mask = create_bidirectional_mask(config=tower.config, inputs_embeds=states, attention_mask=heard)
    return pool(tower, tower.layers[-1](states, mask)), (lengths - 2) // 2 + 1


class AudioFront(nn.Module):
    """What turns stored states into the language model's audio: the encoder's last layer, its norm, and the projector."""

    def __init__(self, tower: Qwen2AudioEncoder, projector: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm, self.projector = tower.layers[-1], tower.layer_norm, projector
        self._tower = [tower]  # not a submodule: its other layers are not trained

    def forward(
        self, states: Float[Tensor, "row position width"], lengths: Int[Tensor, " row"]
    ) -> tuple[Float[Tensor, "row pooled hidden"], Int[Tensor, " row"]]:
        """Audio embeddings and their lengths."""
        output, lengths = last_layer(self._tower[0], states, lengths)
        return self.projector(output), lengths
