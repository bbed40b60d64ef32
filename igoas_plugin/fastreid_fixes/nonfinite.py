"""Guard against NaN and infinity in losses and gradients, which finds them before they reach the weights."""

import logging
from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from fastreid.engine.train_loop import SimpleTrainer
from fastreid.utils import comm
from torch import Tensor, nn

from igoas_plugin.core.errors import NotFinite

from . import async_metrics
from .fix import fix

logger = logging.getLogger("fastreid.igoas_plugin")

POLICIES = ("stop", "skip")  # of SOLVER.ON_NONFINITE


class NonFiniteGuard:
    """Check of losses and gradients before each step of the optimiser.

    On a GPU with policy "stop" the check does not synchronise: its result arrives with the losses one step later,
    before any checkpoint. Gradients that are scaled for float16 are not checked, because the scaler handles infinite
    ones.

    Args:
        policy: "stop" ends the run. "skip" skips the step and restores the buffers, such as statistics of batch norm.
        limit: the run stops after more than this number of skipped steps in a row.
    """

    def __init__(self, policy: str = "stop", limit: int = 0):
        self.policy, self.limit = policy, limit
        self.skipped = 0
        self.pending: Tensor | None = None  # the result of this step's check, if it arrives later
        self._buffers: list[tuple[Tensor, Tensor]] = []

    def before_forward(self, model: nn.Module) -> None:
        """Copies the buffers of the model if a step may be skipped."""
        if self.policy == "skip":
            self._buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]

    def passes(self, trainer: SimpleTrainer, batch: dict, losses: dict[str, Tensor]) -> bool:
        """Returns whether the optimiser may take its step; all processes get the same answer.

        Args:
            trainer: after the backward pass.
            batch: fast-reid's dict.
            losses: {name: scalar}.

        Raises:
            NotFinite: a value is not finite, and the policy is "stop" or too many steps have been skipped.
        """
        scaler = getattr(trainer, "grad_scaler", None)
        scaled = scaler is not None and scaler.is_enabled()
        finite = all_finite([*losses.values(), *([] if scaled else gradients_of(trainer.optimizer))])
        self.pending = None
        if async_metrics.is_on_gpu(finite) and self.policy == "stop":
            self.pending = finite
            return True
        if comm.get_world_size() > 1:
            answer = finite.int()
            dist.all_reduce(answer, dist.ReduceOp.MIN)
            finite = answer.bool()
        if finite:
            self.skipped = 0
            return True
        model = getattr(trainer.model, "module", trainer.model)  # of a DistributedDataParallel
        first = next(not_finite(model, batch, losses), "something in another process")
        values = ", ".join(f"{name} {float(loss.detach()):.4g}" for name, loss in losses.items())
        message = f"iteration {trainer.iter + 1:,}: {first} is not finite (losses: {values})."
        self.skipped += 1
        if self.policy == "stop":
            raise NotFinite(
                f"{message} The weights are those of the step before, and no checkpoint has changed: lower "
                "SOLVER.BASE_LR, or skip such steps by SOLVER.ON_NONFINITE skip"
            )
        if self.skipped > self.limit:
            raise NotFinite(
                f"{message} SOLVER.NONFINITE_LIMIT {self.limit} steps in a row were skipped before: lower "
                "SOLVER.BASE_LR"
            )
        logger.warning(f"{message} This step is skipped ({self.skipped} in a row, at most {self.limit})")
        for buffer, before in self._buffers:
            buffer.copy_(before)
        return False


def gradients_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Returns the gradients: fast-reid's flat buffers, or one tensor for each parameter."""
    return [each.grad for group in optimizer.param_groups for each in group["params"] if each.grad is not None]


def all_finite(tensors: Iterable[Tensor]) -> Tensor:
    """Returns whether all values are finite, as a scalar on the device of the first tensor."""
    tensors = [each.detach() for each in tensors]
    if not async_metrics.is_on_gpu(tensors[0]):
        # a sum needs no memory; if it is infinite, it may have overflowed, and each value is checked
        return torch.tensor(all(bool(each.sum().isfinite()) or bool(each.isfinite().all()) for each in tensors))
    device = tensors[0].device
    return torch.stack([each.isfinite().all().to(device, non_blocking=True) for each in tensors]).all()


def not_finite(model: nn.Module, batch: dict, losses: dict[str, Tensor]) -> Iterator[str]:
    """Yields what is not finite, in the order of a step: images, parameters, outputs of modules, losses, gradients.

    The forward pass is repeated for the outputs.
    """
    for at in (~batch["images"].float().isfinite()).flatten(1).any(1).nonzero().flatten().tolist():
        yield f"the image {batch['img_paths'][at] if 'img_paths' in batch else at} after augmentation"
    parameters = list(model.named_parameters())
    for name, parameter in parameters:
        if not parameter.isfinite().all():
            yield f"the parameter {name}"
    for name in not_finite_outputs(model, batch):
        yield f"the output of {name}"
    for name, loss in losses.items():
        if not loss.isfinite():
            yield f"the loss {name}"
    for name, parameter in reversed(parameters):
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            yield f"the gradient of {name}"


@torch.no_grad()
def not_finite_outputs(model: nn.Module, batch: dict) -> list[str]:
    """Returns the names of the innermost modules whose output in a forward pass is not finite, in their order."""
    names, found = {module: name for name, module in model.named_modules()}, []

    def note(module, inputs, output) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            found.append(names[module])

    handles = [module.register_forward_hook(note) for module in names if not any(module.children())]
    try:
        model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return found


@fix
def check_before_each_step() -> None:
    """A training goes on with NaN: one NaN in a gradient turns all weights into NaN, and they are saved.

    Cause: fast-reid checks only the mean of the losses, which may still be finite. Its error names neither the layer
    nor the image.
    """
    SimpleTrainer.guard = NonFiniteGuard()
