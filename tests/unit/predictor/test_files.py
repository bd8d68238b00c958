"""Predictors on disk and in training: round trips, damage, resuming."""

import pytest
import torch

SAID = ["what's the speaker's gender", "transcribe, then the mood, as json", "book a flight"]


def test_a_round_trip_keeps_what_it_says(trained, tmp_path):
    from amask.predictor.predictor import Predictor

    trained.save(tmp_path / "a.safetensors")
    loaded = Predictor.load(tmp_path / "a.safetensors")
    assert loaded.record == trained.record
    for before, after in zip(trained.predict(SAID), loaded.predict(SAID), strict=True):
        assert torch.allclose(before.probs, after.probs, atol=5e-3)
        assert torch.allclose(before.logits, after.logits, atol=0.05, rtol=1e-2)
    loaded.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_batch_says_the_same_as_each_alone(trained):
    from amask.predictor.predictor import Predictor

    together = Predictor(trained.network, trained.encoder, trained.record).predict(SAID)
    for text, prediction in zip(SAID, together, strict=True):
        single_task = Predictor(trained.network, trained.encoder, trained.record).predict([text])[0]
        assert torch.allclose(prediction.probs, single_task.probs, atol=1e-5)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "damaged"),
        (lambda data: data[:1000], "damaged"),
        (lambda data: data.replace(b"amask-predictor", b"other-predictor"), "not a predictor of amask"),
        (lambda data: data.replace(b'\\"format\\": 1', b'\\"format\\": 7'), "wrong at format"),
    ],
)
def test_a_damaged_file_is_refused(trained, tmp_path, damage, message):
    from amask.errors import ModelError
    from amask.predictor.predictor import Predictor

    path = tmp_path / "a.safetensors"
    trained.save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match=message):
        Predictor.load(path)


def test_a_missing_file_is_refused(tmp_path):
    from amask.errors import ModelError
    from amask.predictor.predictor import Predictor

    with pytest.raises(ModelError, match="there is no such file"):
        Predictor.load(tmp_path / "none.safetensors")


def test_another_encoder_is_refused(trained):
    from amask.errors import ModelError
    from amask.predictor.predictor import Predictor

    record = trained.record.model_copy(update={"encoder_digest": "0" * 16})
    with pytest.raises(ModelError, match="another encoder"):
        Predictor(trained.network, trained.encoder, record)


def test_a_stopped_training_goes_on_to_the_same_bits(masks, few_dev_requests, tmp_path):
    from amask.predictor.train import train_predictor
    from amask.predictor.training import PredictorSettings

    settings = PredictorSettings(steps=6, batch=8, warmup=1, save_every=2)

    class Stop(Exception):
        pass

    def stop(step, _note):
        if step == 5:
            raise Stop

    with pytest.raises(Stop):
        train_predictor(masks, settings, checkpoint=tmp_path / "half", on_progress=stop)
    steps = []
    resumed = train_predictor(masks, settings, checkpoint=tmp_path / "half", on_progress=lambda step, _note: steps.append(step))
    whole = train_predictor(masks, settings)
    assert steps == [5, 6]
    assert resumed.record == whole.record
    theirs = whole.network.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in resumed.network.state_dict().items())


def test_masks_of_two_models_are_refused(masks):
    from amask.errors import MaskError
    from amask.lalm.identity import Identity
    from amask.predictor.train import train_predictor

    other = masks[0].with_(identity=Identity(masks[0].geometry, "f" * 16, "other"))
    with pytest.raises(MaskError, match="is for"):
        train_predictor([*masks, other])


def test_no_masks_are_refused():
    from amask.errors import InstructionError
    from amask.predictor.train import train_predictor

    with pytest.raises(InstructionError, match="no masks to learn from"):
        train_predictor([])


def test_bits_are_learned(masks):
    """Of masks alone, a network remembers which head is on."""
    from amask.predictor.intent import intent_space
    from amask.predictor.training import MaskTargets, intent_of

    possible = intent_space(("gr", "asr", "ser"))
    targets = MaskTargets(masks, possible)
    numbers = [possible.index(intent_of(mask)) for mask in masks]
    right = torch.stack([torch.where(mask.bits, 20.0, -20.0) for mask in masks])
    assert float(targets.loss(right, numbers)) < 1e-4
    assert float(targets.loss(-right, numbers)) > 10
    assert float(targets.loss(right, [possible.index(possible.intents[-1])] * 4)) == 0
