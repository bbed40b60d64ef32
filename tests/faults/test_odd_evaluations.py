"""Test sets at the edge: what an evaluation makes of them, the same whichever way it ranks."""

import igoas_plugin  # first: it mends the host

# isort: split
import json
import math
from pathlib import Path

import pytest
import torch
from fastreid.engine import launch
from fastreid.evaluation import ReidEvaluator
from fastreid.utils import comm

from igoas_plugin.core.errors import InputError

RANKINGS = ("host", "blocked")


def evaluator(ranking: str, queries: int, **options) -> ReidEvaluator:
    cfg = igoas_plugin.get_cfg()
    cfg.TEST.RANKING = ranking
    cfg.merge_from_list([each for key, value in options.items() for each in (key.replace("__", "."), value)])
    return ReidEvaluator(cfg, queries)


def evaluate(ranking: str, queries: list[tuple], gallery: list[tuple], **options) -> dict:
    """What the evaluator finds.

    Args:
        queries, gallery: (degrees, identity, camera) of each image; its descriptor is the point at that angle, so
            images are the nearer the less their degrees differ.
    """
    found = evaluator(ranking, len(queries), **options)
    images = [*queries, *gallery]
    if images:
        angles, pids, camids = zip(*images, strict=True)
        features = torch.tensor([[math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in angles])
        found.process({"targets": torch.tensor(pids), "camids": torch.tensor(camids)}, features)
    return dict(found.evaluate())


def figures(results: dict) -> tuple[float, ...]:
    return tuple(round(results[name], 3) for name in ("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP"))


@pytest.mark.parametrize("ranking", RANKINGS)
def test_one_query_and_one_image_that_match_are_found(ranking):
    assert figures(evaluate(ranking, [(0, 7, 0)], [(40, 7, 1)])) == (100, 100, 100, 100, 100)


@pytest.mark.parametrize("ranking", RANKINGS)
def test_a_person_without_a_match_is_in_no_figure_whether_strangers_are_near_or_not(ranking, host_log):
    # Person 0 is found at rank 2, behind person 5: AP 1/2, INP 1/2. Of person 9 the gallery holds nothing; person 8 is
    # there in the query's own camera alone.
    queries = [(0, 0, 0), (90, 9, 0), (60, 8, 0)]
    gallery = [(2, 5, 1), (5, 0, 1), (90, 6, 1), (61, 8, 0)]
    assert figures(evaluate(ranking, queries, gallery)) == (0, 100, 100, 50, 50)
    assert "2 of 3 queries have no gallery image of their identity in another camera" in host_log.text


@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize("gallery", [[(0, 5, 1)], [(0, 7, 0)], [(0, 7, 0), (3, 5, 1)] * 30])
def test_no_query_with_a_match_is_one_line(ranking, gallery):
    with pytest.raises(InputError, match="no query has a gallery image of its identity in another camera"):
        evaluate(ranking, [(0, 7, 0)], gallery)


@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize(
    "queries, gallery, part", [([], [(0, 7, 1)], "query"), ([(0, 7, 0)], [], "gallery"), ([], [], "query")]
)
def test_an_empty_part_is_one_line_that_names_it(ranking, queries, gallery, part):
    with pytest.raises(InputError, match=f"nothing to rank: the {part} has no image"):
        evaluate(ranking, queries, gallery)


@pytest.mark.parametrize("ranking", RANKINGS)
def test_a_query_that_is_there_twice_counts_twice(ranking):
    # Person 0 at rank 1 (AP 1), person 1 at rank 2 behind person 0 (AP 1/2); once each: mAP 75, person 1 twice: 200/3.
    gallery = [(1, 0, 1), (30, 0, 1), (50, 1, 1), (80, 2, 1)]
    first, second = (0, 0, 0), (33, 1, 0)
    # person 0 has two matches, at ranks 1 and 2: AP 1, INP 1; person 1 one, at rank 2: AP 1/2, INP 1/2
    assert figures(evaluate(ranking, [first, second], gallery)) == (50, 100, 100, 75, 75)
    assert figures(evaluate(ranking, [first, second, second], gallery)) == (33.333, 100, 100, 66.667, 66.667)


@pytest.mark.parametrize("ranking", RANKINGS)
def test_a_gallery_image_that_is_there_twice_is_two_matches_or_two_strangers(ranking):
    # The match once at rank 1, a stranger, the match's copy ranks with it: 1 and 2. AP (1/1 + 2/2) / 2, INP 2/2.
    match, stranger = (10, 0, 1), (20, 5, 1)
    assert figures(evaluate(ranking, [(0, 0, 0)], [match, stranger, match])) == (100, 100, 100, 100, 100)
    # A stranger twice before the match, which then has rank 3: AP 1/3, INP 1/3.
    assert figures(evaluate(ranking, [(0, 0, 0)], [(5, 5, 1), (10, 0, 1), (5, 5, 1)])) == (0, 100, 100, 33.333, 33.333)


@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize("option", ["TEST__AQE__ENABLED", "TEST__RERANK__ENABLED"])
def test_one_query_and_one_image_are_found_with_expansion_and_reranking_too(ranking, option):
    results = evaluate(ranking, [(0, 7, 0)], [(40, 7, 1)], **{option: True})
    assert figures(results) == (100, 100, 100, 100, 100)


def evaluate_on_three(folder: str) -> None:
    """Two images for three processes: the last one has none, and never calls process(). Then no image for any."""
    rank, seen = comm.get_rank(), {}
    for ranking in RANKINGS:
        found = evaluator(ranking, 1, OUTPUT_DIR=folder)
        if rank < 2:
            labels = {"targets": torch.tensor([7]), "camids": torch.tensor([rank])}
            found.process(labels, torch.tensor([[1.0, 0.1 * rank]]))
        seen[ranking] = {name: float(value) for name, value in found.evaluate().items()}
        try:
            evaluator(ranking, 1, OUTPUT_DIR=folder).evaluate()
        except InputError as error:
            seen[f"{ranking}, empty"] = str(error)
    Path(folder, f"{rank}.json").write_text(json.dumps(seen))


@pytest.mark.slow
def test_fewer_images_than_processes_are_ranked_and_none_is_one_line_in_each(tmp_path):
    launch(evaluate_on_three, 3, dist_url="auto", args=(str(tmp_path),))
    first, *others = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3))
    for ranking in RANKINGS:
        assert figures(first[ranking]) == (100, 100, 100, 100, 100)
        assert first[f"{ranking}, empty"] == "there is nothing to rank: the query has no image"
    assert others == [{**first, "host": {}, "blocked": {}}] * 2
