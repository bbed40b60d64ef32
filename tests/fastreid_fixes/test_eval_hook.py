import numpy as np
import pytest
import torch
from fastreid.evaluation import rank
from runs import logged, start

from igoas_plugin.evaluation import evaluator


@pytest.mark.parametrize("period", [0, 2, 5])
def test_the_last_epoch_is_evaluated_before_its_checkpoint_whatever_the_period(baseline_cfg, raw_host, period):
    assert raw_host["evaluation_period_zero"].startswith("ZeroDivisionError")
    assert raw_host["metrics_of_the_last_evaluation_in_the_log"] is False
    baseline_cfg.SOLVER.MAX_EPOCH, baseline_cfg.TEST.EVAL_PERIOD = 3, period
    results = start(baseline_cfg).train()
    saved = torch.load(f"{baseline_cfg.OUTPUT_DIR}/model_final.pth", weights_only=True)
    assert saved["metric"] == pytest.approx(results["metric"])
    lines = logged(baseline_cfg)
    assert lines[-1]["Rank-1"] == pytest.approx(results["Rank-1"])
    assert sum("Rank-1" in line for line in lines) == (2 if period == 2 else 1)


@pytest.mark.parametrize("ranking", ["host", "auto"])
@pytest.mark.parametrize("switch", [None, "RERANK", "AQE", "ROC", "FLIP", "PRECISE_BN"])
def test_every_option_of_the_evaluation_does_its_work_on_the_cpu(igoas_cfg, monkeypatch, switch, ranking):
    ranked, rank_distances, rank_in_blocks = [], rank.evaluate_rank, evaluator.rank_in_blocks

    def note_blocks(blocks, *labels, **rule):
        ranked.append(torch.cat([rows.clone() for _, rows in blocks]).numpy())
        return rank_in_blocks(blocks, *labels, **rule)

    monkeypatch.setattr(rank, "evaluate_rank", lambda *args: ranked.append(args[0]) or rank_distances(*args))
    monkeypatch.setattr(evaluator, "rank_in_blocks", note_blocks)
    igoas_cfg.TEST.RANKING = ranking
    igoas_cfg.SOLVER.MAX_EPOCH, igoas_cfg.TEST.METRIC = 1, "euclidean"
    igoas_cfg.TEST.PRECISE_BN.DATASET, igoas_cfg.TEST.PRECISE_BN.NUM_ITER = "TinyReID", 2
    start(igoas_cfg).train()
    if switch:
        igoas_cfg.TEST[switch].ENABLED = True
    results = start(igoas_cfg).train()
    assert all(0 <= results[name] <= 100 for name in ("Rank-1", "mAP", "mINP"))
    assert ("TPR@FPR=1e-02" in results) == (switch == "ROC")
    unchanged = np.allclose(*ranked, rtol=0, atol=1e-4)  # fast-reid's ranking, used for a ROC curve, rounds differently
    assert unchanged == (switch in (None, "ROC"))  # the other options change the distances
