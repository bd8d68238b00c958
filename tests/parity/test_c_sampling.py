"""Sampling, thresholds and schedules against numbers of the authors' code (golden set C)."""

import json

import pytest
import torch
from safetensors.torch import load_file

CLOSE = {"rtol": 0, "atol": 1e-6}


@pytest.fixture(scope="module")
def gumbel(golden):
    return load_file(golden / "C_sampling_schedules" / "gumbel.safetensors")


@pytest.fixture(scope="module")
def samples(gumbel):
    """(logits, temperature, recorded tensors) of every set and temperature."""
    found = []
    for name in sorted(gumbel):
        prefix, _, kind = name.rpartition(".")
        if kind == "soft":
            base, _, tau = prefix.partition(".tau")
            kinds = ("noise_exponential", "upstream_grad", "soft", "hard", "grad_soft", "grad_hard")
            recorded = {kind: gumbel[f"{prefix}.{kind}"] for kind in kinds}
            found.append((gumbel[f"{base}.logits"], float(tau), recorded))
    assert found
    return found


def test_soft_gates_and_their_gradient(samples):
    from amask.mask_bank.sampling import relaxed

    for logits, tau, recorded in samples:
        leaf = logits.clone().requires_grad_()
        soft = relaxed(leaf, recorded["noise_exponential"].log(), tau)
        torch.testing.assert_close(soft, recorded["soft"], **CLOSE)
        (gradient,) = torch.autograd.grad(soft, leaf, recorded["upstream_grad"])
        torch.testing.assert_close(gradient, recorded["grad_soft"], **CLOSE)


def test_hard_gates_and_their_gradient(samples):
    from amask.mask_bank.sampling import relaxed, straight_through

    for logits, tau, recorded in samples:
        leaf = logits.clone().requires_grad_()
        hard = straight_through(relaxed(leaf, recorded["noise_exponential"].log(), tau))
        assert torch.equal(hard, recorded["hard"])
        (gradient,) = torch.autograd.grad(hard, leaf, recorded["upstream_grad"])
        torch.testing.assert_close(gradient, recorded["grad_hard"], **CLOSE)


def test_gumbel_noise_keeps_heads_as_often_as_the_authors(golden):
    from amask.mask_bank.sampling import draw_noise

    kept = json.loads((golden / "C_sampling_schedules" / "gumbel.json").read_text())["keep_probability"]
    noise = draw_noise((200_000,), "gumbel", torch.Generator().manual_seed(0))
    for logit, expected in zip(kept["logits"], kept["empirical_200k"], strict=True):
        assert (logit + noise > 0).float().mean() == pytest.approx(expected, abs=5e-3)


def test_threshold(gumbel):
    """Ours is 0.5, on from a logit of 0; another one moves the logits.

    The authors compare float32 probabilities, in which logits a little below the threshold (1e-7) still round to it and
    are on; we compare logits, so that those are off.
    """
    from amask.lalm.gating import Geometry
    from amask.mask_bank.mask import threshold

    logits = gumbel["threshold.logits"][None]
    geometry = Geometry((logits.shape[1],))
    checked = []
    for name in gumbel:
        if name.startswith("threshold.mask_"):
            at = torch.tensor(float(name.removeprefix("threshold.mask_")), dtype=torch.float64)
            moved = logits.double() - at.logit()
            clear = (moved == 0) & (at == 0.5) | (moved.abs() > 1e-6)
            expected = gumbel[name][None].bool()
            assert clear.any()
            assert torch.equal(threshold(moved.float(), geometry)[clear], expected[clear])
            checked.append(float(at))
    assert 0.5 in checked


def test_schedules(golden):
    from amask.mask_bank.schedules import LearningRateSchedule, LinearSchedule

    recorded = json.loads((golden / "C_sampling_schedules" / "schedules.json").read_text())
    del recorded["argument_names"]
    for name, run in recorded.items():
        given = run["args"]
        begin, end, decay, peak, minimum = (float(given[key]) for key in ("tb", "te", "td", "init", "mn"))
        start = None if given["wstart"] is None else float(given["wstart"])
        steps = given["max_epoch"] * given["ipe"]
        if decay == 1:  # the authors' one step is ours as a share
            decay = 1 / steps
        tau = LinearSchedule(begin, end, decay, steps)
        rate = LearningRateSchedule(peak, minimum, given["warmup"], steps, start, given["ipe"])
        assert [tau.at(step) for step in run["steps"]] == pytest.approx(run["tau"], rel=0, abs=1e-6), name
        assert [rate.at(step) for step in run["steps"]] == pytest.approx(run["lr"], rel=1e-9, abs=0), name
