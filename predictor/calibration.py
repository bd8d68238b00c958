"""Calibrated confidence: a probability that is true on dev, and the line below which it refuses."""

import math
from collections.abc import Sequence

import numpy as np
import pydantic

EPS = 1e-9  # chances are kept this far from 0 and 1


class Calibration(pydantic.BaseModel):
    """From the chance that the network gives to an instruction's being served to the probability that it is.

    Attributes:
        slope, bias: of the log-odds (Platt 1999).
        threshold: probability below which an instruction is refused.
        max_false_refusals: the share of served requests that may be falsely refused, which the threshold was set for.
        requests: how many dev requests it was fitted on.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    slope: float = 1.0
    bias: float = 0.0
    threshold: float = 0.5
    max_false_refusals: float = 0.0
    requests: int = 0

    def probability(self, p: float) -> float:
        """The probability that a task serves an instruction, given the network's chance for that."""
        return 1 / (1 + math.exp(-(self.slope * _odds(p) + self.bias)))


def _odds(p: float) -> float:
    kept = min(max(p, EPS), 1 - EPS)
    return math.log(kept / (1 - kept))


def conformal_threshold(confidences: Sequence[float], max_false_refusals: float) -> float:
    """The line below which at most a share of requests like these will fall (split conformal prediction, Vovk 2005).

    Args:
        confidences: of requests that are to be served.
        max_false_refusals: the share.
    """
    ordered = sorted(confidences)
    allowed = math.floor(max_false_refusals * (len(ordered) + 1))  # of n + 1 requests, the new one among them
    return ordered[allowed - 1] if allowed else 0.0


def calibrate(probs: Sequence[float], supported: Sequence[bool], max_false_refusals: float = 0.03) -> Calibration:
    """Fit on dev requests.

    Args:
        probs: that the network gives to each request's being served.
        supported: whether a task serves it.
        max_false_refusals: the share of served requests that may be falsely refused.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  (takes a second to import)

    odds = np.array([_odds(p) for p in probs])
    fit = LogisticRegression(C=1e3).fit(odds[:, None], np.array(supported))
    found = Calibration(
        slope=float(fit.coef_[0, 0]), bias=float(fit.intercept_[0]), max_false_refusals=max_false_refusals, requests=len(odds)
    )
    line = conformal_threshold(
        [found.probability(c) for c, serves in zip(probs, supported, strict=True) if serves], max_false_refusals
    )
    return found.model_copy(update={"threshold": line})
