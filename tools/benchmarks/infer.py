"""Benchmark of inference: fast-reid's way, the steps of FastInference one by one, and all of them."""

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from igoas_plugin.core.timing import Row, name_of, random_batch
from igoas_plugin.fastreid_fixes.amp import amp_dtype
from igoas_plugin.fastreid_fixes.device import usable_device
from igoas_plugin.modeling.fast_inference import FastInference, fuse_norms, is_fixed_norm
from igoas_plugin.preflight import build_scratch_model

from .memory import measure_memory


def with_statistics(model: nn.Module) -> nn.Module:
    """Gives the norms of a model random statistics and weights, as if it had been trained."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if is_fixed_norm(module):
            drawn = torch.rand(3, len(module.running_mean), generator=generator).to(module.running_mean.device)
            module.running_mean.copy_(0.4 * drawn[0] - 0.2)
            module.running_var.copy_(0.5 + 1.5 * drawn[1])
            module.weight.data.copy_(0.5 + drawn[2])
    return model.eval()


def inference(cfg, batch: int, repeats: int, profile: bool = False) -> Iterator[Row]:
    """Times the descriptors of random images of INPUT.SIZE_TEST.

    Args:
        cfg: of the model; MODEL.WEIGHTS is not read, because the time does not depend on it.
        batch: images at once.
        repeats: of each way.
        profile: whether the largest costs of each way are measured too.
    """
    device, size = torch.device(usable_device(cfg.MODEL.DEVICE)), cfg.INPUT.SIZE_TEST
    torch.manual_seed(0)
    model = with_statistics(build_scratch_model(cfg, identities=1)).to(device)
    images = random_batch(size, batch, device)
    one = images["images"][:1]
    fused = copy.deepcopy(model)
    fuse_norms(fused, one)
    last = copy.deepcopy(fused).to(memory_format=torch.channels_last)
    fast = FastInference(model, one, amp_dtype(device.type, cfg.SOLVER.AMP.DTYPE))
    ways = {
        "plain": model,
        "kept memory": model,
        "kept memory, fused": fused,
        "kept memory, fused, channels last": last,
        f"fast: all of it, {name_of(fast.dtype or torch.float32)}": fast,
    }
    found = {}

    def describe(way: str):
        @torch.no_grad()
        def run():
            found[way] = ways[way](images)

        return run

    case = f"{cfg.MODEL.META_ARCHITECTURE} {cfg.MODEL.BACKBONE.DEPTH} {size[0]}x{size[1]}, batch {batch}"
    functions = {way: describe(way) for way in ways}
    usual = {"plain": functions.pop("plain")}
    rows = measure_memory(usual, functions, case, repeats, device, profile, work=batch, unit="images")
    for row in rows:
        row.facts["cosine"] = float(cosine_similarity(found["plain"].float(), found[row.way].float()).min())
    yield from rows
