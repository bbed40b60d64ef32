import igoas_plugin  # first: it patches fast-reid

# isort: split

import numpy as np
import pytest
import torch
from fastreid.evaluation import ReidEvaluator, query_expansion, rank, rank_cylib, reid_evaluation, roc
from test_dense_reranking import rerank_by_hand
from torch.nn.functional import normalize

from igoas_plugin.fastreid_fixes import dense_ranking


def rank_by_hand(distances, q_pids, g_pids, q_camids, g_camids, max_rank):
    """Returns CMC, AP and INP of the Market-1501 protocol, computed image by image."""
    cmc, aps, inps = np.zeros(max_rank), [], []
    for query, (pid, camid) in enumerate(zip(q_pids, q_camids, strict=True)):
        hits = [
            g_pids[image] == pid
            for image in np.argsort(distances[query])
            if not (g_pids[image] == pid and g_camids[image] == camid)
        ]
        if not any(hits):
            continue
        cmc += [any(hits[: position + 1]) for position in range(max_rank)]
        places = [position for position, hit in enumerate(hits, start=1) if hit]
        aps.append(np.mean([found / place for found, place in enumerate(places, start=1)]))
        inps.append(len(places) / places[-1])
    return cmc / len(aps), aps, inps


def evaluate(features, pids, camids, num_query, **options):
    """Returns the metrics of fast-reid's evaluator for given descriptors."""
    cfg = igoas_plugin.get_cfg()
    cfg.merge_from_list([each for option in options.items() for each in (option[0].replace("__", "."), option[1])])
    evaluator = ReidEvaluator(cfg, num_query)
    evaluator.process({"targets": torch.tensor(pids), "camids": torch.tensor(camids)}, features)
    return evaluator.evaluate()


def test_without_the_plugin_a_ranking_that_does_not_compile_ends_the_run(raw_host):
    assert raw_host["failed_make"] == {"exit": 1, "inside": True}
    assert raw_host["warnings_at_import_of_ranking"] == 2


def test_fast_reid_ranks_in_python_and_compiles_nothing(monkeypatch):
    monkeypatch.setattr(rank_cylib, "compile_helper", pytest.fail)
    monkeypatch.setattr(reid_evaluation, "compile_helper", pytest.fail)
    ReidEvaluator(igoas_plugin.get_cfg(), num_query=1)
    assert not rank.IS_CYTHON_AVAI and not roc.IS_CYTHON_AVAI


def test_without_the_plugin_the_evaluator_needs_ten_gallery_images(raw_host):
    assert raw_host["evaluator_with_five_gallery_images"].startswith("IndexError")


def test_without_the_plugin_queries_may_not_lose_different_numbers_of_images(raw_host):
    assert raw_host["queries_that_lose_different_numbers_of_images"].startswith("ValueError")


def test_queries_that_are_left_out_are_counted_where_the_metrics_are_logged(host_log):
    distances = np.random.default_rng(0).random((3, 60)).astype(np.float32)
    q_pids, g_pids = np.array([0, 1, 99]), np.arange(60) % 20
    q_camids, g_camids = np.array([0, 0, 0]), np.where(g_pids == 1, 0, 1)
    _, precisions, _ = rank.evaluate_rank(distances, q_pids, g_pids, q_camids, g_camids)
    assert len(precisions) == 1
    assert [record.getMessage() for record in host_log.records] == [
        "2 of 3 queries have no gallery image of their identity in another camera: every metric leaves them out"
    ]
    rank.evaluate_rank(distances[:1], q_pids[:1], g_pids, q_camids[:1], g_camids)
    assert len(host_log.records) == 1


def test_rank_10_of_three_gallery_images_is_the_last_rank_there_is():
    # One query of person 0. By distance the gallery holds person 1, person 0, person 2: found at rank 2.
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0]])
    results = evaluate(features, pids=[0, 1, 0, 2], camids=[0, 1, 1, 1], num_query=1)
    assert results["Rank-1"] == 0
    assert results["Rank-5"] == results["Rank-10"] == 100
    assert results["mAP"] == results["mINP"] == 50


