"""Benchmark of training steps: fast-reid's way beside the plugin's."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from fastreid.engine.train_loop import AMPTrainer, SimpleTrainer
from fastreid.solver import build_optimizer
from fastreid.utils.events import EventStorage
from torch.utils.flop_counter import FlopCounterMode

from igoas_plugin.core.timing import Row, measure, name_of, random_batch
from igoas_plugin.fastreid_fixes.amp import amp_dtype, compute_in
from igoas_plugin.fastreid_fixes.device import usable_device
from igoas_plugin.modeling.compilation import require_compiler
from igoas_plugin.preflight import build_scratch_model

from .memory import measure_memory

IDENTITIES = 702  # of Occluded-Duke's training set
FACTORS = 4096  # rows and columns of the matrices whose product measures the peak of a device


class Way(NamedTuple):
    """Way of training a step, in a dtype, with or without kept memory; ways with it are timed last."""

    name: str
    step: Callable[[], None]
    dtype: torch.dtype = torch.float32
    keeps_memory: bool = False


def training(cfg, batch: int, repeats: int, profile: bool = False) -> Iterator[Row]:
    """Times steps on random images of INPUT.SIZE_TRAIN: forward, backward, optimiser and log, without the loader.

    Args:
        cfg: of the model and the solver; MODEL.WEIGHTS is not read, because the time does not depend on it. With
            MODEL.IGOAS.COMPILE there is one more row, with the time of its first step.
        batch: images of a step.
        repeats: of each way.
        profile: whether the largest costs of each way are measured too.
    """
    device = torch.device(usable_device(cfg.MODEL.DEVICE))
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK  # as fast-reid's default_setup()
    if cfg.MODEL.IGOAS.COMPILE:
        require_compiler(cfg.MODEL.DEVICE)
    mixed = amp_dtype(device.type, cfg.SOLVER.AMP.DTYPE)
    eager = cfg.clone()
    eager.defrost()
    eager.MODEL.IGOAS.COMPILE = False
    default = steps(eager, batch, device)
    ways = [
        Way("plain", steps(eager, batch, device, fused=False)),
        Way("fused optimiser", default),
    ]
    if device.type == "cpu":
        ways.append(Way("fused optimiser, kept memory", default, keeps_memory=True))
    if mixed is not None:
        ways.append(
            Way(f"{name_of(mixed)}, channels last", steps(eager, batch, device, mixed), mixed, keeps_memory=True)
        )
    if cfg.MODEL.IGOAS.COMPILE:
        dtype = mixed or torch.float32
        ways.append(Way(f"compiled, {name_of(dtype)}", steps(cfg, batch, device, mixed), dtype, keeps_memory=True))

    usual, kept = ({way.name: way.step for way in ways if way.keeps_memory is keeps} for keeps in (False, True))
    height, width = cfg.INPUT.SIZE_TRAIN
    case = f"{cfg.MODEL.META_ARCHITECTURE} {cfg.MODEL.BACKBONE.DEPTH} {height}x{width}, batch {batch}"
    rows = measure_memory(usual, kept, case, repeats, device, profile, work=batch, unit="images")
    with FlopCounterMode(display=False) as counter:
        default()
    peaks = {dtype: peak(dtype, device) for dtype in {way.dtype for way in ways}}
    for way, row in zip(ways, rows, strict=True):
        if way.name.startswith("compiled"):
            row.facts["first_seconds"] = row.first_seconds
        row.facts["peak_share"] = counter.get_total_flops() / row.median / peaks[way.dtype]
    yield from rows


def steps(cfg, batch: int, device: torch.device, dtype: torch.dtype | None = None, fused: bool = True):
    """Returns a function that trains one step by fast-reid's trainer, on one batch as it comes from the loader."""
    torch.manual_seed(0)
    model = build_scratch_model(cfg, identities=IDENTITIES).to(device).train()
    optimizer, wrapper = build_optimizer(cfg, model)
    if not fused:
        for group in optimizer.param_groups:
            group["fused"] = None  # torch's default: several passes, each over many parameters on a GPU
    kind = SimpleTrainer if dtype is None else AMPTrainer
    images = random_batch(cfg.INPUT.SIZE_TRAIN, batch, device, IDENTITIES)
    trainer = kind(model, itertools.repeat(images), optimizer, wrapper)
    if dtype is not None:
        compute_in(trainer, dtype)
    trainer.storage, trainer.iter = EventStorage(), cfg.SOLVER.FREEZE_ITERS
    trainer.storage.epoch = cfg.SOLVER.MAX_EPOCH  # after every freezing

    def step() -> None:
        with trainer.storage:
            trainer.before_step()
            trainer.run_step()
            trainer.iter += 1

    return step


def peak(dtype: torch.dtype, device: torch.device) -> float:
    """Returns the operations per second of a large matrix product, as the peak of this device in that dtype."""
    one, other = (torch.rand(FACTORS, FACTORS, device=device, dtype=dtype) for _ in range(2))
    times = 100 if device.type == "cuda" else 1  # one product takes less than a millisecond on a GPU
    precision = torch.get_float32_matmul_precision()
    try:
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32, the default of convolutions
        [row] = measure({"products": lambda: [one @ other for _ in range(times)]}, "peak", repeats=3, device=device)
    finally:
        torch.set_float32_matmul_precision(precision)
    return 2 * times * FACTORS**3 / min(row.seconds)
