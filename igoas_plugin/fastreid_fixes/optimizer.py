"""Optimiser that keeps its gradients on torch >= 2, is fused, and skips frozen layers."""

import fastreid.solver.build
import torch
from fastreid.utils.params import ContiguousParams

from .alignment import with_gaps
from .fix import fix, replace_everywhere
from .freezing import FreezePlan, FrozenGroups, marking_frozen_groups

original_build_optimizer = fastreid.solver.build.build_optimizer
FUSED = (torch.optim.Adam, torch.optim.AdamW)


class KeptGradients:
    """Base class of an optimiser that zeroes gradients in place, so that fast-reid's flat buffers keep them.

    It also loads a state that was saved before the buffers had gaps (see alignment.py).
    """

    sizes: list[list[int]]  # number of values of each parameter, by group

    def zero_grad(self, set_to_none: bool = False) -> None:
        super().zero_grad(set_to_none=set_to_none)

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(with_gaps(state_dict, self.sizes))


class FusedStep:
    """Base class of a fused optimiser that stays fused with the state of an optimiser that was not."""

    def load_state_dict(self, state_dict: dict) -> None:
        way = {key: self.defaults[key] for key in ("fused", "foreach")}
        super().load_state_dict(
            {**state_dict, "param_groups": [{**group, **way} for group in state_dict["param_groups"]]}
        )


def fused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Returns the fused form of Adam and AdamW, which updates all parameters in one pass; others unchanged.

    Adam's plain step makes five temporary tensors as large as all parameters. Also, torch's gradient scaler
    synchronises with the GPU in each step of an optimiser that is not fused. SGD stays as it is: if its first step
    overflows in float16, torch's fused form starts with a momentum of uninitialised memory.
    """
    groups = [{**group} for group in optimizer.param_groups]
    if type(optimizer) not in FUSED or groups[0]["params"][0].device.type not in ("cpu", "cuda"):
        return optimizer
    for group in groups:
        del group["fused"], group["foreach"]
    made = type(optimizer)(groups, fused=True)
    made.defaults = {**optimizer.defaults, "fused": True, "foreach": made.defaults["foreach"]}
    return with_base(made, FusedStep)


def with_base(optimizer: torch.optim.Optimizer, base: type, **attributes) -> torch.optim.Optimizer:
    """Returns the optimiser, with the methods of `base` before its own."""
    kind = type(optimizer)
    optimizer.__class__ = type(kind.__name__, (base, kind), attributes)
    return optimizer


def build_optimizer(cfg, model, contiguous=True):
    """Replaces fast-reid's function of this name; the optimiser keeps its gradients, is fused, and skips frozen layers.

    Raises:
        InputError: the config freezes in two ways, or a pattern of MODEL.FREEZE_LAYERS matches no parameter.
    """
    plan = FreezePlan.from_config(cfg)
    if plan:
        plan.require_matches(model)
    optimizer, params = original_build_optimizer(marking_frozen_groups(cfg, plan) if plan else cfg, model, contiguous)
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:  # a fused step unscales the gradients itself, after the clipping
        optimizer = fused(optimizer)
    if isinstance(params, ContiguousParams):
        optimizer = with_base(optimizer, KeptGradients)
        optimizer.sizes = params.sizes
    if plan:
        optimizer = with_base(optimizer, FrozenGroups, freeze_plan=plan)
    return optimizer, params


@fix
def keep_gradients_when_zeroing() -> None:
    """With torch 2 or newer, a training changes no weight (AMP off) or crashes (AMP on).

    Cause: torch's zero_grad() sets gradients to None, and fast-reid's ContiguousParams gives the optimiser flat buffers
    whose .grad is a view of all gradients. Without it the optimiser has nothing to do, and fast-reid's check of the
    buffers passes. Only fast-reid's optimiser is changed, not torch's classes. Adam and AdamW are also fused.
    Upstream: fast-reid #700, #704.
    """
    replace_everywhere(original_build_optimizer, build_optimizer)
