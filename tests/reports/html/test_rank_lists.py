import pytest
import torch
from PIL import Image

from igoas_plugin.evaluation.retrieval import ranked_retrieval
from igoas_plugin.reports.html.queries import Query, queries_of
from igoas_plugin.reports.html.rank_lists import LENGTH, choose, rank_lists


def queries(count):
    return [Query(position, f"{position}.jpg", "1", "0", float(position), None) for position in range(count)]


@pytest.mark.parametrize(
    "there, asked, counts", [(100, 20, (20, 20, 20)), (50, 20, (20, 20, 10)), (5, 20, (3, 2, 0)), (1, 20, (1, 0, 0))]
)
def test_worst_best_and_random_queries_are_chosen_and_none_twice(there, asked, counts):
    chosen = choose(queries(there), asked)
    positions = {kind: [query.position for query in found] for kind, found in chosen.items()}
    assert tuple(map(len, positions.values())) == counts and list(positions) == ["worst", "best", "random"]
    assert positions["worst"] == list(range(counts[0]))
    assert positions["best"] == list(range(there - 1, there - 1 - counts[1], -1))
    assert len({position for found in positions.values() for position in found}) == sum(counts)


def test_the_same_random_queries_are_chosen_each_time_and_in_order_of_quality():
    first, second = (choose(queries(200), 10)["random"] for _ in range(2))
    assert first == second == sorted(first, key=lambda query: query.ap)


def test_no_query_that_could_not_be_answered_is_chosen():
    assert choose([queries(1)[0]._replace(ap=None)], 20) == {"worst": [], "best": [], "random": []}
    assert choose(queries(9), 0) == {"worst": [], "best": [], "random": []}


def retrieval_with_match_at(tmp_path, rank, junk=0):
    """A query whose gallery has, by distance: junk, wrong images up to the rank before the given one, then a match."""
    labels = [(1, 0)] * junk + [(2, 1)] * (rank - 1) + [(1, 1), (1, 1)]
    query, *gallery = [(str(tmp_path / f"{number}.png"), *each) for number, each in enumerate([(1, 0), *labels])]
    for number, (path, _, _) in enumerate([query, *gallery]):
        Image.new("RGB", (8, 16), (number, 0, 0)).save(path)
    distances = torch.arange(len(gallery)).float()[None]
    return ranked_retrieval("Drawn", [query], gallery, torch.zeros(1 + len(gallery), 2), [(0, distances)])


def test_a_rank_list_has_the_nearest_images_and_junk_has_no_rank(tmp_path):
    found = retrieval_with_match_at(tmp_path, rank=2, junk=1)
    [ranked] = rank_lists(found, queries_of(found))
    assert [(each.rank, each.state) for each in ranked.found] == [
        (None, "junk"), (1, "wrong"), (2, "right"), (3, "right"),
    ]  # fmt: skip
    assert [each.distance for each in ranked.found] == [0, 1, 2, 3] and not any(each.later for each in ranked.found)
    assert ranked.image.alt == "query image 0.png" and ranked.found[0].image.alt == "gallery image 1.png"
    assert (ranked.found[0].identity, ranked.found[0].camera) == ("1", "0")


def test_a_first_match_behind_the_shown_images_is_shown_after_them(tmp_path):
    found = retrieval_with_match_at(tmp_path, rank=30)
    [ranked] = rank_lists(found, queries_of(found))
    assert len(ranked.found) == LENGTH + 1 and [each.later for each in ranked.found] == [False] * LENGTH + [True]
    assert (ranked.found[-1].rank, ranked.found[-1].state) == (30, "right")
