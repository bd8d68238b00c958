"""How much the network's word can be taken for: a probability that is true on dev, and the line below which it refuses."""

import math
from collections.abc import Sequence

import numpy as np
import pydantic

LEAST = 1e-9  # chances are kept this far from 0 and 1


class Calibration(pydantic.BaseModel):
    """From the chance that the network gives to an instruction's being served to the probability that it is.

    Attributes:
        slope, bias: of the log-odds (Platt 1999).
        threshold: probability below which an instruction is refused.
        refused: the share of served requests that may be refused in vain, which the threshold was set for.
        requests: how many dev requests it was fitted on.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    slope: float = 1.0
    bias: float = 0.0
    threshold: float = 0.5
    refused: float = 0.0
    requests: int = 0

    def confidence(self, chance: float) -> float:
        """The probability that a task serves an instruction, given the network's chance for that."""
        return 1 / (1 + math.exp(-(self.slope * _odds(chance) + self.bias)))


def _odds(chance: float) -> float:
    kept = min(max(chance, LEAST), 1 - LEAST)
    return math.log(kept / (1 - kept))


def conformal_threshold(confidences: Sequence[float], refused: float) -> float:
    """The line below which at most a share of requests like these will fall (split conformal prediction, Vovk 2005).

    Args:
        confidences: of requests that are to be served.
        refused: the share.
    """
    ordered = sorted(confidences)
    allowed = math.floor(refused * (len(ordered) + 1))  # of n + 1 requests, the new one among them
    return ordered[allowed - 1] if allowed else 0.0


def calibrate(chances: Sequence[float], served: Sequence[bool], refused: float = 0.03) -> Calibration:
    """Fit on dev requests.

    Args:
        chances: that the network gives to each request's being served.
        served: whether a task serves it.
        refused: the share of served requests that may be refused in vain.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  (takes a second to import)

    odds = np.array([_odds(chance) for chance in chances])
    fit = LogisticRegression(C=1e3).fit(odds[:, None], np.array(served))
    found = Calibration(slope=float(fit.coef_[0, 0]), bias=float(fit.intercept_[0]), refused=refused, requests=len(odds))
    line = conformal_threshold([found.confidence(c) for c, serves in zip(chances, served, strict=True) if serves], refused)
    return found.model_copy(update={"threshold": line})
