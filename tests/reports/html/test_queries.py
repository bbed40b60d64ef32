import numpy as np
import pytest
import torch

from igoas_plugin.evaluation.retrieval import ranked_retrieval
from igoas_plugin.reports.html.queries import FirstMatch, folder_of, grouped, name_below, queries_of

FOLDER = "/data/Set"
QUERY = [(f"{FOLDER}/query/{name}.jpg", *labels) for name, labels in (("a", (7, 0)), ("b", (8, 0)), ("c", (9, 1)))]
GALLERY = [(f"{FOLDER}/gallery/{n}/{n}.jpg", *labels) for n, labels in enumerate([(7, 0), (8, 1), (7, 1), (9, 1)])]
# of person 7: the same camera first, then a wrong one, then the right one; of person 8 the right one is nearest; of
# person 9 there is an image in the same camera alone
DISTANCES = [[0.1, 0.2, 0.3, 0.4], [0.4, 0.1, 0.2, 0.3], [0.4, 0.3, 0.2, 0.1]]


@pytest.fixture
def retrieval():
    return ranked_retrieval("Drawn", QUERY, GALLERY, torch.zeros(7, 2), [(0, torch.tensor(DISTANCES))])


def test_queries_come_worst_first_and_those_without_a_possible_match_last(retrieval):
    rows = queries_of(retrieval)
    assert [(row.file, row.identity, row.camera, row.ap) for row in rows] == [
        ("a.jpg", "7", "0", pytest.approx(50)),  # its only match is the second that counts
        ("b.jpg", "8", "0", pytest.approx(100)),
        ("c.jpg", "9", "1", None),
    ]
    assert [row.first for row in rows] == [FirstMatch(2, True), FirstMatch(1, True), None]


def test_a_first_match_beyond_the_nearest_images_is_told_as_such(retrieval):
    nearest = retrieval.nearest[:, :2], retrieval.distances[:, :2]
    shorter = type(retrieval)(**{**vars(retrieval), "nearest": nearest[0], "distances": nearest[1]})
    first = queries_of(shorter)[0].first
    assert first == FirstMatch(1, False)  # one image that is counted was looked at, beside the junk
    assert str(first) == "> 1" and first.sort_key == 2 and str(FirstMatch(1, True)) == "1"


def test_groups_have_means_over_the_queries_that_could_be_answered(retrieval):
    queries = queries_of(retrieval)
    [camera] = grouped(queries, "camera")
    assert camera == ("0", 2, pytest.approx(75), pytest.approx(50), pytest.approx(50))
    assert [group.label for group in grouped(queries, "identity")] == ["7", "8"]


def test_groups_are_in_the_order_of_their_numbers(retrieval):
    queries = [queries_of(retrieval)[0]._replace(identity=identity) for identity in ("10", "x", "9")]
    assert [group.label for group in grouped(queries, "identity")] == ["9", "10", "x"]


def test_the_means_of_the_groups_are_the_metrics_of_the_evaluation(evaluation):
    tested = evaluation.test_sets[0]
    for groups in (tested.cameras, tested.identities):
        weights = [group.queries for group in groups]
        assert np.average([group.ap for group in groups], weights=weights) == pytest.approx(tested.measured["mAP"])
        rank_1 = np.average([group.rank_1 for group in groups], weights=weights)
        assert rank_1 == pytest.approx(tested.measured["Rank-1"])


def test_files_are_named_from_the_folder_that_holds_them_all():
    assert folder_of(GALLERY) == f"{FOLDER}/gallery" and folder_of(QUERY[:1]) == f"{FOLDER}/query"
    assert name_below(f"{FOLDER}/gallery", GALLERY[1][0]) == "1/1.jpg"
    assert name_below(FOLDER, "/elsewhere/a.jpg") == "/elsewhere/a.jpg"
    assert name_below(FOLDER, f"{FOLDER}/a\n\udcff.jpg") == "a\\n\\udcff.jpg"
