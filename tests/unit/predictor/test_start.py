"""Starting from another predictor: what it reads is kept, for another LALM and for other tasks too."""

import pytest
import torch

SAID = ["the gender", "the words and then the gender as json", "is she angry?", "bake me a cake"]


def readings(network, encoder):
    from amask.predictor.letters import read_in

    with torch.inference_mode():
        return network.eval()(*read_in(encoder, SAID))


def test_reading_is_kept_for_a_model_with_other_heads(trained):
    from amask.lalm.gating import Geometry
    from amask.predictor.network import Network
    from amask.predictor.training import take_reading

    torch.manual_seed(5)
    other = Network(trained.encoder.width, len(trained.record.tasks), Geometry((7, 7)))
    heads = other.heads.heads.clone()
    take_reading(other, trained.record.tasks, trained)
    before, after = readings(trained.network, trained.encoder), readings(other, trained.encoder)
    for name in ("part", "form", "none"):
        assert torch.allclose(getattr(before.scores, name), getattr(after.scores, name), atol=1e-6)
    assert torch.equal(other.heads.heads, heads)
    assert after.logits.shape == (len(SAID), 2, 7)


def test_tasks_are_known_by_their_names(trained):
    from amask.data.tasks import Task
    from amask.predictor.network import Network
    from amask.predictor.training import take_reading

    new = Task(name="brand", metric="acc", labels=("a", "b"), wordings=("which brand is it",))
    tasks = (new, *reversed(trained.record.tasks))
    torch.manual_seed(5)
    other = Network(trained.encoder.width, len(tasks), trained.identity.geometry)
    take_reading(other, tasks, trained)
    assert torch.equal(other.pointer.task.weight[1:], trained.network.pointer.task.weight.flip(0))
    before, after = readings(trained.network, trained.encoder), readings(other, trained.encoder)
    assert torch.equal(before.logits, after.logits)
    assert before.alone.abs().max() > 0
    assert torch.equal(before.alone.flip(1), after.alone[:, 1:])


def test_another_encoder_is_refused(trained, masks):
    from amask.errors import InstructionError
    from amask.predictor.build import train

    class Other(type(trained.encoder)):
        def tokens(self, texts):
            vectors, real = super().tokens(texts)
            return -vectors, real

    with pytest.raises(InstructionError, match="has another encoder"):
        train(masks, encoder=Other(), start=trained)


def test_training_goes_on_from_it(trained, masks):
    from amask.predictor.build import train
    from amask.predictor.training import Settings

    losses = []
    settings = Settings(steps=1, batch=16, warmup=0, floor=0, peak=1e-9)
    for start in (trained, None):
        train(masks, settings, start=start, tell=lambda _step, note: losses.append(float(note.split()[1])))
    assert losses[0] < losses[1]
    assert train(masks, settings, start=trained).record.lineage["start"] == trained.digest
