"""Guard against losses and gradients that are NaN or infinite: found before they reach the weights, and named."""

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
    """Looks at losses and gradients before the optimiser takes its step.

    On a GPU, by "stop", nothing waits for the answer: it comes with the losses a step later, before any checkpoint.
    Gradients that are scaled for float16 are left to the scaler, for which infinite ones are part of its search.

    Args:
        policy: "stop" the run, or "skip" the step as if there had been none; statistics of normalisation included.
        limit: steps that are skipped in a row before the run stops all the same.
        seed: of the run, to repeat the forward pass as it was; None where generators are not seeded by the iteration.
    """

    def __init__(self, policy: str = "stop", limit: int = 0, seed: int | None = None):
        self.policy, self.limit, self.seed = policy, limit, seed
        self.skipped = 0
        self.late: Tensor | None = None
        self._statistics: list[tuple[Tensor, Tensor]] = []

    def before_forward(self, model: nn.Module) -> None:
        if self.policy == "skip":
            self._statistics = [(buffer, buffer.clone()) for buffer in model.buffers()]

    def passes(self, trainer: SimpleTrainer, batch: dict, losses: dict[str, Tensor]) -> bool:
        """Whether the step may be taken; the same in all processes.

        Args:
            trainer: after the backward pass.
            batch: of the host's dict form.
            losses: by name, scalars.

        Raises:
            NotFinite: it may not, and the policy is "stop", or too many steps have been skipped.
        """
        scaler = getattr(trainer, "grad_scaler", None)
        scaled = scaler is not None and scaler.is_enabled()
        finite = all_finite([*losses.values(), *([] if scaled else gradients_of(trainer.optimizer))])
        self.late = None
        if async_metrics.comes_late(finite) and self.policy == "stop":
            self.late = finite
            return True
        if comm.get_world_size() > 1:
            answer = finite.int()
            dist.all_reduce(answer, dist.ReduceOp.MIN)
            finite = answer.bool()
        if finite:
            self.skipped = 0
            return True
        told = describe(trainer, batch, losses, self.seed)
        self.skipped += 1
        if self.policy == "stop" or self.skipped > self.limit:
            raise NotFinite(f"{told}. {self._advice()}")
        logger.warning(f"{told}. This step is skipped ({self.skipped} in a row, at most {self.limit})")
        for buffer, before in self._statistics:
            buffer.copy_(before)
        return False

    def _advice(self) -> str:
        if self.policy == "skip":
            return f"SOLVER.NONFINITE_LIMIT {self.limit} steps in a row were skipped before: lower SOLVER.BASE_LR"
        return (
            "The weights are those of the step before, checkpoints are as they were: lower SOLVER.BASE_LR, or leave "
            "such steps out by SOLVER.ON_NONFINITE skip"
        )


def gradients_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The flat buffers of the host, or one tensor a parameter."""
    return [each.grad for group in optimizer.param_groups for each in group["params"] if each.grad is not None]


def all_finite(tensors: Iterable[Tensor]) -> Tensor:
    """Whether all values are finite, as a scalar on the device of the first tensor."""
    tensors = [each.detach() for each in tensors]
    if not async_metrics.comes_late(tensors[0]):
        # a sum needs no memory and is finite nearly always; where it is not, it may have overflowed
        return torch.tensor(all(bool(each.sum().isfinite()) or bool(each.isfinite().all()) for each in tensors))
    device = tensors[0].device
    return torch.stack([each.isfinite().all().to(device, non_blocking=True) for each in tensors]).all()


@torch.no_grad()
def describe(trainer: SimpleTrainer, batch: dict, losses: dict[str, Tensor], seed: int | None) -> str:
    """Iteration, losses, and the first tensor that is not finite on the way from the images to the gradients."""
    values = {name: f"{float(loss.detach()):.4g}" for name, loss in losses.items()}
    model = getattr(trainer.model, "module", trainer.model)  # of a DistributedDataParallel
    if seed is not None:
        seed_generators(seed, comm.get_rank(), trainer.iter)
    first = next(first_not_finite(model, batch), None)
    if first is None:
        bad = [name for name, loss in losses.items() if not loss.isfinite()]
        first = f"the loss {bad[0]}" if bad else first_gradient(model)
    told = ", ".join(f"{name} {value}" for name, value in values.items())
    return f"iteration {trainer.iter + 1:,}: {first} is not finite (losses: {told})"


def first_not_finite(model: nn.Module, batch: dict) -> Iterator[str]:
    """Names images, parameters and outputs of modules that are not finite, in the order of the computation."""
    images = batch["images"]
    for at in (~images.float().isfinite()).flatten(1).any(1).nonzero().flatten().tolist():
        yield f"the image {batch['img_paths'][at] if 'img_paths' in batch else at}, as the augmentation left it,"
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
    if isinstance(output, Tensor) and not output.isfinite().all():
        found.append(name)


def first_gradient(model: nn.Module) -> str:
    """The first gradient of the backward pass that is not finite."""
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f"the gradient of {name}"
    return "something in another process"


@fix
def look_before_each_step() -> None:
    """One NaN in a gradient, whose loss may be finite, turns all weights into NaN; the host trains on and saves them.

    It looks at the mean loss alone, and its error names neither the layer nor the image.
    """
    SimpleTrainer.guard = NonFiniteGuard()
