"""The audio encoder over as much as the longest clip takes, against transformers' own forward over the whole window."""

import numpy as np
import pytest
import torch
from transformers.masking_utils import create_bidirectional_mask


@pytest.mark.parametrize("seconds", [(0.05, 0.4), (0.31, 1.0, 0.62), (1.07,), (30.0, 3.0)])
def test_states_are_those_of_the_whole_window(tiny_qwen2_audio, seconds):
    from amask.lalm.qwen2_audio import hidden_states, pool

    model, processor = tiny_qwen2_audio(seed=0)
    tower, extractor = model.model.audio_tower, processor.feature_extractor
    seconds = tuple(min(each, extractor.chunk_length) for each in seconds)
    rng = np.random.default_rng(0)
    waves = [rng.normal(0, 0.1, int(each * extractor.sampling_rate)).astype(np.float32) for each in seconds]
    inputs = extractor(
        waves, sampling_rate=extractor.sampling_rate, return_attention_mask=True, padding="max_length", return_tensors="pt"
    )
    mels, frames = inputs["input_features"], inputs["attention_mask"].sum(-1)
    with torch.inference_mode():
        states = pool(tower, hidden_states(tower, mels, frames))
        after_conv, pooled = tower._get_feat_extract_output_lengths(frames)
        hidden = mels.new_zeros(len(mels), tower.config.max_source_positions, 1)
        heard = (torch.arange(hidden.shape[1])[None] < after_conv[:, None]).long()
        mask = create_bidirectional_mask(config=tower.config, inputs_embeds=hidden, attention_mask=heard)
        whole = tower(mels, attention_mask=mask).last_hidden_state
    for row, length in enumerate(pooled.tolist()):
        torch.testing.assert_close(states[row, :length], whole[row, :length], atol=1e-5, rtol=1e-4)
    if max(seconds) < extractor.chunk_length / 2:
        assert states.shape[1] < whole.shape[1]
