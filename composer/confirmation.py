"""Whether a composite's mask is good enough: tested on clips that no choice was made on.

The best of many candidates looks better than it is on the clips that it was chosen on. So the winner and the parts' own masks
answer other clips, and the composite is accepted if, for every part, it is beyond doubt (one-sided, 3.5 %) that it is less than a
margin worse than the part's own mask: a test of non-inferiority on paired answers. The difference's standard error is that of
a jackknife over speakers, or over clips where none are known (Efron and Stein 1981), and at least that of a difference of the
margin that comes of rows as wrong as those that differ, which an accidental agreement on few clips cannot undercut.

How many clips that takes depends on how much answers differ: words of a sentence vary more than one label a clip. So the first
`FIRST_CLIPS` say how many are needed for a composite that is as good as its parts to be accepted, and as many are answered, once.
The number depends on the standard error alone and not on which mask is ahead, so the test keeps its level (sample size
re-estimation from the variance, Wittes and Brittain 1990).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from ..data.intervals import Clusters, Sample
from ..data.tasks import TaskSpec
from .search import PartScore, score_composite, score_of, score_part_masks

LEVEL = 0.965  # at 0.95 discreteness and skewed errors let more than 5 % of composites pass that are a margin worse
POWER = 0.85  # of composites as good as their parts that are to be accepted; the estimate of how many clips that takes is rough
FIRST_CLIPS = 250  # clips that say how many are needed
MIN_CONFIRMATION_CLIPS = 65  # with fewer, none of them answered worse than by the own mask would still be no proof


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
class PairedAnswers:
    """What a composite's mask and the parts' own masks answer to the same clips.

    Attributes:
        answers: the composite's.
        parts: of each part the own mask's.
        references: what is right, in the composite's form.
        speakers: of the clips; empty where unknown.
    """

    answers: tuple[str, ...]
    parts: dict[str, tuple[str, ...]]
    references: tuple[str, ...]
    speakers: tuple[str, ...]

    def __add__(self, other: "PairedAnswers") -> "PairedAnswers":
        parts = {name: answers + other.parts[name] for name, answers in self.parts.items()}
        speakers = self.speakers + other.speakers
        return PairedAnswers(self.answers + other.answers, parts, self.references + other.references, speakers)


@dataclass(frozen=True)
class Gap:
    """How much worse a score is than another on the same rows.

    Attributes:
        points: as measured; negative where it is better.
        error: the standard error; infinite where nothing is known of it.
        freedom: degrees of freedom of the error.
    """

    points: float
    error: float
    freedom: int

    @property
    def bound(self) -> float:
        """Points that it is worse at most, with 96.5 % confidence."""
        from scipy.stats import t  # noqa: PLC0415 (a second to import)

        return self.points + float(t.ppf(LEVEL, self.freedom)) * self.error if self.freedom else math.inf


@dataclass(frozen=True)
class ConfirmedPart:
    """A part on the confirmation clips.

    Attributes:
        score: how well it is done within the composite, and by its own mask.
        max_gap: points that it is worse at most, with 96.5 % confidence.
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
        clips_needed: how many it takes to accept a composite that is as good as its parts.
        reached: whether it is accepted.
        reason: why not; empty where it is.
    """

    clips: int
    ifr: float
    parts: tuple[ConfirmedPart, ...]
    clips_needed: int
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
        about = {"clips": self.clips, "clips_needed": self.clips_needed, "ifr": round(self.ifr, 2), "parts": parts}
        about |= {"reached": self.reached}
        return about | ({"reason": self.reason} if self.reason else {})


def confirm(spec: TaskSpec, paired: PairedAnswers, target: Target) -> Confirmation:
    """Test a composite's answers against those of the parts' own masks.

    Args:
        spec: the composite.
        paired: the answers.
        target: what it must reach.
    """
    scores = score_composite(spec, paired.answers, paired.references)
    own = score_part_masks(spec, paired.parts, paired.references)
    clusters, clips = Clusters.by(paired.speakers), len(paired.answers)
    ifr = score_of(scores, "ifr").value
    parts, gaps = [], []
    for name in spec.names:
        within = score_of(scores, part=name)
        samples = within.sample, own[name].sample
        assert samples[0] is not None
        assert samples[1] is not None
        gaps.append(find_gap(samples[0], samples[1], clusters, target.margin, lower_is_better=within.better == "lower"))
        score = PartScore(name, within.metric, within.value, own[name].value, within.better)
        parts.append(ConfirmedPart(score, gaps[-1].bound))
    needed = max(MIN_CONFIRMATION_CLIPS, clips_needed(gaps, clips, target.margin))
    reason = _refusal(ifr, parts, clips, needed, target)
    return Confirmation(clips, ifr, tuple(parts), needed, not reason, reason)


def _refusal(ifr: float, parts: Sequence[ConfirmedPart], clips: int, needed: int, target: Target) -> str:
    if clips < MIN_CONFIRMATION_CLIPS:
        return f"{clips} confirmation clips are too few, expected {MIN_CONFIRMATION_CLIPS} or more"
    if ifr < target.ifr:
        return f"{ifr:.1f} % of its answers are in the form, expected {target.ifr:g} %"
    worse = [f"{p.score.part} may be {p.max_gap:.1f} points worse" for p in parts if p.max_gap > target.margin]
    few = f"; {clips} clips were there, and it takes some {needed} to tell" if needed > clips else ""
    return f"{' and '.join(worse)} than by its own mask, expected {target.margin:g} at most{few}" if worse else ""


def find_gap(within: Sample, own: Sample, clusters: Clusters, margin: float, *, lower_is_better: bool) -> Gap:
    """How much worse a score is than another on the same rows.

    Args:
        within: the composite's.
        own: the own mask's.
        clusters: which rows belong together.
        margin: points against which it is tested.
        lower_is_better: whether the score is an error rate.
    """
    sign = 1.0 if lower_is_better else -1.0
    points = sign * (within.value - own.value)
    if len(clusters) < 2:
        return Gap(points, math.inf, 0)
    floor = margin * (100 * max(1.0, _error_size(within, own)) - margin) / within.size
    without = sign * (_without_each(within, clusters) - _without_each(own, clusters))
    variance = (len(clusters) - 1) * float(without.var())
    return Gap(points, math.sqrt(max(variance, floor)), len(clusters) - 1)


def _error_size(within: Sample, own: Sample) -> float:
    """How much a row on which two figures differ weighs: 1 where rows are right or wrong, more where an error takes words."""
    if within.counts is None or own.counts is None:
        return 1.0
    differences = np.abs(within.counts[:, 0] - own.counts[:, 0])
    return float((differences**2).sum() / max(differences.sum(), 1e-9) / max(within.counts[:, 1].mean(), 1e-9))


def clips_needed(gaps: Sequence[Gap], clips: int, margin: float) -> int:
    """Clips on which a composite as good as all of its parts is accepted with a probability of `POWER`.

    Args:
        gaps: of the parts, on some clips.
        clips: how many those were.
        margin: points that a part must be less worse than.
    """
    from scipy.stats import norm  # noqa: PLC0415

    quantiles = float(norm.ppf(LEVEL) + norm.ppf(POWER ** (1 / len(gaps))))
    errors = [gap.error for gap in gaps if math.isfinite(gap.error)]
    return math.ceil(clips * (quantiles * max(errors, default=0.0) / margin) ** 2)


def _without_each(sample: Sample, clusters: Clusters) -> Float64[np.ndarray, " cluster"]:
    """A figure without each of the clusters in turn."""
    if sample.counts is None:
        others = np.array([np.delete(np.arange(len(clusters)), at) for at in range(len(clusters))])
        return clusters.evaluate(sample, others)
    sums = sample.counts.sum(axis=0) - clusters.sums(sample.counts)
    return 100 * sums[:, 0] / np.maximum(sums[:, 1], 1)
