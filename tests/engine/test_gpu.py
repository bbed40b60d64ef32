"""Training on a GPU: in float32, and in float16 with scaled gradients."""

import math

import pytest
import torch
from runs import frozen_names, logged, start, unchanged, weights

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("amp", [False, True])
def test_it_trains_evaluates_and_keeps_frozen_layers(igoas_cfg, amp):
    igoas_cfg.MODEL.DEVICE, igoas_cfg.SOLVER.AMP.ENABLED = "cuda", amp
    igoas_cfg.MODEL.IGOAS.FREEZE_EPOCHS = igoas_cfg.SOLVER.MAX_EPOCH
    trainer, types = start(igoas_cfg), set()
    branch = trainer._trainer.model.global_branch
    branch.extra_block.register_forward_hook(lambda module, inputs, output: types.add((module.training, output.dtype)))
    before = weights(trainer)
    results = trainer.train()
    assert types == {(True, torch.float16 if amp else torch.float32), (False, torch.float32)}
    assert all(math.isfinite(line["total_loss"]) for line in logged(igoas_cfg)) and 0 <= results["Rank-1"] <= 100
    assert all(value.is_cuda for value in weights(trainer).values())
    assert unchanged(before, weights(trainer)) == frozen_names(before)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_step_lets_the_cpu_wait_for_nothing(igoas_cfg, dtype):
    igoas_cfg.MODEL.DEVICE, igoas_cfg.SOLVER.AMP.ENABLED, igoas_cfg.SOLVER.AMP.DTYPE = "cuda", True, dtype
    trainer, watched = start(igoas_cfg), []
    run_step = trainer.run_step

    def watched_step():
        watched.append(trainer.iter > 0)  # in the first step libraries set themselves up
        torch.cuda.set_sync_debug_mode("error" if watched[-1] else "default")
        try:
            run_step()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    trainer.run_step = watched_step
    trainer.train()
    assert sum(watched) == len(watched) - 1 > 0
    assert all(math.isfinite(line["total_loss"]) for line in logged(igoas_cfg))
