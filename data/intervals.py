"""How far chance may move a figure: 95 % intervals over the speakers, or the clips, that happened to be measured.

Clips of one speaker are not independent, so whole speakers are resampled where speakers are known (the clustered bootstrap of
Field and Welsh 2007). Two figures on the same clips are compared by their paired difference on the same resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int

RESAMPLES = 1000
BATCH_NUMBERS = 2**20  # numbers that the resamples of one batch hold, so that many clips take little memory

Interval = tuple[float, float]
Counts = Float64[np.ndarray, "row 2"]
"""Of each row what counts (errors, right answers) and what it is measured against (words, 1)."""
Rows = Int[np.ndarray, " _"]
"""Numbers of rows; one may come several times."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A figure over some rows, which can be computed again over any choice of them.

    Attributes:
        size: how many rows there are.
        figure: the figure over the rows of some numbers, in percent.
        counts: of a figure that is a ratio of sums.
    """

    size: int
    figure: Callable[[Rows], float]
    counts: Counts | None = None

    @classmethod
    def ratio(cls, counts: Counts) -> "Sample":
        """All that counts over all that it is measured against, in percent; the latter is at least 1."""
        return cls(len(counts), lambda rows: float(_ratios(counts[rows].sum(axis=0, keepdims=True))[0]), counts)

    @cached_property
    def value(self) -> float:
        """The figure over all rows."""
        return self.figure(np.arange(self.size))

    @property
    def is_share(self) -> bool:
        """Whether it is a share of rows that are right."""
        counts = self.counts
        return counts is not None and bool((counts[:, 1] == 1).all()) and bool(np.isin(counts[:, 0], (0, 1)).all())


@dataclass(frozen=True, eq=False)
class Clusters:
    """Rows that belong together, such as the clips of each speaker.

    Attributes:
        rows: of each cluster the numbers of its rows.
    """

    rows: tuple[Rows, ...]

    @classmethod
    def by(cls, names: Sequence[str]) -> "Clusters":
        """One cluster a name; each row without a name, and each row of a single speaker's, is a cluster of its own."""
        found: dict[str | int, list[int]] = {}
        single = len(set(names)) < 2
        for at, name in enumerate(names):
            found.setdefault(at if single or not name else name, []).append(at)
        return cls(tuple(np.array(rows) for rows in found.values()))

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def _order(self) -> tuple[Rows, Rows]:
        """All rows, cluster by cluster, and where each cluster begins."""
        sizes = [len(rows) for rows in self.rows]
        return np.concatenate(self.rows), np.cumsum([0, *sizes[:-1]])

    def sums(self, counts: Counts) -> Float64[np.ndarray, "cluster 2"]:
        """Counts added up within each cluster."""
        rows, starts = self._order
        return np.add.reduceat(counts[rows], starts)

    def evaluate(self, sample: Sample, drawn: Int[np.ndarray, "resample cluster"]) -> Float64[np.ndarray, " resample"]:
        """The figure over the rows of the clusters drawn in each resample."""
        if sample.counts is not None:
            return _ratios(self.sums(sample.counts)[drawn].sum(axis=1))
        return np.array([sample.figure(np.concatenate([self.rows[at] for at in one])) for one in drawn])


def interval(sample: Sample, clusters: Clusters | None = None) -> Interval:
    """The 95 % interval of a figure, in percent.

    Shares of independent rows have Wilson's (1927), and so have shares of which all or none of the rows are right, over as many
    rows as there are clusters; all else has that of resampled clusters (percentiles, seeded).

    Args:
        sample: the figure.
        clusters: which rows belong together; each by itself by default.
    """
    clusters = clusters or Clusters.by([""] * sample.size)
    independent = len(clusters) == sample.size
    if sample.is_share and (independent or sample.value in (0.0, 100.0)):
        return wilson(round(sample.value / 100 * len(clusters)), len(clusters))
    return _bootstrap(clusters, lambda drawn: clusters.evaluate(sample, drawn), sample.value)


def paired_difference(sample: Sample, others: Sequence[Sample], clusters: Clusters) -> tuple[float, Interval]:
    """A figure less the mean of others over the same rows, and its 95 % interval over resampled clusters.

    Args:
        sample: the figure, such as a mask's.
        others: what it is compared with, such as each prompt's; one or more.
        clusters: which rows belong together.
    """

    def difference(drawn: Int[np.ndarray, "resample cluster"]) -> Float64[np.ndarray, " resample"]:
        return clusters.evaluate(sample, drawn) - np.mean([clusters.evaluate(other, drawn) for other in others], axis=0)

    value = sample.value - float(np.mean([other.value for other in others]))
    return value, _bootstrap(clusters, difference, value)


def wilson(right: int, rows: int) -> Interval:
    """Wilson's score interval of a share, in percent: sound also where all or none of few rows are right."""
    from scipy.stats import binomtest  # noqa: PLC0415 (a second to import)

    found = binomtest(right, rows).proportion_ci(method="wilson")
    return float(100 * found.low), float(100 * found.high)


def _bootstrap(
    clusters: Clusters, figure: Callable[[Int[np.ndarray, "resample cluster"]], Float64[np.ndarray, " resample"]], value: float
) -> Interval:
    if len(clusters) < 2:
        return value, value
    from scipy.stats import bootstrap  # noqa: PLC0415

    def statistic(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        drawn = np.moveaxis(np.asarray(drawn), axis, -1).astype(np.int64)
        return figure(drawn.reshape(-1, drawn.shape[-1])).reshape(drawn.shape[:-1])

    found = bootstrap(
        (np.arange(len(clusters)),),
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH_NUMBERS // len(clusters)),
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def _ratios(sums: Float64[np.ndarray, "*resample 2"]) -> Float64[np.ndarray, "*resample"]:
    return 100 * sums[..., 0] / np.maximum(sums[..., 1], 1)
