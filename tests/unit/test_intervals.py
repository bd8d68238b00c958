"""Intervals: clips of one speaker are not independent; two figures on the same clips are compared in pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def intervals():
    from amask.data import intervals

    return intervals


@pytest.fixture(scope="module")
def share(intervals):
    """A share of rows, each right or not."""
    return lambda right: intervals.Sample.ratio(np.stack([np.asarray(right, float), np.ones(len(right))], 1))


def test_rows_of_a_speaker_are_one_cluster_and_rows_without_one_are_their_own(intervals):
    assert [rows.tolist() for rows in intervals.Clusters.by(["a", "", "b", "a", ""]).rows] == [[0, 3], [1], [2], [4]]
    # One speaker alone cannot be resampled: then the clips are.
    assert len(intervals.Clusters.by(["a", "a", "a"])) == 3
    assert len(intervals.Clusters.by(["", ""])) == 2


def test_a_clustered_interval_holds_the_truth_where_one_over_clips_does_not(intervals):
    """Speakers whose words are misheard at rates of their own: 95 % intervals over 60 draws of 20 speakers × 20 clips."""
    rng = np.random.default_rng(3)
    names = [str(at // 20) for at in range(400)]
    held = {"clips": 0, "speakers": 0}
    for _ in range(60):
        rates = rng.beta(2, 8, 20).repeat(20)  # mean 0.2
        words = np.full(400, 10.0)
        sample = intervals.Sample.ratio(np.stack([rng.binomial(10, rates).astype(float), words], 1))
        for kind, clusters in (("clips", intervals.Clusters.by([""] * 400)), ("speakers", intervals.Clusters.by(names))):
            low, high = intervals.interval(sample, clusters)
            held[kind] += low <= 20 <= high
    assert held["speakers"] >= 50
    assert held["clips"] <= 40


def test_all_right_is_not_certain(intervals, share):
    """Four speakers without an error: Wilson's interval of 4 of 4."""
    clusters = intervals.Clusters.by(list("aabbccdd"))
    assert intervals.interval(share([True] * 8), clusters) == pytest.approx((51.0, 100.0), abs=0.1)
    assert intervals.interval(share([False] * 8), clusters) == pytest.approx((0.0, 49.0), abs=0.1)


def test_a_paired_difference_is_sure_where_both_intervals_are_wide(intervals, share):
    """A mask that is right wherever a prompt is, and on two clips more."""
    rng = np.random.default_rng(0)
    prompt = rng.random(100) < 0.5
    mask = prompt.copy()
    mask[np.flatnonzero(~prompt)[:9]] = True
    clusters = intervals.Clusters.by([""] * 100)
    value, (low, high) = intervals.paired_difference(share(mask), [share(prompt)], clusters)
    assert value == pytest.approx(9.0)
    assert 3 <= low < 9 < high <= 16
    one, other = intervals.interval(share(mask), clusters), intervals.interval(share(prompt), clusters)
    assert one[0] < other[1]  # side by side they seem alike


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=3, max_size=30), st.integers(1, 4))
def test_a_figure_less_itself_is_nothing(intervals, counts, copies):
    sample = intervals.Sample.ratio(np.array(counts, float))
    clusters = intervals.Clusters.by([str(at % 3) for at in range(len(counts))])
    value, (low, high) = intervals.paired_difference(sample, [sample] * copies, clusters)
    assert (value, low, high) == pytest.approx((0.0, 0.0, 0.0))


def test_many_clips_take_little_memory(intervals):
    """5 000 rows, of which 1 000 resamples at once would be 40 MB a number."""
    import tracemalloc

    from scipy import stats

    assert stats.bootstrap is not None  # imported before the count begins
    rng = np.random.default_rng(0)
    words = rng.integers(3, 30, 5000)
    sample = intervals.Sample.ratio(np.stack([rng.binomial(words, 0.1), words], 1).astype(float))
    tracemalloc.start()
    low, high = intervals.interval(sample)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert low < sample.value < high
    assert peak < 64e6
