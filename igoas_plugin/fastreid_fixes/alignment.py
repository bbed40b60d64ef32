import torch
from fastreid.utils.params import ContiguousParams

from .fix import fix

ALIGNMENT = 64  # bytes: a line of a CPU's cache; GPU libraries read 16 at once


def make_params_contiguous(self) -> None:
    """ContiguousParams.make_params_contiguous; each parameter, and its gradient, starts at a multiple of ALIGNMENT.

    What lies between them is zero and stays zero: without a gradient no optimiser moves a zero.
    """
    self.sizes = []  # values of each parameter, by group
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
    """Values that parameters of these sizes take up in a buffer, the gaps behind them included."""
    step = ALIGNMENT // element_size
    return [-(-size // step) * step for size in sizes]


def with_gaps(state_dict: dict, sizes: list[list[int]]) -> dict:
    """An optimiser's state for buffers with gaps, from one that was saved for buffers without; any other as it is.

    Args:
        state_dict: of an optimiser with one flat buffer a group.
        sizes: values of each parameter, by group.
    """
    states = dict(state_dict["state"])
    for group, own in zip(state_dict["param_groups"], sizes, strict=False):
        for key in group["params"]:
            states[key] = {name: spread(value, own) for name, value in states.get(key, {}).items()}
    return {**state_dict, "state": {key: state for key, state in states.items() if state}}


def spread(value, sizes: list[int]):
    """A flat tensor of parameters without gaps, with the gaps; anything else as it is."""
    if not isinstance(value, torch.Tensor) or value.dim() != 1 or len(value) != sum(sizes):
        return value
    lengths = aligned(sizes, value.element_size())
    wide = value.new_zeros(sum(lengths))
    for part, own in zip(wide.split(lengths), value.split(sizes), strict=True):
        part[: len(own)] = own
    return wide


@fix
def align_parameters() -> None:
    """SOLVER.AMP.ENABLED on a GPU: "CUDA error: misaligned address", in cuDNN's batch normalisation.

    The host packs parameters without gaps, so most of them start where no GPU library, and no compiled kernel, expects
    a tensor to start. Seen on an H200 with torch 2.11; a batch normalisation that is channels last reads 16 bytes at
    once.
    """
    ContiguousParams.make_params_contiguous = make_params_contiguous
