"""What masks are trained by, against formulas by hand and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr


@pytest.fixture(scope="module")
def lalm(tiny_qwen2_audio):
    from amask.lalm.batching import PromptTemplate
    from amask.lalm.qwen2_audio import Qwen2Audio

    return Qwen2Audio("tiny", *tiny_qwen2_audio(seed=0), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}"))


@pytest.fixture(scope="module")
def heard(lalm):
    """Features of two clips of noise."""
    rng = np.random.default_rng(1)
    return lalm.encode([rng.normal(0, 0.1, 8000 + 1600 * at).astype(np.float32) for at in range(2)])


def test_focal_weight_by_hand(lalm, heard, monkeypatch):
    from amask.mask_bank.losses import row_losses
    from amask.mask_bank.recipe import Recipe

    other = torch.tensor([0.5, 1.0, 2.0]).expm1().log()  # logit of the one other token, against 0 of the right one
    logits, ids, real = torch.stack([torch.zeros(3), other], 1), torch.zeros(3, dtype=torch.long), torch.tensor([[True] * 3])
    monkeypatch.setattr(lalm, "answered", lambda *_, **__: (logits, ids, real))
    tokens = [(3, 0.5), (1, 1.0), (1, 2.0)]  # weight and loss
    by_hand = sum(weight * (1 - math.exp(-loss)) ** 2 * loss for weight, loss in tokens) / (3 + 1 + 1)
    recipe = Recipe(first=3.0, focal=2.0)
    found = row_losses(lalm, heard.rows([0]), ["a|"], torch.ones(1, 2, 4), recipe)
    assert float(found[0]) == pytest.approx(by_hand)


@pytest.mark.parametrize(("task", "said"), [("gr", {"gr": "male"}), ("gr-asr-json", {"gr": "female", "asr": "hi"})])
def test_held_losses_are_of_the_choices_that_a_form_leaves(lalm, heard, task, said):
    """By hand, with one token a byte: labels among their first letters, open text among what JSON may hold, no more."""
    from amask.data.tasks import parse_task
    from amask.lalm.constrained_decoding import task_constraint
    from amask.mask_bank.losses import row_losses
    from amask.mask_bank.recipe import Recipe

    spec = parse_task(task)
    target = spec.target(said)
    features, gates = heard.rows([0]), torch.ones(1, *lalm.geometry.shape)
    logits = lalm.answered(features, [target], gates)[0]

    def loss(place, *letters):
        letters = [*letters, target[place]]
        ids = [lalm.tokenizer.convert_tokens_to_ids("Ġ" if letter == " " else letter) for letter in letters]
        return float(logits[place, ids].logsumexp(0) - logits[place, ids[-1]])

    if task == "gr":
        wanted = [3 * loss(0, "f", " ")]  # a text may begin with a space
        count = 3
    else:
        start, text = target.index("female"), target.index('hi"')
        open_text = [chr(byte) for byte in range(32, 127)]
        ended = [letter for letter in open_text if letter not in "hi"]
        wanted = [
            3 * loss(0, " "),
            3 * loss(start, "m"),
            *(loss(text + at, *ended, *"hi".replace(target[text + at], "")) for at in range(2)),
        ]
        wanted.append(loss(text + 2, *(letter for letter in open_text if letter != '"')))
        count = 9
    recipe = Recipe(first=3.0, focal=0.0, held=True)
    found = row_losses(lalm, features, [target], gates, recipe, [task_constraint(spec)])
    assert float(found[0]) == pytest.approx(sum(wanted) / count, rel=1e-4)
    free = row_losses(lalm, features, [target], gates, Recipe(first=3.0, focal=0.0))
    both = row_losses(lalm, features, [target], gates, Recipe(first=3.0, focal=0.0, held=0.25), [task_constraint(spec)])
    assert float(both[0]) == pytest.approx(0.75 * float(free[0]) + 0.25 * sum(wanted) / count, rel=1e-4)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_what_is_distilled_is_what_the_prompted_model_finds_likely(lalm, heard, share):
    """Against scipy's relative entropy; a right answer's first token has its weight, and padding none."""
    from amask.mask_bank.losses import row_losses
    from amask.mask_bank.recipe import Recipe

    features, targets, prompt = heard.rows([0, 1]), ["ab", "a"], "say it"
    gates = torch.ones(2, *lalm.geometry.shape)
    gates[:, 0, 1] = gates[1, 1] = 0
    with torch.no_grad():
        masked = lalm.answered(features, targets, gates)[0].double().softmax(-1).numpy()
        prompted = lalm.answered(features, targets, None, prompt)[0].double().softmax(-1).numpy()
    by_token = rel_entr(prompted, masked).sum(1)  # a, b and its end; a and its end
    assert (by_token > 1e-6).all()
    taught = [(3 * by_token[0] + by_token[1] + by_token[2]) / 5, (3 * by_token[3] + by_token[4]) / 4]
    right = row_losses(lalm, features, targets, gates, Recipe(first=3.0, focal=1.0)).tolist()
    recipe = Recipe(first=3.0, focal=1.0, distillation=share)
    found = row_losses(lalm, features, targets, gates, recipe, prompts=[prompt] * 2).tolist()
    assert found == pytest.approx([share * a + (1 - share) * b for a, b in zip(taught, right, strict=True)], rel=1e-3)
