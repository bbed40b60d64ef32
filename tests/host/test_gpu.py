"""A training on a GPU: float32, and float16 with scaled gradients."""

import math

import pytest
import torch
from runs import logged, start, weights

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("amp", [False, True])
def test_it_trains_evaluates_and_keeps_frozen_layers(igoas_cfg, amp):
    igoas_cfg.MODEL.DEVICE, igoas_cfg.SOLVER.AMP.ENABLED = "cuda", amp
    igoas_cfg.MODEL.IGOAS.FREEZE_EPOCHS = igoas_cfg.SOLVER.MAX_EPOCH
    trainer = start(igoas_cfg)
    before, types = weights(trainer), set()
    trainer._trainer.model.backbone.conv1.register_forward_hook(
        lambda module, inputs, output: types.add(output.dtype) if module.training or amp else None
    )
    results = trainer.train()
    after = weights(trainer)
    assert types == ({torch.float16, torch.float32} if amp else {torch.float32})  # evaluation is in float32
    assert all(math.isfinite(line["total_loss"]) for line in logged(igoas_cfg)) and 0 <= results["Rank-1"] <= 100
    assert after["backbone.conv1.weight"].is_cuda
    frozen = [name for name in before if name.startswith("backbone.")]
    assert frozen and all(torch.equal(before[name], after[name]) for name in frozen)
