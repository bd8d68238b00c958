"""Likelihoods of labels: by the model's own token losses, normalised."""

import pytest
import torch


@pytest.fixture(scope="module")
def lalm(tiny_qwen2_audio):
    from amask.lalm.batching import PromptTemplate
    from amask.lalm.qwen2_audio import Qwen2Audio

    return Qwen2Audio("tiny", *tiny_qwen2_audio(), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}"))


def test_a_labels_likelihood_is_its_tokens_product_over_that_of_all(lalm, swelling):
    from amask.lalm.likelihood import label_probabilities

    features = lalm.encode(swelling((0.5, 1.0)))
    found = label_probabilities(lalm, features, ["a", "bc", "d"])
    each = torch.stack([torch.exp(-lalm.token_losses(features, [label] * 2)[0].sum(1)) for label in ("a", "bc", "d")], 1)
    assert torch.allclose(found, each / each.sum(1, keepdim=True), atol=1e-6)
    assert torch.allclose(found.sum(1), torch.ones(2))


def test_gates_change_them(lalm, swelling):
    from amask.lalm.likelihood import label_probabilities

    features = lalm.encode(swelling((1.0,)))
    off = label_probabilities(lalm, features, ["a", "b"], torch.zeros(lalm.geometry.shape))
    assert not torch.allclose(off, label_probabilities(lalm, features, ["a", "b"]))


def test_no_labels_are_refused(lalm, swelling):
    from amask.errors import ModelError
    from amask.lalm.likelihood import label_probabilities

    with pytest.raises(ModelError, match="no labels"):
        label_probabilities(lalm, lalm.encode(swelling((1.0,))), [])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_all_answers_in_one_pass_are_as_one_pass_for_each(lalm, swelling, three_masks, attention, monkeypatch):
    """With prompts and answers of different length, each row under gates of its own."""
    from amask.lalm.likelihood import label_probabilities

    monkeypatch.setattr(lalm.decoder.config, "_attn_implementation", attention)
    features, gates = lalm.encode(swelling((0.5, 1.0, 1.7))), three_masks(lalm.geometry.shape)
    labels, prompts = ["a", "ab", "abc", "longer than those", "b"], ["", "who is it?", "x"]
    assert lalm.scores_in_one_pass
    found = label_probabilities(lalm, features, labels, gates, prompts)
    each = [-lalm.token_losses(features, [label] * 3, gates, prompts)[0].sum(1) for label in labels]
    assert torch.allclose(found, torch.stack(each, 1).softmax(1), atol=1e-5)
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_a_task_with_labels_answers_the_likeliest_with_its_probability(lalm, swelling, three_masks):
    from amask.data.tasks import parse_task
    from amask.lalm.constrained_decoding import task_constraint
    from amask.lalm.likelihood import label_probabilities

    features, gates = lalm.encode(swelling((0.5, 1.0, 1.7))), three_masks(lalm.geometry.shape)
    gender, both, words = (task_constraint(parse_task(name)) for name in ("gr", "gr|ser", "gr|asr"))
    assert sorted(gender.answers) == ["female", "male"]
    assert "female|angry" in both.answers and words.answers == ()
    found = lalm.answer(features, gates, constraints=[gender, None, both], max_new_tokens=5)
    for row, constraint in ((0, gender), (2, both)):
        probabilities = label_probabilities(lalm, features.rows([row]), constraint.answers, gates[row])[0]
        assert found[row].text == constraint.answers[int(probabilities.argmax())]
        assert found[row].confidence == pytest.approx(float(probabilities.max()), abs=1e-5)
    assert found[1] == lalm.answer(features.rows([1]), gates[1], max_new_tokens=5)[0]
    assert found[1].confidence is None


def test_an_open_answers_confidence_is_the_mean_probability_of_its_tokens(lalm, swelling):
    features = lalm.encode(swelling((0.5, 1.0)))
    found = lalm.answer(features, max_new_tokens=4, confidence=True)
    ids = lalm._continue(features, ["", ""], lalm._settings(4))
    for row, answer in enumerate(found):
        ends = [at for at, token in enumerate(ids[row].tolist()) if token in lalm.end_tokens]
        tokens = ids[row, : ends[0] + 1 if ends else None]
        logits = lalm._answer_logits(features.rows([row]), [tokens], [""])
        probabilities = logits.softmax(-1).gather(1, tokens[:, None])
        assert answer.confidence == pytest.approx(float(probabilities.mean()), abs=1e-5)


def test_only_the_last_position_of_a_prompt_has_logits(lalm, swelling):
    """Others would be gigabytes over a large vocabulary, and nothing asks for them."""
    sizes = []
    end = lalm.model.get_output_embeddings().register_forward_hook(lambda _module, _args, out: sizes.append(out.shape[1]))
    lalm.answer(lalm.encode(swelling((0.5, 1.0))), max_new_tokens=3)
    end.remove()
    assert set(sizes) == {1}
