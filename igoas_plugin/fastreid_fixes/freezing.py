"""Freezing of layers by the run's iteration and epoch."""

import logging
import re
from dataclasses import dataclass

import fastreid.solver.build
from fastreid.engine.train_loop import HookBase
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.run_progress import RunProgress, run_progress

from .fix import fix

logger = logging.getLogger("fastreid.igoas_plugin")


@dataclass(frozen=True)
class FreezePlan:
    """Layers that are frozen, and for how long. The optimiser skips them, and their normalisation is in eval mode.

    Args:
        layers: regular expressions that match a parameter's name from its start up to a dot or to its end, so that
            "b1" freezes the layer b1 and not b1_head.
        iterations: the layers are frozen while the run's iteration is below this.
        epochs: the layers are frozen while the run's zero-based epoch is below this.
    """

    layers: tuple[str, ...] = ()
    iterations: int = 0
    epochs: int = 0

    @classmethod
    def from_config(cls, cfg) -> "FreezePlan":
        """Returns the plan of fast-reid's keys (MODEL.FREEZE_LAYERS, SOLVER.FREEZE_ITERS) or of the meta-architecture.

        A meta-architecture freezes layers by a class method ``freeze_plan(cfg) -> FreezePlan``.

        Raises:
            InputError: both freeze layers.
        """
        by_keys = cls(tuple(cfg.MODEL.FREEZE_LAYERS), cfg.SOLVER.FREEZE_ITERS)
        architecture = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
        by_model = architecture.freeze_plan(cfg) if hasattr(architecture, "freeze_plan") else cls()
        if by_keys and by_model:
            raise InputError(
                f"MODEL.FREEZE_LAYERS cannot be used if {cfg.MODEL.META_ARCHITECTURE} freezes layers itself: set "
                "SOLVER.FREEZE_ITERS 0 or MODEL.IGOAS.FREEZE_EPOCHS 0"
            )
        return by_keys or by_model

    def require_matches(self, model: nn.Module) -> None:
        """Raises InputError if a layer is no regular expression, or matches no parameter and would freeze nothing."""
        names = [name for name, _ in model.named_parameters()]
        for layer, pattern in zip(self.layers, self.patterns(), strict=True):
            try:
                re.compile(layer)
                matches = any(re.match(pattern, name) for name in names)
            except re.error as error:
                raise InputError(f"MODEL.FREEZE_LAYERS: {layer} is no regular expression: {error}") from None
            if not matches:
                raise InputError(
                    f"MODEL.FREEZE_LAYERS: {layer} matches no layer of the model: a match must end at a dot or at the "
                    f"end of a parameter's name, and the first name is {names[0]}"
                )

    def patterns(self) -> list[str]:
        """Returns the regular expressions with the condition on their end, for fast-reid's optimiser too.

        fast-reid puts a dot before the name of a parameter that the model itself holds. Flags such as (?i) stay at the
        start.
        """
        split = [re.match(r"((?:\(\?[a-zA-Z]+\))*)(.*)", layer, re.DOTALL).groups() for layer in self.layers]
        return [rf"{flags}\.?(?:{rest})(?:(?<=\.)|(?=\.)|\Z)" for flags, rest in split]

    def __bool__(self) -> bool:
        return bool(self.layers) and (self.iterations > 0 or self.epochs > 0)

    def holds(self, name: str) -> bool:
        """Returns whether a parameter's name belongs to a frozen layer."""
        return any(re.match(pattern, name) for pattern in self.patterns())

    def active(self) -> bool:
        """Returns whether the layers are frozen now, by the progress in the event storage (also after a resume)."""
        progress = run_progress() or RunProgress(epoch=0, iteration=0, iters_per_epoch=None)
        return progress.iteration < self.iterations or progress.epoch < self.epochs


class FrozenGroups:
    """Base class of an optimiser that skips the groups marked "freeze" while its plan is active.

    A gradient of zero is not enough: Adam with L2 decay moves such a parameter.
    """

    freeze_plan: FreezePlan

    def step(self, closure=None):
        groups = self.param_groups
        if self.freeze_plan.active():
            self.param_groups = [group for group in groups if group["freeze_status"] != "freeze"]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups


class FreezeNormalisation(HookBase):
    """Hook that puts the frozen layers into eval mode before each step, since an evaluation ends in train mode.

    Only innermost modules are put into eval mode. A head, whose mode decides what it returns, stays in train mode.
    """

    def __init__(self, model: nn.Module, plan: FreezePlan):
        model = model.module if isinstance(model, DistributedDataParallel) else model
        self.plan = plan
        self.layers = [
            module for name, module in model.named_modules() if plan.holds(name + ".") and not any(module.children())
        ]
        self.frozen = False

    def before_step(self):
        active = self.plan.active()
        if active != self.frozen:
            logger.info(f"{'Freeze' if active else 'Train'} the layers {', '.join(self.plan.layers)}")
        if active or self.frozen:
            for layer in self.layers:
                layer.train(not active)
        self.frozen = active


def keep_optimizer(cfg, optimizer):
    """Replaces fast-reid's maybe_add_freeze_layer; the optimiser is returned unchanged."""
    return optimizer


@fix
def freeze_by_progress_of_the_run() -> None:
    """A resumed run freezes layers again, and an evaluation sets the batch norm of frozen layers to train mode.

    Cause: fast-reid counts the frozen steps from 0 at each start. Its eval mode covers top-level modules only, while
    its optimiser matches prefixes of parameter names, so that "b1" freezes b1_head too and MGN trains nothing. Now one
    FreezePlan decides both, by whole layers and by the run's iteration and epoch. optimizer.py builds its optimiser,
    and FreezeNormalisation replaces fast-reid's LayerFreeze.
    """
    fastreid.solver.build.maybe_add_freeze_layer = keep_optimizer
