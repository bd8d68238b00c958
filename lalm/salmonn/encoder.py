"""SALMONN's audio encoder: Whisper for speech, BEATs for all else, and the Q-Former that joins them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32
from torch import Tensor, nn
from transformers import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from .beats import Beats
from .fbank import batch_fbanks, batch_fbanks_like_authors
from .qformer import WindowQFormer


class SpeechEncoder(WhisperEncoder):
    """Whisper's encoder, which loads from a whole Whisper's folder without its decoder."""

    _keys_to_ignore_on_load_unexpected = [r"decoder\.", r"proj_out"]


class AudioEncoder(nn.Module):
    """All that lies between waveforms and audio embeddings; in single precision."""

    def __init__(self, extractor: WhisperFeatureExtractor, whisper: SpeechEncoder, beats: Beats, qformer: WindowQFormer) -> None:
        super().__init__()
        self.extractor, self.whisper, self.beats, self.qformer = extractor, whisper, beats, qformer

    def encode_apart(
        self, waves: Sequence[Float32[np.ndarray, " _"]], batch_like_authors: bool = False
    ) -> tuple[Float32[Tensor, "row frame speechwidth"], Float32[Tensor, "row patch audiowidth"], Bool[Tensor, "row patch"]]:
        """What both encoders make of clips, and which of BEATs' patches are padding; see `forward`."""
        device = self.whisper.device
        mels = self.extractor(list(waves), sampling_rate=self.extractor.sampling_rate, return_tensors="pt")["input_features"]
        speech = self.whisper(mels.to(device)).last_hidden_state
        collect = batch_fbanks_like_authors if batch_like_authors else batch_fbanks
        fbanks, padding = (tensor.to(device) for tensor in collect(waves, self.beats.settings.input_patch_size))
        return speech, self.beats(fbanks, padding), padding

    def forward(
        self, waves: Sequence[Float32[np.ndarray, " _"]], batch_like_authors: bool = False
    ) -> Float32[Tensor, "row position width"]:
        """Audio embeddings, as many for every clip.

        Args:
            waves: clips that are not longer than Whisper's window.
            batch_like_authors: do as the released code does, where a clip's embeddings depend on its batch: shorter
                clips are padded before BEATs encodes them, and the Q-Former is shown what BEATs makes of the padding.
        """
        speech, audio, padding = self.encode_apart(waves, batch_like_authors)
        return self.qformer(speech, audio, None if batch_like_authors else padding)
