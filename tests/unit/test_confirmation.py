"""When a composite is accepted: a simulation of composites as good as their parts and worse, and cases by hand."""

import numpy as np
import pytest

CLIPS = 250
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


def accepted(rng, gaps, words):
    from amask.composer.confirmation import Target, gap_bound
    from amask.data.intervals import Clusters

    margin, clusters = Target().margin, Clusters.by([""] * CLIPS)
    bounds = [gap_bound(*paired(rng, CLIPS, gap, max(0.06, gap), words), clusters, margin, lower_is_better=True) for gap in gaps]
    return all(bound <= margin for bound in bounds)


@pytest.mark.parametrize("words", [1, 9])
def test_equal_composites_are_accepted_and_worse_ones_are_not(words):
    """Two parts; of the words of a part, an error may take several."""
    rng = np.random.default_rng(1)
    equal = np.mean([accepted(rng, (0.0, 0.0), words) for _ in range(TRIALS)])
    worse = np.mean([accepted(rng, (0.05, 0.0), words) for _ in range(TRIALS)])
    assert equal >= (0.8 if words == 1 else 0.6)
    assert worse <= 0.05


def test_agreement_on_a_few_clips_proves_nothing():
    from amask.composer.confirmation import gap_bound
    from amask.data.intervals import Clusters, Sample

    def bound(rows, wrong=0):
        counts = np.array([[float(at < wrong), 1.0] for at in range(rows)])
        right = np.array([[0.0, 1.0]] * rows)
        return gap_bound(Sample.ratio(counts), Sample.ratio(right), Clusters.by([""] * rows), 5.0, lower_is_better=True)

    assert bound(30) > 5.0
    assert bound(100) < 5.0
    assert bound(100, wrong=1) < 5.0 < bound(100, wrong=2)  # Clopper and Pearson's bounds at 95 %: 4.7 and 6.2


def test_the_standard_error_is_that_of_a_paired_difference():
    """Of independent rows the jackknife of a mean is the textbook's standard error."""
    from scipy.stats import t

    from amask.composer.confirmation import gap_bound
    from amask.data.intervals import Clusters

    within, own = paired(np.random.default_rng(3), 200, 0.0, discordance=0.3)
    difference = 100 * (within.counts[:, 0] - own.counts[:, 0])
    expected = difference.mean() + t.ppf(0.96, 199) * difference.std(ddof=1) / 200**0.5
    assert gap_bound(within, own, Clusters.by([""] * 200), 5.0, lower_is_better=True) == pytest.approx(expected)


def test_clips_of_one_speaker_are_not_independent():
    from amask.composer.confirmation import gap_bound
    from amask.data.intervals import Clusters, Sample

    speakers = [f"speaker {at // 10}" for at in range(200)]
    wrong = np.array([[float(at // 10 in (3, 7)), 1.0] for at in range(200)])  # two speakers fail as a whole
    right = np.zeros((200, 2)) + [0.0, 1.0]
    clustered, each = (
        gap_bound(Sample.ratio(wrong), Sample.ratio(right), clusters, 5.0, lower_is_better=True)
        for clusters in (Clusters.by(speakers), Clusters.by([""] * 200))
    )
    assert clustered > each


def test_answers_by_hand():
    from amask.composer.confirmation import Target, confirm
    from amask.composer.search import score_part_masks
    from amask.data.intervals import Clusters
    from amask.data.tasks import parse_task

    spec = parse_task("gr-asr")
    references = [f"{'female' if at % 2 else 'male'}|word {at % 8}" for at in range(120)]
    parts = [spec.split(reference) for reference in references]
    own = score_part_masks(spec, {name: [row[name] for row in parts] for name in spec.names}, references)

    def confirmed(answers, clips=120):
        scores = (
            own
            if clips == 120
            else score_part_masks(spec, {name: [row[name] for row in parts[:clips]] for name in spec.names}, references[:clips])
        )
        return confirm(spec, answers[:clips], scores, references[:clips], Clusters.by([""] * clips), Target())

    assert confirmed(references).reached
    assert confirmed(references).row()["parts"]["asr"]["value"] == 0.0
    few = confirmed(references, 40)
    assert (few.reached, "too few" in few.reason) == (False, True)
    formless = confirmed(["?", "?", *references[2:]])
    assert "98.3 % of its answers are in the form" in formless.reason
    wrong = confirmed([reference.replace("female", "male") for reference in references])
    assert "gr may be" in wrong.reason
    assert "asr" not in wrong.reason
