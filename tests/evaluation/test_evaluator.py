import igoas_plugin  # first: it patches fast-reid

# isort: split
import os

import numpy as np
import pytest
import torch
from fastreid.engine import launch
from fastreid.evaluation import ReidEvaluator, rank
from fastreid.utils import comm

from igoas_plugin.core.errors import InputError
from igoas_plugin.evaluation import evaluator
from igoas_plugin.evaluation.ranking import centralise, distances, memory
from igoas_plugin.fastreid_fixes.dense_ranking import RECENT_CMC
from igoas_plugin.preflight import check_names, check_settings

QUERIES, IMAGES = 12, 90


def described(seed=0) -> dict[str, torch.Tensor]:
    """Returns descriptors of queries and gallery, of people who overlap."""
    generator = torch.Generator().manual_seed(seed)
    pids = torch.randint(6, (QUERIES + IMAGES,), generator=generator)
    features = torch.randn(6, 16, generator=generator)[pids] + torch.randn(len(pids), 16, generator=generator)
    return {"feats": features, "pids": pids, "camids": torch.randint(3, (len(pids),), generator=generator)}


def results(given, batch=16, **options) -> dict:
    cfg = igoas_plugin.get_cfg()
    cfg.merge_from_list([each for key, value in options.items() for each in (key.replace("__", "."), value)])
    found = ReidEvaluator(cfg, QUERIES)
    for start in range(0, len(given["pids"]), batch):
        part = slice(start, start + batch)
        found.process({"targets": given["pids"][part], "camids": given["camids"][part]}, given["feats"][part])
    return found.evaluate()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("option", [None, "AQE", "RERANK"])
def test_the_metrics_are_fast_reid_s(metric, option):
    options = {"TEST__METRIC": metric} | ({f"TEST__{option}__ENABLED": True} if option else {})
    given = described()
    ours, theirs = (results(given, TEST__RANKING=ranking, **options) for ranking in ("blocked", "host"))
    assert list(ours) == list(theirs)
    # images may change places if their distances are equal in float32
    assert dict(ours) == pytest.approx(dict(theirs), abs=1e-3)
    assert 5 < ours["mAP"] < 95


