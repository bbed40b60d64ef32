import numpy as np
import pytest
import torch
from fastreid.engine import DefaultTrainer

from igoas_plugin.core.errors import InputError
from igoas_plugin.evaluation.retrieval import NEAREST, ranked_retrieval, retrieve
from igoas_plugin.modeling.igoas import IGOAS  # noqa: F401  (registers)

QUERY = [("q0.jpg", 7, 0), ("q1.jpg", 8, 0), ("q2.jpg", 9, 0)]
GALLERY = [("a.jpg", 7, 0), ("b.jpg", 8, 1), ("c.jpg", 7, 1), ("d.jpg", 7, 2), ("e.jpg", 9, 0)]
# of person 7: the same camera first, then a wrong one, then two right ones; of person 8: the right one first
DISTANCES = [[0.1, 0.2, 0.3, 0.4, 0.5], [0.5, 0.1, 0.2, 0.3, 0.4], [0.5, 0.4, 0.3, 0.2, 0.1]]


@pytest.fixture
def by_hand():
    blocks = [(0, torch.tensor(DISTANCES[:2])), (2, torch.tensor(DISTANCES[2:]))]
    return ranked_retrieval("Drawn", QUERY, GALLERY, torch.zeros(8, 2), blocks)


def test_matches_are_in_order_and_tell_right_wrong_and_junk(by_hand):
    found = [(match.position, match.rank, match.state) for match in by_hand.matches(0)]
    assert found == [(0, None, "junk"), (1, 1, "wrong"), (2, 2, "right"), (3, 3, "right"), (4, 4, "wrong")]
    assert [round(match.distance, 3) for match in by_hand.matches(0)] == DISTANCES[0]


def test_the_first_match_has_the_rank_of_the_list_and_comes_behind_wrong_images_of_its_distance(by_hand):
    assert by_hand.first == [(2, pytest.approx(0.3), 2, "right"), (1, pytest.approx(0.1), 1, "right"), None]
    tied = ranked_retrieval("Drawn", QUERY[:1], GALLERY, torch.zeros(6, 2), [(0, torch.ones(1, 5))])
    assert tied.first[0].rank == next(match.rank for match in tied.matches(0) if match.state == "right") == 3


def test_average_precision_of_each_query_leaves_junk_out(by_hand):
    # person 7 without the junk: wrong, right, right, wrong: (1/2 + 2/3) / 2; person 9 has an image in its camera alone
    np.testing.assert_allclose(by_hand.ap, [(1 / 2 + 2 / 3) / 2, 1, np.nan])
    assert by_hand.metrics["Rank-1"] == 50
    assert by_hand.metrics["mAP"] == pytest.approx(100 * np.nanmean(by_hand.ap))


def test_without_the_camera_rule_nothing_is_junk_and_every_query_has_its_average_precision():
    found = ranked_retrieval("Drawn", QUERY, GALLERY, torch.zeros(8, 2), [(0, torch.tensor(DISTANCES))], False)
    states = [(match.position, match.rank, match.state) for match in found.matches(0)]
    assert states == [(0, 1, "right"), (1, 2, "wrong"), (2, 3, "right"), (3, 4, "right"), (4, 5, "wrong")]
    np.testing.assert_allclose(found.ap, [(1 / 1 + 2 / 3 + 3 / 4) / 3, 1, 1])
    tied = ranked_retrieval("Drawn", QUERY[:1], GALLERY, torch.zeros(6, 2), [(0, torch.ones(1, 5))], False)
    assert [match.state for match in tied.matches(0)] == 2 * ["wrong"] + 3 * ["right"]


@pytest.mark.parametrize("camera_rule, right", [(True, [0.3, 0.4, 0.1]), (False, [0.1, 0.3, 0.4, 0.1, 0.1])])
def test_pairs_are_counted_in_all_blocks_and_junk_is_in_neither_histogram(camera_rule, right):
    blocks = [(0, torch.tensor(DISTANCES[:2])), (2, torch.tensor(DISTANCES[2:]))]
    pairs = ranked_retrieval("Drawn", QUERY, GALLERY, torch.zeros(8, 2), blocks, camera_rule).pairs
    # of 15 pairs 5 have one identity: two of them, q0 with a and q2 with e, in one camera
    expected = np.histogram(np.array(right, np.float32), len(pairs.counts["right"]), (0, pairs.end))[0]
    np.testing.assert_array_equal(pairs.counts["right"], expected)
    assert pairs.counts["wrong"].sum() == 10


def test_queries_are_ordered_from_the_worst_and_without_those_that_cannot_be_answered(by_hand):
    assert by_hand.by_quality().tolist() == [0, 1]


def test_at_equal_distances_the_right_images_come_last_as_the_metrics_count_them():
    found = ranked_retrieval("Drawn", QUERY[:2], GALLERY, torch.zeros(7, 2), [(0, torch.full((2, 5), torch.inf))])
    states = [[match.state for match in found.matches(query)] for query in (0, 1)]
    assert [each[-2:] for each in states] == [["right", "right"], ["wrong", "right"]]
    assert found.metrics["Rank-1"] == 0


def test_no_answerable_query_is_one_line_with_the_name_of_the_data_set():
    with pytest.raises(InputError, match="Drawn: no query has a gallery image of its identity in another camera"):
        ranked_retrieval("Drawn", QUERY[2:], GALLERY, torch.zeros(6, 2), [(0, torch.tensor(DISTANCES[2:]))])


@pytest.mark.parametrize("keys", [
    [], ["TEST.RERANK.ENABLED", True], ["TEST.CAMERA_RULE", False], ["TEST.NFC.ENABLED", True, "TEST.NFC.K", 2],
])  # fmt: skip
def test_it_finds_what_fast_reid_s_evaluator_finds(igoas_cfg, keys):
    igoas_cfg.merge_from_list(keys)
    assert_finds_what_the_evaluator_finds(igoas_cfg)


def test_it_finds_what_a_fast_evaluation_finds(igoas_cfg, dtype_of_cpu):
    igoas_cfg.merge_from_list(["TEST.FLIP.ENABLED", True, "TEST.FAST", True])
    assert_finds_what_the_evaluator_finds(igoas_cfg)


def assert_finds_what_the_evaluator_finds(igoas_cfg) -> None:
    model = DefaultTrainer.build_model(igoas_cfg).eval()
    evaluated = DefaultTrainer.test(igoas_cfg, model)
    found = retrieve(igoas_cfg, model, "TinyReID")
    assert found.metrics == pytest.approx({name: float(value) for name, value in evaluated.items()})
    assert found.nearest.shape == (len(found.query), min(NEAREST, len(found.gallery)))
    assert (np.diff(found.distances, axis=1) >= 0).all()
