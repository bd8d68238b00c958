"""Every family of audio-text models, on a tiny random one: what docs/models.md says of it is what ran here."""

from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from amask.data.tasks import parse_task
from amask.errors import AudioError, ModelError
from amask.lalm.answering import texts
from amask.lalm.batching import AudioFeatures
from amask.lalm.gating import find_sites, gated
from amask.lalm.generic import TransformersLALM
from amask.lalm.likelihood import label_probabilities
from amask.lalm.registry import NEEDS, adapt, load_model
from amask.mask_bank.recipe import Recipe
from amask.mask_bank.training import LabelledClips, MaskTrainer, TrainingJob

from . import FAMILIES

NAMES = sorted(FAMILIES)
SAID = ["transcribe", "who is it"]
ANSWERS = ["four", "one two three"]
RNG = np.random.default_rng(7)
NOISE = RNG.normal(0, 0.1, 60_000).astype(np.float32)


@cache
def lalm(name: str) -> TransformersLALM:
    """The family's tiny model in its adapter; tests leave it as it was."""
    model, processor = FAMILIES[name]()
    return adapt(name, model, processor)


def waves(model: TransformersLALM) -> list[np.ndarray]:
    """Two clips of different length."""
    return [NOISE[: int(seconds * model.rate)] for seconds in (1.0, 1.6)]


@cache
def heard(name: str) -> AudioFeatures:
    """Both clips, encoded."""
    return lalm(name).encode(waves(lalm(name)))


def logits(model: TransformersLALM, features: AudioFeatures, gates: Tensor | None = None) -> Tensor:
    """What the model makes of `ANSWERS` and a word of instruction."""
    with torch.no_grad(), gated(model.sites, gates):
        return model._answer_logits(features, [model._ids(text) for text in ANSWERS], said(model) or ["", ""])


def said(model: TransformersLALM) -> list[str] | None:
    """Instructions, where the family takes them."""
    return SAID if "{}" in model.template.after else None


def some_gates(model: TransformersLALM, seed: int) -> Tensor:
    """Two thirds of the heads on."""
    return (torch.rand(model.geometry.shape, generator=torch.Generator().manual_seed(seed)) < 2 / 3).float()


@pytest.mark.parametrize("name", NAMES)
def test_loads(name: str) -> None:
    """Each layer's number of heads is what its weights say, and the model has a fingerprint."""
    model = lalm(name)
    for site in model.sites:
        assert site.heads >= 3
        assert site.heads * site.width == site.projection.in_features
    assert len(model.fingerprint) == 16


