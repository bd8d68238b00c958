"""Whether a composite's mask is good enough: tested on clips that no choice was made on.

The best of many candidates looks better than it is on the clips that it was chosen on. So the winner and the parts' own masks
answer other clips, and the composite is accepted if, for every part, it is beyond doubt (one-sided, 4 %) that it is less than a
margin worse than the part's own mask: a test of non-inferiority on paired answers. The difference's standard error is that of
a jackknife over speakers, or over clips where none are known (Efron and Stein 1981), and at least that of a difference of the
margin between independent shares, which an accidental agreement on few clips cannot undercut.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from ..data.intervals import Clusters, Sample
from ..data.metrics import Score
from ..data.tasks import TaskSpec
from .search import PartScore, score_composite, score_of

LEVEL = 0.96  # at 0.95 discreteness lets slightly more than 5 % of composites pass that are a margin worse
MIN_CONFIRMATION_CLIPS = 60  # with fewer, none of them answered worse than by the own mask would still be no proof


@dataclass(frozen=True)
class Target:
    """What a composite must reach to be accepted.

    Attributes:
        ifr: percent of answers in the asked form, at least.
        margin: points of its metric that a part must be less worse than by its own mask, beyond doubt.
    """

    ifr: float = 99.0
    margin: float = 5.0


@dataclass(frozen=True)
class ConfirmedPart:
    """A part on the confirmation clips.

    Attributes:
        score: how well it is done within the composite, and by its own mask.
        max_gap: points that it is worse at most, with 96 % confidence.
    """

    score: PartScore
    max_gap: float


@dataclass(frozen=True)
class Confirmation:
    """A composite on the confirmation clips.

    Attributes:
        clips: how many.
        ifr: percent of answers in the asked form.
        parts: of each part.
        reached: whether it is accepted.
        reason: why not; empty where it is.
    """

    clips: int
    ifr: float
    parts: tuple[ConfirmedPart, ...]
    reached: bool
    reason: str = ""

    def row(self) -> dict[str, Any]:
        """As plain data."""
        parts = {
            part.score.part: {
                "metric": part.score.metric,
                "value": round(part.score.value, 2),
                "own": round(part.score.own, 2),
                "max_gap": round(part.max_gap, 2) if math.isfinite(part.max_gap) else None,  # of one speaker nothing is known
            }
            for part in self.parts
        }
        about = {"clips": self.clips, "ifr": round(self.ifr, 2), "parts": parts, "reached": self.reached}
        return about | ({"reason": self.reason} if self.reason else {})


def confirm(
    spec: TaskSpec,
    answers: Sequence[str],
    own: Mapping[str, Score],
    references: Sequence[str],
    clusters: Clusters,
    target: Target,
) -> Confirmation:
    """Test a composite's answers against those of the parts' own masks.

    Args:
        spec: the composite.
        answers: what its mask said.
        own: the scores of the parts' own masks on the same clips.
        references: what is right, in the composite's form.
        clusters: which clips are of one speaker.
        target: what it must reach.
    """
    scores = score_composite(spec, answers, references)
    ifr = score_of(scores, "ifr").value
    parts = []
    for name in spec.names:
        within = score_of(scores, part=name)
        score = PartScore(name, within.metric, within.value, own[name].value, within.better)
        parts.append(ConfirmedPart(score, max_gap(within, own[name], clusters, target.margin)))
    reason = _refusal(ifr, parts, len(answers), target)
    return Confirmation(len(answers), ifr, tuple(parts), not reason, reason)


def _refusal(ifr: float, parts: Sequence[ConfirmedPart], clips: int, target: Target) -> str:
    if clips < MIN_CONFIRMATION_CLIPS:
        return f"{clips} confirmation clips are too few, expected {MIN_CONFIRMATION_CLIPS} or more"
    if ifr < target.ifr:
        return f"{ifr:.1f} % of its answers are in the form, expected {target.ifr:g} %"
    worse = [f"{p.score.part} may be {p.max_gap:.1f} points worse" for p in parts if p.max_gap > target.margin]
    return f"{' and '.join(worse)} than by its own mask, expected {target.margin:g} at most" if worse else ""


def max_gap(within: Score, own: Score, clusters: Clusters, margin: float) -> float:
    """Points that a score is worse than another on the same rows, at most, with 96 % confidence.

    Args:
        within: the composite's.
        own: the own mask's.
        clusters: which rows belong together.
        margin: points against which it is tested.
    """
    assert within.sample is not None
    assert own.sample is not None
    return gap_bound(within.sample, own.sample, clusters, margin, lower_is_better=within.better == "lower")


def gap_bound(within: Sample, own: Sample, clusters: Clusters, margin: float, *, lower_is_better: bool) -> float:
    """The same of two samples."""
    from scipy.stats import t  # noqa: PLC0415 (a second to import)

    sign = 1.0 if lower_is_better else -1.0
    gap = sign * (within.value - own.value)
    floor = margin * (100 - margin) / within.size
    if len(clusters) < 2:
        return math.inf
    without = sign * (_without_each(within, clusters) - _without_each(own, clusters))
    variance = (len(clusters) - 1) * float(without.var())
    return gap + float(t.ppf(LEVEL, len(clusters) - 1)) * math.sqrt(max(variance, floor))


def _without_each(sample: Sample, clusters: Clusters) -> Float64[np.ndarray, " cluster"]:
    """A figure without each of the clusters in turn."""
    if sample.counts is None:
        others = np.array([np.delete(np.arange(len(clusters)), at) for at in range(len(clusters))])
        return clusters.evaluate(sample, others)
    sums = sample.counts.sum(axis=0) - np.stack([sample.counts[rows].sum(axis=0) for rows in clusters.rows])
    return 100 * sums[:, 0] / np.maximum(sums[:, 1], 1)
