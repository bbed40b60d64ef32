import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import numpy as np
import pytest
import torch
from failures import Failures
from fastreid.evaluation.rank import evaluate_rank

from igoas_plugin.core.errors import InputError
from igoas_plugin.evaluation.ranking import Labels, blocks, rank_in_blocks


def some_labels(draw, images, identities=6, cameras=3) -> Labels:
    return Labels(draw.integers(identities, size=images), draw.integers(cameras, size=images))


def in_blocks(distances: np.ndarray, size: int = 7):
    """Returns copies of blocks of queries, in the form of Distances."""
    return [(first, torch.tensor(distances[first : first + size])) for first in range(0, len(distances), size)]


def dense(distances, query, gallery, max_rank=50):
    return evaluate_rank(distances, query.pids, gallery.pids, query.camids, gallery.camids, max_rank, use_cython=False)


@pytest.mark.parametrize("counted", [0, blocks.COUNTED], ids=["sorting", "counting"])
def test_distinct_distances_rank_as_in_fast_reid(counted, monkeypatch):
    monkeypatch.setattr(blocks, "COUNTED", counted)
    failures = Failures()
    for seed in range(20):
        with failures.of(f"seed {seed}"):
            assert_ranks_as_in_fast_reid(np.random.default_rng(seed))
    assert failures == []


def assert_ranks_as_in_fast_reid(draw):
    queries, images = draw.integers(1, 30), draw.integers(1, 200)
    query, gallery = some_labels(draw, queries), some_labels(draw, images)
    distances = draw.permutation(queries * images).reshape(queries, images).astype(np.float32) / (queries * images)
    try:
        expected = dense(distances, query, gallery)
    except AssertionError:
        with pytest.raises(ValueError, match="there is nothing to rank"):
            rank_in_blocks(in_blocks(distances), query, gallery)
        return
    found = rank_in_blocks(in_blocks(distances), query, gallery)
    assert found.cmc.dtype == np.float32 and found.cmc.tolist() == expected[0].tolist()
    np.testing.assert_allclose(found.ap, expected[1], rtol=1e-14)  # the same terms, summed in another order
    np.testing.assert_array_equal(found.inp, expected[2])


def test_average_precision_is_not_interpolated():
    # one query of person 0, whose two matches stand at ranks 2 and 4
    query, gallery = Labels(np.array([0]), np.array([0])), Labels(np.array([1, 0, 1, 0]), np.array([1, 1, 1, 1]))
    distances = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    found = rank_in_blocks(in_blocks(distances), query, gallery)
    assert found.ap.tolist() == dense(distances, query, gallery)[1] == [(1 / 2 + 2 / 4) / 2]
    # Market-1501's script takes, at each match, the mean of the precisions at its rank and at the rank before
    assert found.ap[0] > ((0 / 1 + 1 / 2) / 2 + (1 / 3 + 2 / 4) / 2) / 2


def test_without_the_camera_rule_images_of_the_query_s_camera_are_matches():
    # by distance: the query's own camera, a stranger, another camera
    query, gallery = Labels(np.array([0]), np.array([0])), Labels(np.array([0, 1, 0]), np.array([0, 0, 1]))
    distances = np.array([[0.1, 0.2, 0.3]], np.float32)
    assert rank_in_blocks(in_blocks(distances), query, gallery).ap.tolist() == [1 / 2]
    found = rank_in_blocks(in_blocks(distances), query, gallery, camera_rule=False)
    assert found.ap.tolist() == [(1 + 2 / 3) / 2] and found.cmc[0] == 1 and found.inp.tolist() == [2 / 3]
    strangers = Labels(np.array([1, 1, 1]), np.array([0, 0, 0]))
    with pytest.raises(InputError, match="no query has a gallery image of its identity: there is nothing to rank"):
        rank_in_blocks(in_blocks(distances), query, strangers, camera_rule=False)


def test_equal_distances_are_ranked_at_their_worst():
    # one query of person 0; two strangers and two matches, all as far
    query, gallery = Labels(np.array([0]), np.array([0])), Labels(np.array([0, 1, 2, 0]), np.array([1, 1, 1, 1]))
    found = rank_in_blocks([(0, torch.ones(1, 4))], query, gallery, max_rank=4)
    assert found.cmc.tolist() == [0, 0, 1, 1]  # behind both strangers
    assert found.ap.tolist() == [(1 / 3 + 2 / 4) / 2] and found.inp.tolist() == [2 / 4]


@pytest.mark.parametrize("counted", [0, blocks.COUNTED], ids=["sorting", "counting"])
def test_ties_rank_between_the_best_and_the_worst_order_of_fast_reid(counted, monkeypatch):
    monkeypatch.setattr(blocks, "COUNTED", counted)
    failures = Failures()
    for seed in range(5):
        with failures.of(f"seed {seed}"):
            draw = np.random.default_rng(seed)
            query, gallery = some_labels(draw, 20), some_labels(draw, 80)
            distances = draw.integers(5, size=(20, 80)).astype(np.float32)
            same = query.pids[:, None] == gallery.pids
            best, worst = (dense(distances + sign * 0.1 * same, query, gallery) for sign in (-1, 1))
            found = rank_in_blocks(in_blocks(distances), query, gallery)
            for of_best, ours, of_worst in zip(best, found, worst, strict=True):
                assert np.all(np.asarray(of_worst) - 1e-6 <= ours) and np.all(ours <= np.asarray(of_best) + 1e-6)
            np.testing.assert_allclose(found.ap, worst[1])
    assert failures == []


def test_a_query_without_a_match_is_left_out_and_its_own_camera_does_not_count():
    query, gallery = Labels(np.array([0, 1]), np.array([0, 0])), Labels(np.array([1, 0, 0]), np.array([0, 0, 1]))
    distances = np.array([[0.2, 0.1, 0.3], [0.1, 0.2, 0.3]], np.float32)
    # query 0: image 1 is of its own camera, image 0 of another person comes first; query 1 has no match
    found = rank_in_blocks(in_blocks(distances), query, gallery, max_rank=2)
    assert found.cmc.tolist() == [0, 1] and found.ap.tolist() == [0.5] and found.inp.tolist() == [0.5]


def test_a_match_at_infinity_comes_last_and_strangers_at_infinity_before_it():
    query, gallery = Labels(np.array([0]), np.array([0])), Labels(np.array([0, 1, 2]), np.array([1, 1, 1]))
    found = rank_in_blocks([(0, torch.tensor([[torch.inf, torch.inf, 0.5]]))], query, gallery, max_rank=3)
    assert found.cmc.tolist() == [0, 0, 1]
