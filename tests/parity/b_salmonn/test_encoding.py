"""From a file to the embeddings that the language model hears."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from .recorded import read

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def whole(batches):
    """Batches of which each stage was recorded."""
    return [batch for batch in batches.values() if "raw_wav" in batch.stages]


@contextmanager
def outputs(*modules: nn.Module):
    """Collects what modules give."""
    seen = []
    handles = [module.register_forward_hook(lambda _module, _inputs, output: seen.append(output)) for module in modules]
    yield seen
    for handle in handles:
        handle.remove()


# Reading


def test_files_are_found_by_their_names(recorded, model):
    from amask.lalm.salmonn.files import find_files

    own, files = recorded.json("model_config"), find_files(recorded.folder)
    assert [files.whisper, files.beats, files.llm, files.checkpoint] == [
        recorded.folder / own[key] for key in ("whisper_path", "beats_path", "llama_path", "ckpt")
    ]
    assert model.geometry.heads == (own["n_heads"],) * own["n_layers"]


def test_waveforms(whole):
    for batch in whole:
        raw, padding = batch["raw_wav"], batch["wav_padding_mask"]
        for wave, row, behind in zip(batch.waves, raw, padding, strict=True):
            assert torch.equal(torch.from_numpy(wave), row[~behind])
            assert not row[behind].any()


def test_first_channel_and_other_rates(recorded, model):
    extra = recorded.tensors("audio_extra")
    assert torch.equal(torch.from_numpy(read(recorded, model, "stereo16k")), extra["stereo16k"])
    other, ours = extra["mono22k"].numpy(), read(recorded, model, "mono22k")
    assert len(ours) == pytest.approx(len(other), abs=1)
    length = min(len(ours), len(other))
    difference = ours[:length] - other[:length]  # the resamplers differ in how they filter
    assert np.square(difference).mean() < 1e-2 * np.square(other).mean()


# Encoders


def test_speech_encoder(model, whole):
    for batch in whole:
        mels = model.encoder.extractor(batch.waves, sampling_rate=model.rate, return_tensors="pt")["input_features"]
        torch.testing.assert_close(mels, batch["spectrogram"], rtol=0, atol=5e-5)
        out = model.encoder.whisper(batch["spectrogram"]).last_hidden_state
        torch.testing.assert_close(out, batch["whisper_encoder_out"], rtol=1e-5, atol=2e-5)


def test_filter_banks_and_padding(model, whole):
    from amask.lalm.salmonn.fbank import batch_fbanks_like_authors, reduce_padding

    patch = model.encoder.beats.settings.input_patch_size
    for batch in whole:
        fbanks, padding = batch_fbanks_like_authors(batch.waves, patch)
        torch.testing.assert_close(fbanks, batch["beats_fbank"], **CLOSE)
        assert torch.equal(padding, batch["beats_padding_mask"])
        frames = batch["beats_frame_padding_mask"]
        assert torch.equal(reduce_padding(batch["wav_padding_mask"], frames.shape[1]), frames)
        assert torch.equal(reduce_padding(frames, padding.shape[1]), padding)


def test_patches(model, whole):
    beats = model.encoder.beats
    for batch in whole:
        conv = batch["beats_patch_conv"]
        torch.testing.assert_close(beats.patch_embedding(batch["beats_fbank"][:, None]), conv, **CLOSE)
        torch.testing.assert_close(beats.layer_norm(conv.flatten(2).transpose(1, 2)), batch["beats_patch_ln"], **CLOSE)
        torch.testing.assert_close(beats.post_extract_proj(batch["beats_patch_ln"]), batch["beats_post_extract_proj"], **CLOSE)


def test_audio_encoder(model, whole):
    beats = model.encoder.beats
    for batch in whole:
        padding = batch["beats_padding_mask"]
        with outputs(*beats.encoder.pos_conv, *beats.encoder.layers) as seen:
            out = beats.encoder(batch["beats_post_extract_proj"], padding)
        convolved, *layers = seen
        torch.testing.assert_close(convolved, batch["beats_pos_conv_out"], **CLOSE)
        assert f"beats_layer{len(layers)}_out" not in batch.stages
        for at, layer in enumerate(layers):
            torch.testing.assert_close(layer, batch[f"beats_layer{at}_out"], **CLOSE)
        torch.testing.assert_close(out, batch["beats_encoder_out"], **CLOSE)
        unmasked = beats.encoder(batch["beats_post_extract_proj"], torch.zeros_like(padding))
        torch.testing.assert_close(unmasked, batch["beats_encoder_out_no_padding_mask"], **CLOSE)
        assert padding.any() == (not torch.allclose(out, unmasked, atol=1e-3))


# Q-Former


def test_windows(model, whole):
    qformer = model.encoder.qformer
    for batch in whole:
        speech, audio = batch["whisper_encoder_out"], batch["beats_encoder_out"]
        some = batch["ln_speech_out_first32"]
        torch.testing.assert_close(qformer.ln_speech(speech)[:, : some.shape[1]], some, **CLOSE)
        torch.testing.assert_close(qformer.ln_audio(audio), batch["ln_audio_out"], **CLOSE)
        windows = qformer.windows(speech, audio, None)
        some = batch["qformer_windows_first4"]
        torch.testing.assert_close(windows[:, : some.shape[1]], some, **CLOSE)
        assert windows.shape[1] * qformer.speech_query_tokens.shape[1] == batch["speech_embeds"].shape[1]


def test_qformer(model, whole):
    qformer = model.encoder.qformer
    for batch in whole:
        with outputs(qformer.qformer) as answers:
            embeds = qformer(batch["whisper_encoder_out"], batch["beats_encoder_out"], None)
        torch.testing.assert_close(answers[0].last_hidden_state, batch["qformer_out"], **CLOSE)
        torch.testing.assert_close(embeds, batch["speech_embeds"], **CLOSE)


# From waveform to embeddings


def test_encoding_like_the_authors(model, batches):
    for batch in batches.values():
        encoded = model.encode_like_authors(batch.waves)
        torch.testing.assert_close(encoded.embeds, batch["speech_embeds"], rtol=1e-5, atol=2e-5)
        assert encoded.lengths.tolist() == [batch["speech_embeds"].shape[1]] * len(batch.waves)


def test_clips_alone(model, batches):
    """Alone a clip has no padding, and both ways of encoding are one."""
    for batch in batches.values():
        if len(batch.clips) == 1:
            _, audio, padding = model.encoder.encode_apart(batch.waves)
            torch.testing.assert_close(audio, batch["beats_encoder_out"], rtol=1e-5, atol=2e-5)
            assert not padding.any()
            torch.testing.assert_close(model.encode(batch.waves).embeds, batch["speech_embeds"], rtol=1e-5, atol=2e-5)


def test_clips_of_a_batch_are_as_if_alone(model, batches):
    rows = model.encode(batches["syn"].waves).embeds
    compared = 0
    for at, clip in enumerate(batches["syn"].clips):
        if f"{clip}_alone" in batches:
            alone = batches[f"{clip}_alone"]["speech_embeds"][0]
            torch.testing.assert_close(rows[at], alone, rtol=1e-5, atol=2e-5)
            assert not torch.allclose(batches["syn"]["speech_embeds"][at], alone, atol=1e-2)
            compared += 1
    assert compared
