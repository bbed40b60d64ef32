import fastreid.solver.build
import torch
from fastreid.utils.params import ContiguousParams

from .fix import fix, replace_everywhere

build_host_optimizer = fastreid.solver.build.build_optimizer


class KeptGradients:
    """An optimiser whose gradients are zeroed in place, as in torch < 2: the host's flat buffers stay their storage."""

    def zero_grad(self, set_to_none: bool = False) -> None:
        super().zero_grad(set_to_none=set_to_none)

    def load_state_dict(self, state_dict: dict) -> None:
        """Goes on in its own way of computing, also from a state that was saved by one that computes in another."""
        way = {key: self.defaults[key] for key in ("fused", "foreach") if key in self.defaults}
        super().load_state_dict(
            {**state_dict, "param_groups": [{**group, **way} for group in state_dict["param_groups"]]}
        )


def fused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The same with all of a step in one pass over the parameters, where torch has that; with float16 it asks nothing.

    The plain step of Adam makes five temporary tensors as large as all parameters. And torch's gradient scaler waits
    for the device in each step, unless the optimiser is fused.
    """
    if "fused" not in optimizer.defaults:
        return optimizer
    groups = [
        {key: value for key, value in group.items() if key not in ("fused", "foreach")}
        for group in optimizer.param_groups
    ]
    try:
        return type(optimizer)(groups, fused=True)
    except RuntimeError:  # not for this device or type
        return optimizer


def build_optimizer(cfg, model, contiguous=True):
    """The host's function of this name; fused, and with contiguous parameters it keeps its gradients."""
    optimizer, params = build_host_optimizer(cfg, model, contiguous)
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:  # the scaler leaves it to a fused one to unscale: after the clipping
        optimizer = fused(optimizer)
    if isinstance(params, ContiguousParams):
        kind = type(optimizer)
        optimizer.__class__ = type(kind.__name__, (KeptGradients, kind), {})
    return optimizer, params


@fix
def keep_gradients_when_zeroing() -> None:
    """Training changes no weight (AMP off) or crashes (AMP on): zero_grad() of torch >= 2 drops the gradients.

    The host's ContiguousParams gives the optimiser flat buffers whose .grad is a view of all gradients. Once .grad is
    None the optimiser has nothing to step on, and the host's check of the buffers passes all the same.
    The mend is on the host's optimiser alone; torch's classes are untouched. Upstream: fast-reid #700, #704.
    """
    replace_everywhere(build_host_optimizer, build_optimizer)
