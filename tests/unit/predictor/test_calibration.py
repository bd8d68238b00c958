"""Calibration on made-up scores, whose truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def test_confidence_is_the_share_that_is_served():
    """Of chances of being served that are too bold by a known amount, the confidence is the true probability."""
    from amask.predictor.calibration import calibrate

    rng = np.random.default_rng(0)
    odds = rng.normal(2, 3, 20_000)
    truth = 1 / (1 + np.exp(-(0.5 * odds - 1)))
    probs = 1 / (1 + np.exp(-odds))
    found = calibrate(probs.tolist(), (rng.random(len(odds)) < truth).tolist())
    for prob, right in list(zip(probs, truth, strict=True))[:50]:
        assert found.probability(float(prob)) == pytest.approx(right, abs=0.03)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.sampled_from([0.01, 0.03, 0.1, 0.5]))
def test_no_more_than_the_share_falls_below_the_threshold(confidences, share):
    from amask.predictor.calibration import conformal_threshold

    line = conformal_threshold(confidences, share)
    assert sum(each < line for each in confidences) <= share * len(confidences)


def test_the_threshold_holds_for_new_requests():
    """Split conformal prediction: of new draws from the same source, on average no more than the share is refused."""
    from amask.predictor.calibration import conformal_threshold

    rng = np.random.default_rng(1)
    max_false_refusals = [
        float((rng.beta(5, 1, 200) < conformal_threshold(rng.beta(5, 1, 99).tolist(), 0.1)).mean()) for _ in range(400)
    ]
    assert np.mean(max_false_refusals) == pytest.approx(0.09, abs=0.012)  # (10 - 1) of 100: what is below the tenth of 99


@pytest.mark.parametrize("prob", [0.0, 1.0, 1e-300])
def test_certain_chances_stay_finite(prob):
    from amask.predictor.calibration import Calibration

    assert math.isfinite(Calibration().probability(prob))
    assert 0 <= Calibration().probability(prob) <= 1
