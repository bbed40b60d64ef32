"""Guard against NaN and infinity in losses and gradients, which finds them before they reach the weights."""

import functools
import logging
from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from fastreid.engine.train_loop import SimpleTrainer
from fastreid.utils import comm
from torch import Tensor, nn

from igoas_plugin.core.errors import NotFinite
from igoas_plugin.core.randomness import seed_generators

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
        seed: of the run, with which the forward pass is repeated for the message; None: generators are not reseeded.
    """

    def __init__(self, policy: str = "stop", limit: int = 0, seed: int | None = None):
        self.policy, self.limit, self.seed = policy, limit, seed
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
        found = find_cause(trainer, batch, losses, self.seed)
        self.skipped += 1
        if self.policy == "stop" or self.skipped > self.limit:
            raise NotFinite(f"{found}. {self._advice()}")
        logger.warning(f"{found}. This step is skipped ({self.skipped} in a row, at most {self.limit})")
        for buffer, before in self._buffers:
            buffer.copy_(before)
        return False

    def _advice(self) -> str:
        if self.policy == "skip":
            return f"SOLVER.NONFINITE_LIMIT {self.limit} steps in a row were skipped before: lower SOLVER.BASE_LR"
        return (
            "The weights are those of the step before, and no checkpoint has changed: lower SOLVER.BASE_LR, or skip "
            "such steps by SOLVER.ON_NONFINITE skip"
        )


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


@torch.no_grad()
def find_cause(trainer: SimpleTrainer, batch: dict, losses: dict[str, Tensor], seed: int | None) -> str:
    """Returns a line with iteration, losses, and the first tensor that is not finite, from the images to the gradients.

    The forward pass is repeated for that.
    """
    model = getattr(trainer.model, "module", trainer.model)  # of a DistributedDataParallel
    if seed is not None:
        seed_generators(seed, comm.get_rank(), trainer.iter)
    first = next(first_not_finite(model, batch), None)
    if first is None:
        bad = [name for name, loss in losses.items() if not loss.isfinite()]
        first = f"the loss {bad[0]}" if bad else first_gradient(model)
    values = ", ".join(f"{name} {float(loss.detach()):.4g}" for name, loss in losses.items())
    return f"iteration {trainer.iter + 1:,}: {first} is not finite (losses: {values})"


def first_not_finite(model: nn.Module, batch: dict) -> Iterator[str]:
    """Yields the images, parameters and outputs of modules that are not finite, in the order of the forward pass."""
    images = batch["images"]
    for at in (~images.float().isfinite()).flatten(1).any(1).nonzero().flatten().tolist():
        yield f"the image {batch['img_paths'][at] if 'img_paths' in batch else at} after augmentation"
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            yield f"the parameter {name}"
    found, handles = [], []
    for name, module in model.named_modules():
        if name and not any(module.children()):
            handles.append(module.register_forward_hook(functools.partial(note, name, found)))
    try:
        model(batch)
    finally:
        for handle in handles:
            handle.remove()
    for name in found:
        yield f"the output of {name}"


def note(name: str, found: list[str], module: nn.Module, inputs, output) -> None:
    """Appends the name of a module whose output is not finite (a forward hook)."""
    if isinstance(output, Tensor) and not output.isfinite().all():
        found.append(name)


def first_gradient(model: nn.Module) -> str:
    """Returns the name of the first gradient of the backward pass that is not finite."""
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f"the gradient of {name}"
    return "something in another process"


@fix
def check_before_each_step() -> None:
    """A training goes on with NaN: one NaN in a gradient turns all weights into NaN, and they are saved.

    Cause: fast-reid checks only the mean of the losses, which may still be finite. Its error names neither the layer
    nor the image.
    """
    SimpleTrainer.guard = NonFiniteGuard()