@pytest.mark.parametrize("ranking", ["blocked", "host"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("option", [None, "AQE", "RERANK"])
def test_nfc_ranks_descriptors_with_their_neighbours_in_front_of_every_other_step(ranking, metric, option):
    options = {"TEST__METRIC": metric, "TEST__RANKING": ranking}
    options |= {f"TEST__{option}__ENABLED": True} if option else {}
    given = described()
    for sides, first in (("gallery", QUERIES), ("both", 0)):
        nfc = {"TEST__NFC__ENABLED": True, "TEST__NFC__K": 3, "TEST__NFC__SIDES": sides, "TEST__NFC__SIMILARITY": 0.2}
        found = results(given, **nfc, **options)
        expected = results({**given, "feats": centralise(given["feats"], first, 3, 0.2)}, **options)
        assert dict(found) == pytest.approx(dict(expected), abs=1e-3)
        assert found != results(given, **options)
    assert torch.equal(given["feats"], described()["feats"])


def test_with_nfc_of_the_gallery_a_query_is_as_far_alone_as_among_others():
    cfg, features = igoas_plugin.get_cfg(), described()["feats"]
    cfg.TEST.NFC.ENABLED = True
    alone = torch.cat([features[4:5], features[QUERIES:]])
    for sides, same in (("gallery", True), ("both", False)):
        cfg.TEST.NFC.SIDES = sides
        [(_, among)], [(_, own)] = evaluator.distances_of(cfg, features, QUERIES), evaluator.distances_of(cfg, alone, 1)
        assert torch.allclose(among[4], own[0], atol=1e-6) == same


def test_without_nfc_the_descriptors_are_the_given_ones():
    features = described()["feats"]
    assert evaluator.centralised(igoas_plugin.get_cfg(), features, QUERIES) is features


def test_nfc_and_a_roc_curve_without_the_camera_rule_go_together():
    given = described()
    found = results(given, TEST__NFC__ENABLED=True, TEST__ROC__ENABLED=True, TEST__CAMERA_RULE=False)
    ranked = results(given, TEST__NFC__ENABLED=True, TEST__CAMERA_RULE=False)
    assert "TPR@FPR=1e-02" in found and found["mAP"] == pytest.approx(ranked["mAP"], abs=1e-3)


def test_a_block_of_queries_is_ranked_at_once_and_not_all_of_them(raw_host, monkeypatch):
    assert raw_host["distances_that_are_ranked_at_once"] == [[8, 100]]
    shapes, rank_in_blocks = [], evaluator.rank_in_blocks
    monkeypatch.setattr(distances, "BLOCK_BYTES", 4 * 5 * IMAGES)

    def note(blocks, *labels, **rule):
        shapes.extend(list(rows.shape) for _, rows in blocks)
        return rank_in_blocks(blocks, *labels, **rule)

    monkeypatch.setattr(evaluator, "rank_in_blocks", note)
    results(described())
    assert shapes == [[4, IMAGES]] * 3


def test_auto_is_in_blocks_except_for_a_roc_curve(monkeypatch):
    called = []
    monkeypatch.setattr(rank, "evaluate_rank", lambda *args: called.append(1) or (np.ones(50), np.ones(1), np.ones(1)))
    results(described())
    assert not called
    assert "TPR@FPR=1e-02" in results(described(), TEST__ROC__ENABLED=True)
    assert called


def test_a_config_of_fast_reid_is_ranked_in_blocks_too(monkeypatch):
    from fastreid.config import get_cfg

    monkeypatch.setattr(rank, "evaluate_rank", None)
    given = described()
    found = ReidEvaluator(get_cfg(), QUERIES)
    found.process({"targets": given["pids"], "camids": given["camids"]}, given["feats"])
    assert 5 < found.evaluate()["mAP"] < 95
    assert found.evaluate() == found.evaluate()


def test_in_blocks_there_is_no_roc_curve():
    cfg = igoas_plugin.get_cfg()
    cfg.TEST.RANKING, cfg.TEST.ROC.ENABLED = "blocked", True
    with pytest.raises(InputError, match="TEST.RANKING blocked cannot give TEST.ROC.* take auto or host"):
        check_settings(cfg, train=False)
    cfg.TEST.RANKING = "blocks"
    with pytest.raises(InputError, match="TEST.RANKING must be auto, blocked or host, got blocks"):
        check_names(cfg)


def test_the_curve_is_kept_and_queries_that_are_left_out_are_counted(host_log):
    given = described()
    given["pids"][:2] = 99
    RECENT_CMC.clear()
    found = results(given)
    [curve] = RECENT_CMC
    assert 100 * curve[0] == found["Rank-1"] and len(curve) == 50
    assert [record.getMessage() for record in host_log.records if "queries" in record.getMessage()] == [
        "2 of 12 queries have no gallery image of their identity in another camera: every metric leaves them out"
    ]


@pytest.mark.parametrize("ranking", ["blocked", "host"])
def test_nothing_to_rank_is_one_line_with_the_remedy(ranking):
    given = described()
    given["camids"][:] = 0
    with pytest.raises(InputError, match="in another camera: .* different camera ids, or set TEST.CAMERA_RULE False"):
        results(given, TEST__RANKING=ranking)
    given["pids"][:QUERIES] = 99
    with pytest.raises(InputError, match="no query has a gallery image of its identity: there is nothing to rank"):
        results(given, TEST__RANKING=ranking, TEST__CAMERA_RULE=False)


@pytest.mark.parametrize("option", [None, "ROC"])
def test_without_the_camera_rule_every_camera_is_ranked_as_if_it_were_another_one(option):
    given, options = described(), {f"TEST__{option}__ENABLED": True} if option else {}
    others = {**given, "camids": torch.arange(QUERIES + IMAGES)}  # the rule leaves nothing out
    for ranking in ("auto", "host"):
        options["TEST__RANKING"] = ranking
        found = results(given, TEST__CAMERA_RULE=False, **options)
        assert dict(found) == dict(results(others, **options)) != dict(results(given, **options))
    assert given["camids"].max() == 2


def test_descriptors_that_are_not_finite_are_told_and_found_last(host_log):
    given = described()
    given["feats"][:] = torch.nan
    assert results(given)["Rank-1"] == 0
    [line] = [record.getMessage() for record in host_log.records if "finite" in record.getMessage()]
    assert line.startswith("102 of 102 descriptors hold values that are not finite; have the weights diverged?")
    for option in ("TEST__RERANK__ENABLED", "TEST__AQE__ENABLED", "TEST__NFC__ENABLED"):
        with pytest.raises(InputError, match="TEST.NFC, TEST.AQE and TEST.RERANK need finite ones"):
            results(given, **{option: True})
    with pytest.raises(InputError, match="TEST.NFC, TEST.AQE and TEST.RERANK need finite ones"):
        results(given, TEST__NFC__ENABLED=True, TEST__RANKING="host")


def test_descriptors_beyond_the_memory_go_to_a_file(monkeypatch, tmp_path):
    made, original = [], memory.allocate_in_file
    expected = results(described())
    monkeypatch.setattr(memory, "memory_limit", lambda: 4 * 16 * 40)  # of 40 descriptors
    monkeypatch.setattr(memory, "allocate_in_file", lambda *given: made.append(given[0]) or original(*given))
    assert results(described(), OUTPUT_DIR=str(tmp_path / "run")) == expected
    assert made == [(16, 16)] * 4 + [(6, 16)] + [(102, 16)]  # batches from the third on; then all of them
    assert os.listdir(tmp_path / "run") == []


def evaluate_in_parts(folder):
    """Evaluates on fast-reid's ranking with NFC by three processes, of which the last has no image."""
    given, rank = described(), comm.get_rank()
    cfg = igoas_plugin.get_cfg()
    cfg.TEST.NFC.ENABLED, cfg.TEST.RANKING, cfg.OUTPUT_DIR = True, "host", folder
    found = ReidEvaluator(cfg, QUERIES)
    part = slice(rank * 51, (rank + 1) * 51)
    if rank < 2:
        found.process({"targets": given["pids"][part], "camids": given["camids"][part]}, given["feats"][part])
    torch.save(dict(found.evaluate()), os.path.join(folder, f"rank{rank}.pth"))


@pytest.mark.slow
def test_nfc_before_fast_reid_s_ranking_sees_the_images_of_all_processes(tmp_path):
    launch(evaluate_in_parts, 3, dist_url="auto", args=(str(tmp_path),))
    first, *others = (torch.load(tmp_path / f"rank{rank}.pth", weights_only=False) for rank in range(3))
    assert others == [{}, {}]
    assert first == pytest.approx(dict(results(described(), TEST__NFC__ENABLED=True, TEST__RANKING="host")))


def gather_and_save(folder):
    """Gathers on the first of three processes, of which the last has no image, and saves the result of each."""
    given, rank = described(), comm.get_rank()
    own = {name: values[rank * 51 : (rank + 1) * 51] for name, values in given.items()}
    found = ReidEvaluator(igoas_plugin.get_cfg(), QUERIES)
    for at in range(0, len(own["pids"]), 20):
        wide = torch.cat([own["feats"][at : at + 20]] * 2, dim=1)  # a model may return a view of a larger tensor
        labels = {"targets": own["pids"][at : at + 20], "camids": own["camids"][at : at + 20]}
        found.process(labels, wide[:, :16])
    torch.save(evaluator.gather(found._predictions, folder), os.path.join(folder, f"rank{rank}.pth"))


@pytest.mark.slow
def test_the_first_of_several_processes_gets_every_descriptor_in_the_order_of_the_data_set(tmp_path):
    launch(gather_and_save, 3, dist_url="auto", args=(str(tmp_path),))
    first, *others = (torch.load(tmp_path / f"rank{rank}.pth") for rank in range(3))
    assert others == [None, None]
    for name, values in described().items():
        assert torch.equal(first[name], values)


def test_a_batch_is_freed_once_it_is_copied():
    given = described()
    batches = [{name: values[part] for name, values in given.items()} for part in (slice(50), slice(50, None))]
    whole = evaluator.gather(batches, "")
    assert len(batches) == 1 and batches[0] is whole
    assert evaluator.gather([whole], "") is whole  # a single batch is not copied
