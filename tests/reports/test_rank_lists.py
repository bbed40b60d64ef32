from dataclasses import replace

import numpy as np
import pytest
import torch

from igoas_plugin.evaluation.retrieval import ranked_retrieval
from igoas_plugin.reports.rank_lists import (
    Query,
    extremes,
    grouped,
    queries_of,
    query_at,
    rank_list,
)

QUERY = [("query/a.jpg", 7, 0), ("query/b.jpg", 8, 0), ("query/c.jpg", 9, 1)]
GALLERY = [(f"gallery/{n}.jpg", *labels) for n, labels in enumerate([(7, 0), (8, 1), (7, 1), (9, 1)])]
# Person 7 finds its own camera, then a wrong image, then a right one. Person 8 finds a right image first. Person 9 has
# an image in its own camera only.
DISTANCES = [[0.1, 0.2, 0.3, 0.4], [0.4, 0.1, 0.2, 0.3], [0.4, 0.3, 0.2, 0.1]]


@pytest.fixture
def retrieval():
    return ranked_retrieval("Drawn", QUERY, GALLERY, torch.zeros(7, 2), [(0, torch.tensor(DISTANCES))])


def test_queries_come_worst_first_and_those_without_a_possible_match_last(retrieval):
    assert queries_of(retrieval) == [
        (0, "query/a.jpg", 7, 0, pytest.approx(50), 2),  # junk does not count: its match has rank 2
        (1, "query/b.jpg", 8, 0, pytest.approx(100), 1),
        (2, "query/c.jpg", 9, 1, None, None),
    ]


def test_cameras_are_those_of_the_file_names(retrieval):
    market = replace(retrieval, name="Market1501")  # 0 in the class, 1 in the names
    query = query_at(market, 2)
    assert (query.camera, [found.camera for found in rank_list(market, query, top=2).found]) == (2, [2, 2])
    by_camera = grouped(queries_of(market), "camera")
    assert [group.label for group in by_camera] == [1]


def test_a_first_match_beyond_the_nearest_images_has_its_rank_and_comes_after_them(retrieval):
    shorter = replace(retrieval, nearest=retrieval.nearest[:, :2], distances=retrieval.distances[:, :2])
    query = query_at(shorter, 0)
    assert query.first == 2 and query.ap == pytest.approx(50)
    later = rank_list(shorter, query, top=2).later
    assert later.path == "gallery/2.jpg" and later.match == (2, pytest.approx(0.3), 2, "right")


def test_a_rank_list_has_the_nearest_images_and_junk_has_no_rank(retrieval):
    ranked = rank_list(retrieval, query_at(retrieval, 0), top=3)
    assert [(each.path, each.match.rank, each.match.state) for each in ranked.found] == [
        ("gallery/0.jpg", None, "junk"), ("gallery/1.jpg", 1, "wrong"), ("gallery/2.jpg", 2, "right"),
    ]  # fmt: skip
    assert (ranked.found[1].identity, ranked.found[1].camera, ranked.later) == (8, 1, None)
    without = rank_list(retrieval, query_at(retrieval, 0), top=2, junk=False)
    assert [each.match.rank for each in without.found] == [1, 2]


def test_a_first_match_behind_the_shown_images_comes_after_them(retrieval):
    ranked = rank_list(retrieval, query_at(retrieval, 0), top=2)
    assert len(ranked.found) == 2 and (ranked.later.path, ranked.later.match.rank) == ("gallery/2.jpg", 2)


def some_queries(count):
    return [Query(position, f"{position}.jpg", 1, 0, float(position), None) for position in range(count)]


@pytest.mark.parametrize(
    "there, asked, counts", [(100, 20, (20, 20, 20)), (50, 20, (20, 20, 10)), (5, 20, (3, 2, 0)), (1, 20, (1, 0, 0))]
)
def test_worst_best_and_random_queries_are_chosen_and_none_twice(there, asked, counts):
    chosen = extremes(some_queries(there), asked)
    positions = {kind: [query.position for query in found] for kind, found in chosen.items()}
    assert tuple(map(len, positions.values())) == counts and list(positions) == ["worst", "best", "random"]
    assert positions["worst"] == list(range(counts[0]))
    assert positions["best"] == list(range(there - 1, there - 1 - counts[1], -1))
    assert len({position for found in positions.values() for position in found}) == sum(counts)


def test_the_same_random_queries_are_chosen_each_time_and_in_order_of_quality():
    first, second = (extremes(some_queries(200), 10)["random"] for _ in range(2))
    assert first == second == sorted(first, key=lambda query: query.ap)


def test_no_query_that_could_not_be_answered_is_chosen():
    assert extremes([some_queries(1)[0]._replace(ap=None)], 20) == {"worst": [], "best": [], "random": []}
    assert extremes(some_queries(9), 0) == {"worst": [], "best": [], "random": []}


def test_groups_have_means_over_the_queries_that_could_be_answered(retrieval):
    queries = queries_of(retrieval)
    [camera] = grouped(queries, "camera")
    assert camera == (0, 2, pytest.approx(75), pytest.approx(50), pytest.approx(50))
    assert [group.label for group in grouped(queries, "identity")] == [7, 8]


def test_the_means_of_the_groups_are_the_metrics_of_the_evaluation(retrieval):
    for label in ("camera", "identity"):
        groups = grouped(queries_of(retrieval), label)
        weights = [group.queries for group in groups]
        assert np.average([group.ap for group in groups], weights=weights) == pytest.approx(retrieval.metrics["mAP"])
        rank_1 = np.average([group.rank_1 for group in groups], weights=weights)
        assert rank_1 == pytest.approx(retrieval.metrics["Rank-1"])


def test_groups_of_text_and_of_numbers_have_an_order():
    queries = [Query(0, "a.png", "anna", "left", 50.0, 1), Query(1, "b.png", 3, 0, 70.0, 2)]
    assert [group.label for group in grouped(queries, "identity")] == [3, "anna"]
    assert [group.label for group in grouped(queries, "camera")] == [0, "left"]
