"""How far chance may move a figure: 95 % intervals over the clips that happened to be measured."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

Z = 1.959964  # of the normal distribution, for 95 %
RESAMPLES = 1000

Interval = tuple[float, float]
Counts = Float64[np.ndarray, "row 2"]
"""Of each row what counts (errors, right answers) and what it is measured against (words, 1)."""


def ratio(counts: Counts) -> float:
    """All that counts over all that it is measured against, in percent; the latter is at least 1."""
    part, whole = counts.sum(axis=0)
    return float(100 * part / max(whole, 1))


def interval(counts: Counts) -> Interval:
    """The 95 % interval of a ratio, in percent: Wilson's for shares of right answers, else by resampling rows."""
    if bool((counts[:, 1] == 1).all()) and bool(np.isin(counts[:, 0], (0, 1)).all()):
        return wilson(float(counts[:, 0].sum()), len(counts))
    weights = np.random.default_rng(0).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), RESAMPLES)
    totals = weights @ counts
    return _middle(100 * totals[:, 0] / np.maximum(totals[:, 1], 1))


def wilson(right: float, rows: int) -> Interval:
    """Wilson's score interval of a share (1927), in percent: sound also where all or none of few rows are right."""
    share, spread = right / rows, Z**2 / rows
    centre = (share + spread / 2) / (1 + spread)
    half = Z * np.sqrt(share * (1 - share) / rows + spread / (4 * rows)) / (1 + spread)
    return max(0.0, float(100 * (centre - half))), min(100.0, float(100 * (centre + half)))


def resampled(rows: int, value: Callable[[np.ndarray], float]) -> Interval:
    """The 95 % interval of any figure of some rows, by resampling them.

    Args:
        rows: how many there are.
        value: the figure of the rows of some numbers.
    """
    generator = np.random.default_rng(0)
    return _middle(np.array([value(generator.integers(0, rows, rows)) for _ in range(RESAMPLES)]))


def _middle(values: np.ndarray) -> Interval:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
