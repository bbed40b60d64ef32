import pytest
import torch
from runs import logged, start, weights

from igoas_plugin.errors import InputError


def test_a_finished_run_says_so_and_evaluates(baseline_cfg, raw_host, host_log):
    assert raw_host["resuming_a_finished_run"].startswith("AttributeError")
    first = start(baseline_cfg)
    results = first.train()
    before = weights(first)
    again = start(baseline_cfg, resume=True)
    assert again.train() == results
    assert all(torch.equal(value, before[key]) for key, value in weights(again).items())
    assert "nothing is trained" in host_log.text


def test_resuming_goes_on_at_the_right_epoch_with_the_same_optimiser(igoas_cfg, tmp_path):
    igoas_cfg.SOLVER.MAX_EPOCH = 1
    start(igoas_cfg).train()
    igoas_cfg.SOLVER.MAX_EPOCH = 3
    resumed = start(igoas_cfg, resume=True)
    assert resumed.start_epoch == 1
    assert all(state["step"] == 2 for state in resumed.optimizer.state_dict()["state"].values())
    resumed.train()
    iterations = [line["iteration"] for line in logged(igoas_cfg)]
    assert iterations == [1, 3, 5]


def test_nothing_to_resume_is_said(baseline_cfg, host_log):
    start(baseline_cfg, resume=True)
    assert "has no last_checkpoint; training starts at epoch 0" in host_log.text


def test_other_settings_of_the_optimiser_cannot_be_resumed(baseline_cfg):
    baseline_cfg.SOLVER.MAX_EPOCH = 1
    start(baseline_cfg).train()
    baseline_cfg.SOLVER.HEADS_LR_FACTOR = 2.0  # one group of parameters more
    with pytest.raises(InputError, match="cannot be resumed with other SOLVER or FREEZE settings"):
        start(baseline_cfg, resume=True)
