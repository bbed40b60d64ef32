import numpy as np
import pytest
import torch
from fastreid.evaluation import rank
from runs import logged, start


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


@pytest.mark.parametrize("switch", [None, "RERANK", "AQE", "ROC", "FLIP", "PRECISE_BN"])
def test_every_option_of_the_evaluation_does_its_work_on_the_cpu(igoas_cfg, monkeypatch, switch):
    ranked, rank_distances = [], rank.evaluate_rank
    monkeypatch.setattr(rank, "evaluate_rank", lambda *args: ranked.append(args[0]) or rank_distances(*args))
    igoas_cfg.SOLVER.MAX_EPOCH, igoas_cfg.TEST.METRIC = 1, "euclidean"
    igoas_cfg.TEST.PRECISE_BN.DATASET, igoas_cfg.TEST.PRECISE_BN.NUM_ITER = "TinyReID", 2
    start(igoas_cfg).train()
    if switch:
        igoas_cfg.TEST[switch].ENABLED = True
    results = start(igoas_cfg).train()
    assert all(0 <= results[name] <= 100 for name in ("Rank-1", "mAP", "mINP"))
    assert ("TPR@FPR=1e-02" in results) == (switch == "ROC")
    assert np.array_equal(*ranked) == (switch in (None, "ROC"))  # the others change what is ranked