@pytest.mark.parametrize("name", NAMES)
def test_loads_from_a_folder(name: str, tmp_path: Path) -> None:
    """A saved model comes back as the same model; where transformers lacks a package for it, one line names that."""
    model = lalm(name)
    config = deepcopy(model.model.config)
    config.architectures = [type(model.model).__name__]
    if any(find_spec(package) is None for package in NEEDS.get(config.architectures[0], ())):
        config.save_pretrained(tmp_path)
        with pytest.raises(ModelError, match="pip install"):
            load_model(str(tmp_path), "cpu")
        return
    model.model.save_pretrained(tmp_path)
    model.processor.save_pretrained(tmp_path)
    again = load_model(str(tmp_path), "cpu")
    assert again.geometry == model.geometry
    if not name.startswith("qwen2_audio"):  # which has an adapter of its own, with another template
        assert again.fingerprint == model.fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_matches_the_models_own_pass(name: str) -> None:
    """Hearing first and reading later is the same as the model's own pass over the processor's own inputs."""
    model = lalm(name)
    mine = logits(model, heard(name)).split([len(model._ids(text)) for text in ANSWERS])
    for wave, words, answer, found in zip(waves(model), said(model) or ["", ""], ANSWERS, mine, strict=True):
        inputs = model.prepare(model.chat_format.frame(words) + answer, wave)
        with torch.no_grad():
            own = model.model(**inputs, **model.deterministic, use_cache=False).logits[0]
        torch.testing.assert_close(found, own[-len(found) - 1 : -1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_clips_features_do_not_depend_on_its_batch(name: str) -> None:
    """Whether much shorter or longer, or a sample around a whole number of frames."""
    model = lalm(name)
    second = model.rate
    lengths = [second // 10, 2 * second, second // 2, second // 2 + 1, second // 2 - 1, second, second - 1, second + 1]
    clips = [NOISE[:length] for length in lengths]
    alone = [model.encode([clip]) for clip in clips]
    for batch in ([0, 1], [1, 2, 3], [4, 1, 5], [6, 0, 7], list(range(8))):
        together = model.encode([clips[at] for at in batch])
        for row, at in enumerate(batch):
            found = together.rows([row])
            assert found.lengths.tolist() == alone[at].lengths.tolist()
            torch.testing.assert_close(found.embeds, alone[at].embeds, atol=1e-5, rtol=1e-5)


LIMITS = {  # seconds; of these tiny models, windows of some being shorter than the released ones
    "qwen2_audio": 2.0,
    "qwen2_audio_nemotron": 2.0,
    "qwen2_5_omni": 4.0,
    "audioflamingo3": 600.0,
    "musicflamingo": 1200.0,
    "glmasr": 654.0,
    "gemma3n": 30.0,
    "gemma4": 30.0,
    "gemma4_large": 30.0,
}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut(name: str) -> None:
    """The end of the longest clip that a model takes is heard; a longer one is refused."""
    model = lalm(name)
    assert model.longest == LIMITS.get(name)
    if name == "gemma3n":
        pytest.skip("the tiny gemma3n has tokens for 2.5 s only, and fails where a clip has more")
    seconds = min(model.longest or 65, 65)  # more than two windows of 30 s
    clip = np.resize(NOISE, int(seconds * model.rate))
    changed = clip.copy()
    changed[-model.rate // 5 :] *= 0.5
    one, other = (model.encode([wave]).embeds for wave in (clip, changed))
    assert one.shape == other.shape
    assert (one - other).abs().max() > 1e-4
    if model.longest:
        with pytest.raises(AudioError, match="hears at most"):
            model.encode([np.resize(NOISE, int((model.longest + 0.1) * model.rate))])


@pytest.mark.parametrize("name", NAMES)
def test_ones_change_nothing(name: str) -> None:
    """Gates of one give the plain model's numbers, to the bit."""
    model = lalm(name)
    ones = torch.ones(model.geometry.shape)
    assert torch.equal(logits(model, heard(name), ones), logits(model, heard(name)))


@pytest.mark.parametrize("name", NAMES)
def test_a_head_off_is_its_columns_zeroed(name: str) -> None:
    """A gate of zero is as good as zeros in the head's columns of `o_proj`, in any layer."""
    model = lalm(name)
    plain = logits(model, heard(name))
    for layer in {0, len(model.sites) - 1}:
        site, head = model.sites[layer], model.sites[layer].heads - 2
        gates = torch.ones(model.geometry.shape)
        gates[layer, head] = 0
        found = logits(model, heard(name), gates)
        kept = site.projection.weight.data.clone()
        site.projection.weight.data[:, head * site.width : (head + 1) * site.width] = 0
        expected = logits(model, heard(name))
        site.projection.weight.data.copy_(kept)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert (found - plain).abs().max() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_rows_have_gates_of_their_own(name: str) -> None:
    """A batch with gates for each row is the same as one run a row, and the rows' gates differ."""
    model = lalm(name)
    features = heard(name).rows([1, 1])
    gates = torch.stack([some_gates(model, 1), some_gates(model, 2)])
    answers = ["one two", "one two"]
    together, _ = model.token_losses(features, answers, gates)
    apart = [model.token_losses(features.rows([row]), answers[:1], gates[row])[0] for row in range(2)]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-4, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_cached_decoding_is_as_without_a_cache(name: str) -> None:
    """Each token that cached, left-padded, masked decoding gave is the likeliest one in a single uncached pass."""
    model = lalm(name)
    gates = torch.stack([some_gates(model, 3), some_gates(model, 4)])
    with gated(model.sites, gates):
        ids = model._continue(heard(name), ["", ""], model._settings(max_new_tokens=5))
    for row in range(2):
        ends = [at for at, token in enumerate(ids[row].tolist()) if token in model.end_tokens]
        answer = ids[row, : ends[0] + 1 if ends else None]
        with torch.no_grad(), gated(model.sites, gates[row]):
            found = model._answer_logits(heard(name).rows([row]), [answer], [""])
        chosen = found.gather(1, answer[:, None])[:, 0]
        assert torch.all(found.max(1).values - chosen < 1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_beams_keep_each_rows_gates(name: str) -> None:
    """Beam search over a batch gives each row what it gets alone."""
    model = lalm(name)
    gates = torch.stack([some_gates(model, 5), some_gates(model, 6)])
    together = texts(model.answer(heard(name), gates, max_new_tokens=4, beams=2))
    apart = [texts(model.answer(heard(name).rows([row]), gates[row], max_new_tokens=4, beams=2))[0] for row in range(2)]
    assert together == apart


def in_double(name: str) -> TransformersLALM:
    """A copy of the family's model in double precision."""
    model = copy(lalm(name))
    model.model = deepcopy(model.model).double()
    model.model.set_experts_implementation("eager")  # the others know no double precision
    model.sites = find_sites(model.gated_part(model.model))
    return model


@pytest.mark.parametrize("name", NAMES)
def test_gradient_agrees_with_finite_differences(name: str) -> None:
    """The loss's gradient with respect to gates."""
    model = in_double(name)
    features = AudioFeatures(heard(name).embeds.double(), heard(name).lengths)
    gates = torch.full(model.geometry.shape, 0.8, dtype=torch.float64, requires_grad=True)
    model.loss(features, ANSWERS, gates).backward()

    @torch.no_grad()
    def slope(layer: int, head: int, step: float) -> float:
        moved = torch.zeros_like(gates)
        moved[layer, head] = step
        return float(model.loss(features, ANSWERS, gates + moved) - model.loss(features, ANSWERS, gates - moved)) / (2 * step)

    for layer in {0, len(model.sites) - 1}:
        head = int(gates.grad[layer].abs().argmax())
        # A small step, since experts are chosen in jumps; and few digits, since norms compute in float32 whatever they get.
        assert float(gates.grad[layer, head]) == pytest.approx(slope(layer, head, 1e-3), rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_an_error_leaves_nothing_behind(name: str) -> None:
    """After an error inside a pass the model is as it was."""
    model = lalm(name)
    before = logits(model, heard(name))
    end = model.decoder.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.token_losses(heard(name), ANSWERS, torch.zeros(model.geometry.shape))
    end.remove()
    assert torch.equal(logits(model, heard(name)), before)


@pytest.mark.parametrize("name", NAMES)
def test_threads_get_the_answers_of_one(name: str) -> None:
    """Four threads encode, answer and score on one model, each with its own mask, clips and instruction."""
    model = lalm(name)
    clips = [[wave] for wave in waves(model)] + [waves(model)]

    def ask(at: int) -> tuple[list[str], float]:
        features = model.encode(clips[at % 3])
        asked = f"say {at % 4}" if said(model) else None
        answers = texts(model.answer(features, some_gates(model, at % 4), asked, max_new_tokens=3))
        return answers, float(model.loss(features, ANSWERS[: len(features)], some_gates(model, at % 4)))

    alone = [ask(at) for at in range(12)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(12)))
    assert [answers for answers, _ in found] == [answers for answers, _ in alone]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in alone], abs=1e-4)
    assert len({round(loss, 3) for _, loss in alone}) > 6


@pytest.mark.parametrize("name", NAMES)
def test_trains(name: str) -> None:
    """Some steps of mask training lower the loss of what the mask is trained for, of the thresholded mask."""
    model = lalm(name)
    labels = tuple({"asr": text} for text in ANSWERS)
    examples = LabelledClips(heard(name), labels, tuple(ANSWERS))
    how = {"batch": 2, "peak": 0.2, "warmup": 2, "mean": 0.5, "tau_begin": 1.0, "noise_end": 0.1, "first": 1.0, "focal": 0.0}
    recipe = Recipe(steps=40, evaluations=1, dev_clips=1, **how)
    trainer = MaskTrainer(model, [TrainingJob(parse_task("asr"), 1)], examples, examples, recipe)
    list(trainer.run())
    mask = trainer.masks[0]
    assert mask.identity.same(model.identity)
    assert 0 < mask.heads_on < mask.heads_total
    with torch.no_grad():
        before, after = (float(model.loss(heard(name), ANSWERS, gates)) for gates in (torch.ones_like(mask.gates), mask.gates))
    if name not in {"gemma4_large", "qwen3_omni"}:  # random experts are chosen in jumps, of which gradients know nothing
        assert after < before


@pytest.mark.parametrize("name", NAMES)
def test_all_answers_in_one_pass_are_as_one_pass_for_each(name: str) -> None:
    """Labels behind one prompt, each at its own positions, under gates of each row; also where a family cannot do so."""
    model = lalm(name)
    labels, prompts = ["four", "one two three", "one"], said(model)
    gates = torch.stack([some_gates(model, 8), some_gates(model, 9)])
    each = [-model.token_losses(heard(name), [label] * 2, gates, prompts)[0].sum(1) for label in labels]
    found = label_probabilities(model, heard(name), labels, gates, prompts)
    torch.testing.assert_close(found, torch.stack(each, 1).softmax(1).detach(), atol=1e-4, rtol=1e-3)
    assert model.scores_in_one_pass == (name not in {"gemma3n", "gemma4", "gemma4_large", "nemotron_h_omni"})
