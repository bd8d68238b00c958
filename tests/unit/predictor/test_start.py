"""Starting from another predictor: what it reads is kept, for another LALM and for other tasks too."""

import pytest
import torch

SAID = ["the gender", "the words and then the gender as json", "is she angry?", "bake me a cake"]


def intents(network, encoder):
    from amask.predictor.ngrams import encode_batch

    with torch.inference_mode():
        return network.eval()(*encode_batch(encoder, SAID))


def test_reading_is_kept_for_a_model_with_other_heads(trained):
    from amask.lalm.gating import Geometry
    from amask.predictor.network import Network
    from amask.predictor.training import load_matching_weights

    torch.manual_seed(5)
    other = Network(trained.encoder.width, len(trained.record.tasks), Geometry((7, 7)))
    heads = other.heads.heads.clone()
    load_matching_weights(other, trained.record.tasks, trained)
    before, after = intents(trained.network, trained.encoder), intents(other, trained.encoder)
    for name in ("part", "form", "unsupported"):
        assert torch.allclose(getattr(before.scores, name), getattr(after.scores, name), atol=1e-6)
    assert torch.equal(other.heads.heads, heads)
    assert after.logits.shape == (len(SAID), 2, 7)


def test_tasks_are_known_by_their_names(trained):
    from amask.data.tasks import Task
    from amask.predictor.network import Network
    from amask.predictor.training import load_matching_weights

    new = Task(name="brand", metric="acc", labels=("a", "b"), wordings=("which brand is it",))
    tasks = (new, *reversed(trained.record.tasks))
    torch.manual_seed(5)
    other = Network(trained.encoder.width, len(tasks), trained.identity.geometry)
    load_matching_weights(other, tasks, trained)
    assert torch.equal(other.pointer.task.weight[1:], trained.network.pointer.task.weight.flip(0))
    before, after = intents(trained.network, trained.encoder), intents(other, trained.encoder)
    assert torch.equal(before.logits, after.logits)
    assert before.single_task.abs().max() > 0
    assert torch.equal(before.single_task.flip(1), after.single_task[:, 1:])


def test_another_encoder_is_refused(trained, masks):
    from amask.errors import InstructionError
    from amask.predictor.train import train_predictor

    class Other(type(trained.encoder)):
        def tokens(self, texts):
            vectors, real = super().tokens(texts)
            return -vectors, real

    with pytest.raises(InstructionError, match="has another encoder"):
        train_predictor(masks, encoder=Other(), start=trained)


def test_training_goes_on_from_it(trained, masks, few_dev_requests):
    from amask.predictor.train import train_predictor
    from amask.predictor.training import PredictorSettings

    losses, made = [], []
    settings = PredictorSettings(steps=1, batch=16, warmup=0, floor=0, peak=1e-9)
    for start in (trained, None):
        on_progress = lambda _step, note: losses.append(float(note.split()[1]))  # noqa: E731
        made.append(train_predictor(masks, settings, start=start, on_progress=on_progress))
    assert losses[0] < losses[1]
    assert made[0].record.lineage["start"] == trained.digest


def test_a_trained_predictor_keeps_a_share_of_what_it_began_with(trained):
    """By hand: 0.7 of what was trained and 0.3 of the start, but for the heads."""
    from copy import deepcopy

    from amask.predictor.training import average_with

    other = deepcopy(trained.network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    average_with(other, trained.record.tasks, trained, 0.3)
    begun = trained.network.state_dict()
    for name, tensor in other.state_dict().items():
        torch.testing.assert_close(tensor, begun[name] + (1.0 if name.startswith("heads.") else 0.7), msg=name)
