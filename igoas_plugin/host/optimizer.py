import fastreid.solver.build
from fastreid.utils.params import ContiguousParams

from .fix import fix, replace_everywhere

build_host_optimizer = fastreid.solver.build.build_optimizer


class KeptGradients:
    """An optimiser whose gradients are zeroed in place, as in torch < 2: the host's flat buffers stay their storage."""

    def zero_grad(self, set_to_none: bool = False) -> None:
        super().zero_grad(set_to_none=set_to_none)


def build_optimizer(cfg, model, contiguous=True):
    """The host's function of this name; with contiguous parameters the optimiser keeps its gradients."""
    optimizer, params = build_host_optimizer(cfg, model, contiguous)
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