@pytest.mark.parametrize("gallery", [3, 9, 12, 49, 51, 60])
def test_small_galleries_rank_as_they_do_by_hand(gallery):
    for seed in range(4):
        draw = np.random.default_rng(seed)
        images = (
            draw.random((15, gallery), dtype=np.float32),
            draw.integers(4, size=15),
            draw.integers(4, size=gallery),
            draw.integers(2, size=15),
            draw.integers(2, size=gallery),
        )
        for found, expected in zip(rank.evaluate_rank(*images), rank_by_hand(*images, max_rank=50), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_the_cuhk03_cmc_of_two_people_goes_on_with_its_last_value():
    # Ranked by identity: person 1 before person 0, so rank 2 is the first with a hit, and the last there is.
    images = np.array([[0.2, 0.1]]), np.array([0]), np.array([0, 1]), np.array([0]), np.array([1, 1])
    cmc, mean_ap = rank.evaluate_rank(*images, max_rank=5, use_metric_cuhk03=True)
    assert cmc.tolist() == [0, 1, 1, 1, 1]
    assert mean_ap == 0.5


def test_a_large_gallery_reaches_fast_reid_unchanged(monkeypatch):
    given = []
    monkeypatch.setattr(
        dense_ranking, "original_evaluate_rank", lambda *arguments: given.extend(arguments) or (0, [1], [1])
    )
    pids, camids = np.arange(100), np.zeros(100, dtype=int)
    distances = np.zeros((1, 100))
    rank.evaluate_rank(distances, pids[:1], pids, camids[:1], camids)
    assert given[0] is distances and given[2] is pids and given[4] is camids


def test_without_the_plugin_query_expansion_needs_more_images_than_neighbours(raw_host):
    assert raw_host["query_expansion_with_six_images"].startswith("ValueError")


def expand_by_hand(features, neighbours, alpha):
    """Returns for each image the mean of the nearest descriptors, whose weights are cosine similarities ** alpha."""
    expanded = []
    for feature in normalize(features):
        similarity = normalize(features) @ feature
        nearest = similarity.argsort(descending=True)[:neighbours]
        expanded.append((features[nearest] * similarity[nearest, None] ** alpha).mean(dim=0))
    return torch.stack(expanded)


def test_query_expansion_takes_the_weighted_mean_of_the_nearest_images():
    features = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)).abs()  # similarities > 0
    query, gallery = query_expansion.aqe(features[:5], features[5:], qe_times=1, qe_k=3, alpha=3.0)
    torch.testing.assert_close(torch.cat([query, gallery]), expand_by_hand(features, 3, 3))


