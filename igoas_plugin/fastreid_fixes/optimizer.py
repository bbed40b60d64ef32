"""Optimiser that trains on torch >= 2, fused, and skips what is frozen."""

import fastreid.solver.build
import torch
from fastreid.utils.params import ContiguousParams

from .alignment import with_gaps
from .fix import fix, replace_everywhere
from .freezing import FreezePlan, FrozenGroups, marking_frozen_groups

build_host_optimizer = fastreid.solver.build.build_optimizer
FUSED = (torch.optim.Adam, torch.optim.AdamW)


class KeptGradients:
    """An optimiser whose gradients are zeroed in place, as in torch < 2: the host's flat buffers stay their storage.

    It takes a state that was saved before the buffers had gaps.
    """

    sizes: list[list[int]]  # values of each parameter, by group

    def zero_grad(self, set_to_none: bool = False) -> None:
        super().zero_grad(set_to_none=set_to_none)

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(with_gaps(state_dict, self.sizes))


class FusedStep:
    """A fused optimiser that stays one with a state that was saved by one that is not."""

    def load_state_dict(self, state_dict: dict) -> None:
        way = {key: self.defaults[key] for key in ("fused", "foreach")}
        super().load_state_dict(
            {**state_dict, "param_groups": [{**group, **way} for group in state_dict["param_groups"]]}
        )


def fused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The same with all of a step in one pass over the parameters, where torch does that well; else as it is.

    The plain step of Adam makes five temporary tensors as large as all parameters; and torch's gradient scaler waits
    for the device in each step, unless the optimiser is fused. Not SGD: torch's fused one starts with a momentum that
    nothing was written to, where the first step overflows in float16.
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
    """The host's function of this name; fused, it keeps its gradients and skips what a FreezePlan freezes.

    Raises:
        InputError: the config freezes in two ways, or a pattern of MODEL.FREEZE_LAYERS matches no parameter.
    """
    plan = FreezePlan.from_config(cfg)
    if plan:
        plan.require_matches(model)
    optimizer, params = build_host_optimizer(marking_frozen_groups(cfg, plan) if plan else cfg, model, contiguous)
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:  # the scaler leaves it to a fused one to unscale: after the clipping
        optimizer = fused(optimizer)
    if isinstance(params, ContiguousParams):
        optimizer = with_base(optimizer, KeptGradients)
        optimizer.sizes = params.sizes
    if plan:
        optimizer = with_base(optimizer, FrozenGroups, freeze_plan=plan)
    return optimizer, params


@fix
def keep_gradients_when_zeroing() -> None:
    """Training changes no weight (AMP off) or crashes (AMP on): zero_grad() of torch >= 2 drops the gradients.

    The host's ContiguousParams gives the optimiser flat buffers whose .grad is a view of all gradients. Once .grad is
    None the optimiser has nothing to step on, and the host's check of the buffers passes all the same.
    The mend is on the host's optimiser alone; torch's classes are untouched. Upstream: fast-reid #700, #704.
    Adam and AdamW compute their step in one pass besides.
    """
    replace_everywhere(build_host_optimizer, build_optimizer)
