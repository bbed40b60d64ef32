import pytest
import torch
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


@pytest.mark.parametrize("switch", ["RERANK", "AQE", "ROC", "FLIP", "PRECISE_BN"])
def test_every_option_of_the_evaluation_runs_on_the_cpu(igoas_cfg, switch):
    igoas_cfg.SOLVER.MAX_EPOCH = 1
    igoas_cfg.TEST[switch].ENABLED = True
    igoas_cfg.TEST.PRECISE_BN.DATASET, igoas_cfg.TEST.PRECISE_BN.NUM_ITER = "TinyReID", 2
    results = start(igoas_cfg).train()
    assert 0 <= results["mAP"] <= 100
    assert ("TPR@FPR=1e-02" in results) == (switch == "ROC")