def test_query_expansion_of_few_images_takes_what_there_is():
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    few = query_expansion.aqe(features[:2], features[2:], qe_k=10)
    for found, expected in zip(few, query_expansion.aqe(features[:2], features[2:], qe_k=5), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_without_the_plugin_the_cuhk03_protocol_fails_with_numpy_1_26(raw_host):
    assert raw_host["cuhk03_protocol_with_numpy_1_26"].startswith("AttributeError")


def test_the_cuhk03_protocol_runs_where_numpy_has_no_bool(monkeypatch):
    monkeypatch.setattr(rank, "np", np)
    monkeypatch.delattr(np, "bool", raising=False)
    dense_ranking.name_bool_in_cuhk03_protocol()
    zero = np.array([0])
    assert rank.eval_cuhk03(np.zeros((1, 1)), zero, zero, zero, zero + 1, max_rank=1)[0].tolist() == [1]
    assert not hasattr(np, "bool")


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_every_way_to_test_runs_on_the_cpu_and_finds_well_separated_people(metric):
    generator = torch.Generator().manual_seed(0)
    pids = [0, 1, 2] + [0, 1, 2] * 8
    features = normalize(torch.eye(3)[pids] + 0.05 * torch.randn(27, 3, generator=generator))
    options = {"TEST__METRIC": metric, "TEST__AQE__ENABLED": True, "TEST__RERANK__ENABLED": True}
    results = evaluate(features, pids, [0] * 3 + [1] * 24, 3, TEST__ROC__ENABLED=True, **options)
    assert results["Rank-1"] == results["mAP"] == results["mINP"] == 100
    assert all(results[f"TPR@FPR={rate}"] == 100 for rate in ("1e-04", "1e-03", "1e-02"))


def roc_by_hand(distances, q_pids, g_pids, q_camids, g_camids, target):
    """Returns the largest share of genuine pairs, in %, that any threshold accepts with a FPR of at most `target`."""
    pairs = {True: [], False: []}
    for query, image in np.ndindex(distances.shape):
        genuine = q_pids[query] == g_pids[image]
        if not (genuine and q_camids[query] == g_camids[image]):
            pairs[genuine].append(distances[query, image])
    allowed = [limit for limit in pairs[True] if np.mean(np.array(pairs[False]) <= limit) <= target]
    return 100 * np.mean(np.array(pairs[True]) <= max(allowed, default=-np.inf))


@pytest.mark.parametrize("ranking", ["host", "auto"])
@pytest.mark.parametrize("option", ["AQE", "RERANK", "ROC"])
def test_every_metric_of_a_random_model_is_that_of_the_method_written_image_by_image(option, ranking):
    draw, queries = np.random.default_rng(0), 12
    pids, camids = draw.integers(6, size=72), draw.integers(3, size=72)
    # identities overlap, and all similarities are positive, as a root of them in AQE may need
    features = torch.tensor(draw.random((6, 8))[pids] + draw.random((72, 8)), dtype=torch.float32)
    results = evaluate(features, pids, camids, queries, **{f"TEST__{option}__ENABLED": True, "TEST__RANKING": ranking})

    ranked = normalize(expand_by_hand(features, 5, 3) if option == "AQE" else features)
    distances = (1 - ranked[:queries] @ ranked[queries:].T).numpy()
    if option == "RERANK":
        distances = 0.3 * distances + 0.7 * rerank_by_hand(ranked, 20, 6)[:queries, queries:]
    images = distances, pids[:queries], pids[queries:], camids[:queries], camids[queries:]
    cmc, precisions, inps = rank_by_hand(*images, max_rank=10)
    expected = {f"Rank-{rank}": 100 * cmc[rank - 1] for rank in (1, 5, 10)}
    expected |= {"mAP": 100 * np.mean(precisions), "mINP": 100 * np.mean(inps)}
    expected["metric"] = (expected["Rank-1"] + expected["mAP"]) / 2
    if option == "ROC":
        expected |= {f"TPR@FPR={target:.0e}": roc_by_hand(*images, target) for target in (1e-4, 1e-3, 1e-2)}
        assert 0 < expected["TPR@FPR=1e-02"] < 50
    assert dict(results) == pytest.approx(expected, abs=1e-3)
    assert 10 < expected["mAP"] < 90 and 5 < expected["mINP"] < 90


def test_demo_scripts_of_fast_reid_import_the_ranking_from_its_package(raw_host):
    assert raw_host["evaluate_rank_exported"] is False
    from fastreid.evaluation import evaluate_rank

    assert evaluate_rank is rank.evaluate_rank is dense_ranking.evaluate_rank


def test_the_roc_is_of_all_pairs_but_those_of_one_person_in_one_camera():
    draw = np.random.default_rng(0)
    distances, camids = draw.random((4, 9), dtype=np.float32), np.arange(9) % 2
    query, gallery = np.array([0, 1, 2, 3]), np.arange(9) % 4
    expected = [
        (-distances[one, other], float(query[one] == gallery[other]))
        for one in range(4)
        for other in range(9)
        if not (query[one] == gallery[other] and camids[one] == camids[other])
    ]
    scores, labels = roc.evaluate_roc(distances, query, gallery, camids[:4], camids)
    assert sorted(zip(scores, labels, strict=True)) == sorted(expected)


def pairs_of(genuine, impostor):
    """Returns labels and scores of pairs, given by their distances."""
    return np.repeat([1.0, 0.0], [len(genuine), len(impostor)]), -np.concatenate([genuine, impostor])


def test_pairs_that_are_separated_are_all_found_at_every_false_positive_rate(raw_host):
    assert raw_host["roc_of_pairs_that_are_separated"] == [0, 0, 0]
    targets, found, _ = dense_ranking.tpr_at_targets(*pairs_of(np.linspace(0, 0.1, 12), np.linspace(0.5, 1, 200)))
    assert targets.tolist() == [1e-4, 1e-3, 1e-2] and found.tolist() == [100, 100, 100]


def test_the_largest_tpr_at_a_false_positive_rate_is_scikit_learn_s():
    from sklearn.metrics import roc_curve

    draw = np.random.default_rng(0)
    genuine, impostor = draw.normal(0.4, 0.1, 5000), draw.normal(0.8, 0.15, 50000)
    cases = [
        (genuine, impostor),  # 5, 50 and 500 impostor pairs may be accepted
        (genuine.round(1), impostor.round(1)),  # many pairs of one distance are accepted together or not at all
        (genuine[:50], impostor[:99]),  # none may be accepted
        *((genuine[:100], impostor[:count]) for count in (100, 101, 10000, 29999, 30000, 30001)),
    ]
    for labels, scores in (pairs_of(*case) for case in cases):
        fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
        expected = [100 * tpr[fpr <= target].max() for target in (1e-4, 1e-3, 1e-2)]
        np.testing.assert_allclose(dense_ranking.tpr_at_targets(labels, scores)[1], expected, rtol=1e-12)


def test_the_roc_that_a_demo_draws_is_that_of_the_genuine_pairs(raw_host, tmp_path):
    from fastreid.utils.visualizer import Visualizer

    assert raw_host["roc_curve_of_the_visualizer"] == 0.5  # that of the impostor pairs: one of two is farther
    drawn, pids = Visualizer(None), np.array([0, 1, 2])
    drawn.get_model_output(None, np.array([[0.1, 0.05, 0.9]]), pids[:1], pids, pids[:1], pids + 1)
    fpr, tpr, genuine, impostor = drawn.vis_roc_curve(str(tmp_path))
    # the nearest pair is an impostor one, so the genuine pair needs half of them accepted
    assert tpr[fpr == 0].max() == 0 and tpr[fpr <= 0.5].max() == 1
    assert list(genuine) == [0.1] and list(impostor) == [0.05, 0.9]
    assert (tmp_path / "roc.jpg").stat().st_size > 0


def test_without_impostor_pairs_every_genuine_one_is_accepted():
    assert dense_ranking.tpr_at_targets(*pairs_of(np.ones(3), np.ones(0)))[1].tolist() == [100, 100, 100]
