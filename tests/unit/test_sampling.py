"""Noise, relaxed gates and their straight-through gradient."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

PROBABILITY = {"logistic": lambda logit: 1 / (1 + math.exp(-logit)), "gumbel": lambda logit: math.exp(-math.exp(-logit))}
logits_lists = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=12)


@pytest.mark.parametrize("kind", ["logistic", "gumbel"])
@pytest.mark.parametrize("logit", [-2.0, -1.0, 0.0, 1.0, 4.0])
def test_heads_are_on_as_often_as_the_formula_says(kind, logit):
    from amask.mask_bank.sampling import draw_noise, relaxed, straight_through

    draws = 200_000
    noise = draw_noise((draws,), kind, torch.Generator().manual_seed(0))
    on = straight_through(relaxed(torch.full((draws,), logit), noise, 0.7)).mean()
    p = PROBABILITY[kind](logit)
    assert float(on) == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / draws) + 1e-6)


@pytest.mark.parametrize("kind", ["logistic", "gumbel"])
def test_noise_follows_its_generator(kind):
    from amask.mask_bank.sampling import draw_noise

    generator = torch.Generator().manual_seed(7)
    first, second = (draw_noise((2, 3, 4), kind, generator) for _ in range(2))
    again = draw_noise((2, 3, 4), kind, torch.Generator().manual_seed(7))
    assert first.shape == (2, 3, 4)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert draw_noise((1_000_000,), kind, generator).isfinite().all()


def test_noise_of_a_row_gives_the_row_its_gates():
    from amask.mask_bank.sampling import draw_noise, relaxed, straight_through

    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    noise = draw_noise((5, 3, 4), "logistic", torch.Generator().manual_seed(1))
    gates = straight_through(relaxed(logits, noise, 1.0))
    assert gates.shape == (5, 3, 4)
    for row, own in zip(gates, noise, strict=True):
        assert torch.equal(row, straight_through(relaxed(logits, own, 1.0)))
    assert len(gates.flatten(1).unique(dim=0)) == 5


@settings(deadline=None)
@given(logits=logits_lists, seed=st.integers(0, 1000), tau=st.sampled_from([4.0, 1.0, 0.05]))
def test_straight_through_is_binary_with_the_soft_gradient(logits, seed, tau):
    from amask.mask_bank.sampling import draw_noise, relaxed, straight_through

    leaf = torch.tensor(logits, requires_grad=True)
    noise = draw_noise((len(logits),), "logistic", torch.Generator().manual_seed(seed))
    soft = relaxed(leaf, noise, tau)
    hard = straight_through(soft)
    assert torch.equal(hard, (soft > 0.5).float())
    upstream = torch.linspace(-1, 2, len(logits))
    (gradient,) = torch.autograd.grad(hard, leaf, upstream)
    by_hand = upstream * soft * (1 - soft) / tau  # d sigmoid(x / tau) / dx
    torch.testing.assert_close(gradient, by_hand.detach(), rtol=1e-5, atol=1e-7)


def test_one_half_is_off_when_sampling():
    from amask.mask_bank.sampling import straight_through

    assert straight_through(torch.tensor([0.5, 0.5 + 2**-20, 0.5 - 2**-20])).tolist() == [0, 1, 0]
