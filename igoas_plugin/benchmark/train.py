"""Training steps of a config's model by the host's trainer: the plain way, beside what the plugin makes of it."""

import itertools
import time
from collections.abc import Callable, Iterator

import torch
from fastreid.engine.train_loop import AMPTrainer, SimpleTrainer
from fastreid.solver import build_optimizer
from fastreid.utils.events import EventStorage
from torch.utils.flop_counter import FlopCounterMode

from igoas_plugin.check import build_scratch_model
from igoas_plugin.host.amp import amp_dtype, compute_in
from igoas_plugin.host.device import usable_device
from igoas_plugin.host.kept_memory import glibc, keep_freed_memory

from .batch import random_batch
from .measure import Row, measure

IDENTITIES = 702  # of Occluded-Duke's training set
FACTORS = 4096  # rows and columns of the matrices whose product tells the peak of a device


def training(cfg, batch: int, repeats: int) -> Iterator[Row]:
    """Steps on random images of INPUT.SIZE_TRAIN: forward, backward, optimiser and log; the loader is left out.

    Args:
        cfg: of the model and the solver; MODEL.WEIGHTS is not read: the time does not depend on them. With
            MODEL.IGOAS.COMPILE there is one more row, and how long its first step took.
        batch: images of a step.
        repeats: of each way.
    """
    device = torch.device(usable_device(cfg.MODEL.DEVICE))
    mixed = amp_dtype(device.type, cfg.SOLVER.AMP.DTYPE)
    eager = cfg.clone()
    eager.defrost()
    eager.MODEL.IGOAS.COMPILE = False
    ways: dict[str, Callable[[], None]] = {
        "plain": steps(eager, batch, device, fused=False),
        "fused optimiser": steps(eager, batch, device),
    }
    keeps = device.type == "cpu" and glibc() is not None
    plain = set(ways) if keeps else set()
    if keeps:
        ways["fused optimiser, kept memory"] = ways["fused optimiser"]
    if mixed is not None:
        ways[f"{name(mixed)}, channels last"] = steps(eager, batch, device, mixed)
    if cfg.MODEL.IGOAS.COMPILE:
        ways[f"compiled, {name(mixed or torch.float32)}"] = steps(cfg, batch, device, mixed)

    first = {}

    def prepare(way: str) -> None:
        """Memory as the way has it, and one step in it: what the step before had kept or not makes no difference."""
        keep_freed_memory(keeps and way not in plain)
        started = time.perf_counter()
        ways[way]()
        first.setdefault(way, time.perf_counter() - started)

    height, width = cfg.INPUT.SIZE_TRAIN
    case = f"{cfg.MODEL.META_ARCHITECTURE} {cfg.MODEL.BACKBONE.DEPTH} {height}x{width}, batch {batch}"
    rows = measure(ways, case, repeats, device=device, prepare=prepare, work=batch, unit="images")
    with FlopCounterMode(display=False) as counter:
        ways["plain"]()
    for row in rows:
        dtype = torch.float32 if row.way in plain or row.way.startswith(("plain", "fused")) else mixed
        row.facts["first_seconds"] = first[row.way]
        row.facts["peak_share"] = counter.get_total_flops() / row.median / peak(dtype or torch.float32, device)
    yield from rows


def steps(cfg, batch: int, device: torch.device, dtype: torch.dtype | None = None, fused: bool = True):
    """A function that trains one step, by the host's trainer on one batch, as it comes from the loader."""
    torch.manual_seed(0)
    model = build_scratch_model(cfg, identities=IDENTITIES).to(device).train()
    optimizer, wrapper = build_optimizer(cfg, model)
    if not fused:
        for group in optimizer.param_groups:
            group["fused"] = False
    kind = SimpleTrainer if dtype is None else AMPTrainer
    images = random_batch(cfg.INPUT.SIZE_TRAIN, batch, device, IDENTITIES)
    trainer = kind(model, itertools.repeat(images), optimizer, wrapper)
    if dtype is not None:
        compute_in(trainer, dtype)
    trainer.storage, trainer.iter = EventStorage(), 0

    def step() -> None:
        with trainer.storage:
            trainer.before_step()
            trainer.run_step()
            trainer.iter += 1

    return step


def name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def peak(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of a large matrix product: the most that this device does in that type."""
    one, other = (torch.rand(FACTORS, FACTORS, device=device, dtype=dtype) for _ in range(2))
    [row] = measure({"product": lambda: one @ other}, "peak", repeats=3, device=device)
    return 2 * FACTORS**3 / min(row.seconds)
