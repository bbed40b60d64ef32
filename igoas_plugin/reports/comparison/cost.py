"""What a model costs: parameters, operations, and time of a step on this machine."""

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from igoas_plugin.core.allocator import keep_on_cpu
from igoas_plugin.core.run_progress import ensured_storage
from igoas_plugin.core.timing import measure, random_batch
from igoas_plugin.fastreid_fixes.amp import amp_dtype, autocast_to
from igoas_plugin.fastreid_fixes.device import usable_device
from igoas_plugin.preflight import build_scratch_model


class Cost(NamedTuple):
    """Of one model.

    Args:
        parameters: those that the descriptor depends on: without the classifiers of the training identities.
        flops: floating-point operations of the descriptor of one image; a multiplication and an addition are two.
    """

    parameters: int
    flops: int


def cost_of(cfg) -> Cost:
    """Measured on a model without weights, at INPUT.SIZE_TEST."""
    model = build_scratch_model(cfg, identities=2).eval().requires_grad_(True)
    image = random_batch(cfg.INPUT.SIZE_TEST, 1, torch.device("cpu"))
    model(image).sum().backward()
    used = [each for each in model.parameters() if each.grad is not None]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return Cost(sum(each.numel() for each in used), counter.get_total_flops())


def seconds_per_step(cfg, steps: int = 3) -> tuple[float, float]:
    """Measures seconds of a training step and of the descriptors of a test batch, the first of each left out.

    Forward and backward on random images; the optimiser and the loader come on top.
    """
    device = torch.device(usable_device(cfg.MODEL.DEVICE))
    model, size = build_scratch_model(cfg, identities=2).to(device), cfg.SOLVER.IMS_PER_BATCH
    dtype = amp_dtype(device.type, cfg.SOLVER.AMP.DTYPE) if cfg.SOLVER.AMP.ENABLED else None
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK  # as in a training, also for the evaluations of it
    keep_on_cpu(model)  # as trainings and evaluations do

    def train() -> None:
        with autocast_to(dtype, device.type), ensured_storage():
            sum(model.train()(random_batch(cfg.INPUT.SIZE_TRAIN, size, device)).values()).backward()

    @torch.no_grad()
    def describe() -> None:
        model.eval()(random_batch(cfg.INPUT.SIZE_TEST, cfg.TEST.IMS_PER_BATCH, device))

    # one after the other: they have the memory of one
    rows = [measure({"step": work}, "cost", steps, device=device)[0] for work in (train, describe)]
    return rows[0].median, rows[1].median
