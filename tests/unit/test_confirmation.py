"""When a composite is accepted: a simulation of composites as good as their parts and worse, and cases by hand."""

import numpy as np
import pytest
import torch

TRIALS = 400


def paired(rng, rows, gap, discordance=0.06, words=1):
    """Errors of a composite and of the own mask: they differ on a share of the rows, the composite being worse by `gap`."""
    from amask.data.intervals import Sample

    worse = rng.random(rows) < (discordance + gap) / 2
    better = ~worse & (rng.random(rows) < (discordance - gap) / 2)
    common = rng.random(rows) < 0.05
    errors = [(worse | (common & ~better)), (better | (common & ~worse))]
    spread = rng.integers(1, words + 1, rows)
    return [Sample.ratio(np.stack([error * spread, np.full(rows, (words + 1) / 2)], 1).astype(float)) for error in errors]


def first(samples, clips):
    from amask.data.intervals import Sample

    return [Sample.ratio(sample.counts[:clips]) for sample in samples]


def accepted(rng, gaps, words):
    """Whether such a composite passes on as many clips as are said to be needed, and how many those are."""
    from amask.composer.composite import CONFIRMATION_CLIPS
    from amask.composer.confirmation import FIRST_CLIPS, Target, clips_needed, find_gap
    from amask.data.intervals import Clusters

    margin = Target().margin
    parts = [paired(rng, CONFIRMATION_CLIPS, gap, max(0.06, gap), words) for gap in gaps]

    def tested(clips):
        clusters = Clusters(tuple(np.arange(clips)[:, None]))
        return [find_gap(*first(part, clips), clusters, margin, lower_is_better=True) for part in parts]

    found, clips = tested(FIRST_CLIPS), FIRST_CLIPS
    needed = min(clips_needed(found, FIRST_CLIPS, margin), CONFIRMATION_CLIPS)
    if needed > FIRST_CLIPS:
        found, clips = tested(needed), needed
    return all(gap.bound <= margin for gap in found), clips


@pytest.mark.parametrize("words", [1, 9])
def test_equal_composites_are_accepted_and_worse_ones_are_not(words):
    """Two parts; of the words of a part, an error may take several, which takes more clips."""
    rng = np.random.default_rng(1)
    equal, clips = np.mean([accepted(rng, (0.0, 0.0), words) for _ in range(TRIALS)], axis=0)
    worse, _ = np.mean([accepted(rng, (0.05, 0.0), words) for _ in range(TRIALS)], axis=0)
    assert equal >= 0.8
    assert worse <= 0.05
    assert 250 < clips < (320 if words == 1 else 450)


def test_agreement_on_a_few_clips_proves_nothing():
    """Where the own mask is right everywhere, the bound is about that of a share (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    from amask.composer.confirmation import find_gap
    from amask.data.intervals import Clusters, Sample

    def bound(rows, wrong=0):
        counts = np.array([[float(at < wrong), 1.0] for at in range(rows)])
        right = np.array([[0.0, 1.0]] * rows)
        return find_gap(Sample.ratio(counts), Sample.ratio(right), Clusters.by([""] * rows), 5.0, lower_is_better=True).bound

    assert bound(30) > 5.0
    assert bound(60) > 5.0 > bound(70)
    for wrong in (0, 1, 2):
        assert bound(150, wrong) == pytest.approx(100 * beta.ppf(0.965, 1 + wrong, 150 - wrong), abs=1.2)


def test_the_standard_error_is_that_of_a_paired_difference():
    """Of independent rows the jackknife of a mean is the textbook's standard error."""
    from scipy.stats import t

    from amask.composer.confirmation import find_gap
    from amask.data.intervals import Clusters

    within, own = paired(np.random.default_rng(3), 200, 0.0, discordance=0.3)
    difference = 100 * (within.counts[:, 0] - own.counts[:, 0])
    expected = difference.mean() + t.ppf(0.965, 199) * difference.std(ddof=1) / 200**0.5
    assert find_gap(within, own, Clusters.by([""] * 200), 5.0, lower_is_better=True).bound == pytest.approx(expected)


