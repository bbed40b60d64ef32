"""Alignment of parameters and gradients in fast-reid's flat buffers."""

import torch
from fastreid.utils.params import ContiguousParams

from .fix import fix

ALIGNMENT = 64  # bytes: a cache line of a CPU; GPU libraries read 16 at once


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


def with_gaps(state_dict: dict, sizes: list[list[int]]) -> dict:
    """Converts an optimiser's state that was saved without gaps; a state with gaps is returned unchanged.

    Args:
        state_dict: of an optimiser with one flat buffer a group.
        sizes: number of values of each parameter, by group.
    """
    states = dict(state_dict["state"])
    for group, own in zip(state_dict["param_groups"], sizes, strict=False):
        for key in group["params"]:
            states[key] = {name: insert_gaps(value, own) for name, value in states.get(key, {}).items()}
    return {**state_dict, "state": {key: state for key, state in states.items() if state}}


def insert_gaps(value, sizes: list[int]):
    """Inserts the gaps into a flat tensor that has none; returns anything else unchanged."""
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
