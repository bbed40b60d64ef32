"""Optimiser that keeps its gradients on torch >= 2, is aligned, fused, and skips frozen layers."""

import fastreid.solver.build
import torch
from fastreid.utils.params import ContiguousParams

from .fix import fix, replace_everywhere
from .freezing import FreezePlan, FrozenGroups

original_build_optimizer = fastreid.solver.build.build_optimizer
ALIGNMENT = 64  # bytes: a cache line of a CPU; GPU libraries read 16 at once
FUSED = (torch.optim.Adam, torch.optim.AdamW)


def make_params_contiguous(self) -> None:
    """Replaces ContiguousParams.make_params_contiguous; every parameter and gradient starts at a multiple of ALIGNMENT.

    The gaps hold zeros and stay zero, because they have no gradient.
    """
    self.sizes = []  # number of values of each parameter, by group
    for group, entries in enumerate(self._group_dict.values()):
        parameters = [entry["params"][0] for entry in entries]
        self.sizes.append([parameter.numel() for parameter in parameters])
        lengths = aligned(self.sizes[-1], parameters[0].element_size())
        values, gradients = (parameters[0].data.new_zeros(sum(lengths)) for _ in range(2))
        for parameter, own, gradient in zip(parameters, values.split(lengths), gradients.split(lengths), strict=True):
            own, gradient = (each[: parameter.numel()].view(parameter.shape) for each in (own, gradient))
            parameter.data, parameter.grad = own.copy_(parameter.data), gradient
            self.data_pointers.append(own.data_ptr)
            self.grad_pointers.append(gradient.data_ptr)
        values.grad = gradients
        self._param_buffer[group], self._grad_buffer[group] = values, gradients


def aligned(sizes: list[int], element_size: int) -> list[int]:
    """Returns how many values of a buffer each parameter takes, with the gap after it."""
    step = ALIGNMENT // element_size
    return [-(-size // step) * step for size in sizes]


def insert_gaps(value, sizes: list[int]):
    """Inserts the gaps into a flat tensor of an optimiser's state; returns anything else unchanged."""
    if not isinstance(value, torch.Tensor) or value.dim() != 1 or len(value) != sum(sizes):
        return value
    lengths = aligned(sizes, value.element_size())
    wide = value.new_zeros(sum(lengths))
    for part, own in zip(wide.split(lengths), value.split(sizes), strict=True):
        part[: len(own)] = own
    return wide


@fix
def align_parameters() -> None:
    """Error "CUDA error: misaligned address" in cuDNN's batch normalisation with SOLVER.AMP.ENABLED on a GPU.

    Cause: fast-reid packs parameters without gaps, and batch normalisation in channels last reads 16 bytes at once.
    Seen on an H200 with torch 2.11.
    """
    ContiguousParams.make_params_contiguous = make_params_contiguous


class KeptGradients:
    """Base class of an optimiser that zeroes gradients in place, so that fast-reid's flat buffers keep them.

    It also loads a state that was saved before the buffers had gaps.
    """

    sizes: list[list[int]]  # number of values of each parameter, by group

    def zero_grad(self, set_to_none: bool = False) -> None:
        super().zero_grad(set_to_none=set_to_none)

    def load_state_dict(self, state_dict: dict) -> None:
        states = dict(state_dict["state"])
        for group, sizes in zip(state_dict["param_groups"], self.sizes, strict=False):
            for key in states.keys() & group["params"]:
                states[key] = {name: insert_gaps(value, sizes) for name, value in states[key].items()}
        super().load_state_dict({**state_dict, "state": states})


class FusedStep:
    """Base class of a fused optimiser that stays fused with the state of an optimiser that was not."""

    def load_state_dict(self, state_dict: dict) -> None:
        way = {key: self.defaults[key] for key in ("fused", "foreach")}
        groups = [{**group, **way} for group in state_dict["param_groups"]]
        super().load_state_dict({**state_dict, "param_groups": groups})


def fused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Returns the fused form of Adam and AdamW, which updates all parameters in one pass; others unchanged.

    Adam's plain step makes five temporary tensors as large as all parameters, and in float16 it synchronises with the
    GPU. SGD stays as it is: if its first step overflows in float16, torch's fused form starts with a momentum of
    uninitialised memory.
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
        cfg = cfg.clone()
        cfg.defrost()  # fast-reid marks the groups of these layers
        cfg.MODEL.FREEZE_LAYERS, cfg.SOLVER.FREEZE_ITERS = plan.patterns(), max(plan.iterations, 1)
    optimizer, params = original_build_optimizer(cfg, model, contiguous)
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