def test_clips_needed_are_those_of_the_textbook():
    """n = ((z of the level + z of the power) · standard deviation / margin)², whichever mask is ahead."""
    from scipy.stats import norm

    from amask.composer.confirmation import Gap, clips_needed

    z = norm.ppf(0.965) + norm.ppf(0.85**0.5)
    gaps = [Gap(points, 30 / 200**0.5, 199) for points in (-4.0, 9.0)]
    assert clips_needed(gaps, 200, 5.0) == pytest.approx((z * 30 / 5) ** 2, abs=1)
    assert clips_needed([Gap(0.0, float("inf"), 0)], 200, 5.0) == 0  # of one speaker nothing is known, nor from more clips


def test_clips_of_one_speaker_are_not_independent():
    from amask.composer.confirmation import find_gap
    from amask.data.intervals import Clusters, Sample

    speakers = [f"speaker {at // 10}" for at in range(200)]
    wrong = np.array([[float(at // 10 in (3, 7)), 1.0] for at in range(200)])  # two speakers fail as a whole
    right = np.zeros((200, 2)) + [0.0, 1.0]
    clustered, each = (
        find_gap(Sample.ratio(wrong), Sample.ratio(right), clusters, 5.0, lower_is_better=True)
        for clusters in (Clusters.by(speakers), Clusters.by([""] * 200))
    )
    assert clustered.bound > each.bound


def paired_answers(spec, answers, references):
    """The own masks are right everywhere."""
    from amask.composer.confirmation import PairedAnswers

    parts = [spec.split(reference) for reference in references]
    own = {name: tuple(row[name] for row in parts) for name in spec.names}
    return PairedAnswers(tuple(answers), own, tuple(references), ("",) * len(references))


@pytest.fixture
def spec():
    from amask.data.tasks import parse_task

    return parse_task("gr-asr")


def references(clips):
    return [f"{'female' if at % 2 else 'male'}|word {at % 8}" for at in range(clips)]


def test_answers_by_hand(spec):
    from amask.composer.confirmation import Target, confirm

    def confirmed(answers, clips=120):
        return confirm(spec, paired_answers(spec, answers[:clips], references(clips)), Target())

    right = references(120)
    assert confirmed(right).reached
    assert confirmed(right).row()["parts"]["asr"]["value"] == 0.0
    few = confirmed(right, 40)
    assert (few.reached, "too few" in few.reason) == (False, True)
    formless = confirmed(["?", "?", *right[2:]])
    assert "98.3 % of its answers are in the form" in formless.reason
    wrong = confirmed([reference.replace("female", "male") for reference in right])
    assert "gr may be" in wrong.reason
    assert "asr" not in wrong.reason


def test_as_many_clips_are_answered_as_it_takes(spec, tmp_path):
    """Where answers often differ the first clips do not tell; those that follow are answered, and no clip twice."""
    from types import SimpleNamespace

    from amask.composer.composite import confirm_mask
    from amask.composer.confirmation import FIRST_CLIPS, Target
    from amask.data.manifest import Clip, Manifest
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    mask = HeadMask(torch.ones(1, 1, dtype=torch.bool), Identity(Geometry((1,)), "0" * 16, "tiny"))
    clips = Manifest(tuple(Clip(path=str(at), labels={}) for at in range(600)), tmp_path)
    seen = []

    def evaluator(some, wrong=0):
        def pair(_mask):
            seen.extend(int(clip.path) for clip in some)
            right = [references(600)[int(clip.path)] for clip in some]
            said = [
                text.replace("word", "the other") if wrong and int(clip.path) % wrong == 0 else text
                for clip, text in zip(some, right, strict=True)
            ]
            return paired_answers(spec, said, right)

        return SimpleNamespace(spec=spec, pair=pair)

    assert confirm_mask(evaluator, mask, clips, Target()).reached
    assert seen == list(range(FIRST_CLIPS))
    seen.clear()
    found = confirm_mask(lambda some: evaluator(some, wrong=8), mask, clips, Target())
    assert seen == list(range(found.clips))
    assert FIRST_CLIPS < found.clips <= 600
