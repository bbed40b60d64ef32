import numpy as np
import pytest

from igoas_plugin.evaluation.pair_distances import BINS, PairDistances


def counted(*rows):
    pairs = PairDistances()
    for distances, right in rows:
        pairs.add(np.array(distances, np.float32), np.array(right, bool))
    return pairs


@pytest.mark.parametrize("scale", [1e-4, 1, 3e5])
def test_counts_are_those_of_one_histogram_of_all_pairs(scale):
    rng = np.random.default_rng(0)
    rows = [(scale * step * rng.random(50), rng.random(50) < 0.3) for step in (0.01, 0.2, 1)]  # the bins must grow
    pairs = counted(*rows)
    distances, right = (np.concatenate([row[part] for row in rows]).astype(np.float32) for part in (0, 1))
    for state, chosen in (("right", right == 1), ("wrong", right == 0)):
        expected = np.histogram(distances[chosen], BINS, (0, pairs.end))[0]
        np.testing.assert_array_equal(pairs.counts[state], expected)
        assert pairs.shares(state).sum() == pytest.approx(100)
    assert distances.max() < pairs.edges[-1] <= pairs.end <= 2 * distances.max()
    assert len(pairs.edges) > BINS / 2  # half of the bins are in use at least


def test_a_distance_that_is_not_finite_is_left_out_and_rounding_below_zero_is_zero():
    pairs = counted(([np.inf, np.nan, -1e-7, 1.0], [True, False, True, False]))
    assert [counts.sum() for counts in pairs.counts.values()] == [1, 1] and pairs.counts["right"][0] == 1


def test_of_no_pair_nothing_is_shown():
    for pairs in (counted(), counted(([np.inf], [True]))):
        assert len(pairs.edges) == 1 and len(pairs.shares("right")) == 0
