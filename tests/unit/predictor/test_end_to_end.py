"""The second stage: through the frozen LALM, each row by its own gates."""

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def lalm(tiny_qwen2_audio):
    from amask.lalm.batching import PromptTemplate
    from amask.lalm.qwen2_audio import Qwen2Audio

    return Qwen2Audio("tiny", *tiny_qwen2_audio(seed=0), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}"))


@pytest.fixture(scope="module")
def clips(lalm):
    """Six clips of noise; half of them have a second label."""
    from amask.mask_bank.labelled_clips import LabelledClips

    rng = np.random.default_rng(1)
    waves = [rng.normal(0, 0.1, 8000).astype(np.float32) for _ in range(6)]
    labels = [{"gr": "male"} | ({"asr": f"word {at}"} if at % 2 else {}) for at in range(6)]
    return LabelledClips(lalm.encode(waves), tuple(labels), tuple("abcdef"))


@pytest.fixture
def tuning(lalm, clips):
    from amask.data.tasks import builtin_tasks, parse_task
    from amask.mask_bank.mask import HeadMask
    from amask.predictor.encoder import load_encoder
    from amask.predictor.end_to_end import EndToEndSettings, EndToEndTraining
    from amask.predictor.training import PredictorSettings, Training

    bits = torch.rand(lalm.geometry.shape, generator=torch.Generator().manual_seed(0)) > 0.5
    masks = [HeadMask(bits, lalm.identity, parse_task(name)) for name in ("gr", "asr")]
    tasks = tuple(builtin_tasks()[name] for name in ("gr", "asr", "ser"))
    training = Training(load_encoder(), tasks, masks, PredictorSettings(steps=1, batch=4))
    return EndToEndTraining(training, lalm, clips, EndToEndSettings(steps=2, batch=5))


def test_every_row_has_a_clip_with_its_labels(tuning, clips):
    for step in range(8):
        for example, spec, clip in tuning.sample_rows(step):
            assert spec.names == example.intent.parts
            assert all(name in clips.labels[clip] for name in spec.names)  # so nothing is asked of `ser`


def test_the_loss_is_the_models_own_under_each_rows_gates(tuning, lalm, clips):
    rows = tuning.sample_rows(0)
    logits = torch.full((len(rows), *lalm.geometry.shape), 50.0)
    logits[0] = -50.0  # so sure that no noise matters: the first row has no head, the others have all
    expected = []
    for at, (_, spec, clip) in enumerate(rows):
        gates = torch.full(lalm.geometry.shape, float(at > 0))
        expected.append(float(lalm.loss(clips.features.rows([clip]), [spec.target(clips.labels[clip])], gates)))
    assert float(tuning.loss(rows, logits, 0)) == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_answers_reach_the_logits_and_the_model_stays_frozen(tuning, lalm):
    rows = tuning.sample_rows(0)
    logits = torch.zeros(len(rows), *lalm.geometry.shape, requires_grad=True)
    before = [parameter.clone() for parameter in lalm.model.parameters()]
    tuning.loss(rows, logits, 0).backward()
    assert bool((logits.grad.flatten(1).abs().sum(1) > 0).all())
    assert all(torch.equal(a, b) for a, b in zip(before, lalm.model.parameters(), strict=True))
