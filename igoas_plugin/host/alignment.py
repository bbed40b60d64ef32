from fastreid.utils.params import ContiguousParams

from .fix import fix

ALIGNMENT = 64  # bytes: a line of a CPU's cache; GPU libraries read 16 at once


def make_params_contiguous(self) -> None:
    """ContiguousParams.make_params_contiguous; each parameter, and its gradient, starts at a multiple of ALIGNMENT.

    What lies between them is zero and stays zero: without a gradient no optimiser moves a zero.
    """
    for group, entries in enumerate(self._group_dict.values()):
        parameters = [entry["params"][0] for entry in entries]
        step = ALIGNMENT // parameters[0].element_size()
        lengths = [-(-parameter.numel() // step) * step for parameter in parameters]
        values, gradients = (parameters[0].data.new_zeros(sum(lengths)) for _ in range(2))
        for parameter, own, gradient in zip(parameters, values.split(lengths), gradients.split(lengths), strict=True):
            own, gradient = (each[: parameter.numel()].view(parameter.shape) for each in (own, gradient))
            parameter.data, parameter.grad = own.copy_(parameter.data), gradient
            self.data_pointers.append(own.data_ptr)
            self.grad_pointers.append(gradient.data_ptr)
        values.grad = gradients
        self._param_buffer[group], self._grad_buffer[group] = values, gradients


@fix
def align_parameters() -> None:
    """SOLVER.AMP.ENABLED on a GPU: "CUDA error: misaligned address", in cuDNN's batch normalisation.

    The host packs parameters without gaps, so most of them start where no GPU library, and no compiled kernel, expects
    a tensor to start. Seen on an H200 with torch 2.11; a batch normalisation that is channels last reads 16 bytes at
    once.
    """
    ContiguousParams.make_params_contiguous = make_params_contiguous
