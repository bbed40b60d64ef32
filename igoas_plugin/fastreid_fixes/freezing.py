"""Freezing of layers by the progress of the run: which ones, until when, and what keeps them as they are."""

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
    """Which layers are frozen, and until when. Frozen: skipped by the optimiser, normalisation in eval mode.

    Args:
        layers: regular expressions that match from the start of a parameter's name.
        iterations: frozen while the run's iteration is below this.
        epochs: frozen while the run's zero-based epoch is below this.
    """

    layers: tuple[str, ...] = ()
    iterations: int = 0
    epochs: int = 0

    @classmethod
    def from_config(cls, cfg) -> "FreezePlan":
        """The host's keys (MODEL.FREEZE_LAYERS for SOLVER.FREEZE_ITERS) or what the meta-architecture asks for.

        A meta-architecture asks by a class method ``freeze_plan(cfg) -> FreezePlan``.

        Raises:
            InputError: both ask, or a layer is no regular expression.
        """
        by_host = cls(tuple(cfg.MODEL.FREEZE_LAYERS), cfg.SOLVER.FREEZE_ITERS)
        architecture = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
        by_model = architecture.freeze_plan(cfg) if hasattr(architecture, "freeze_plan") else cls()
        if by_host and by_model:
            raise InputError(
                f"MODEL.FREEZE_LAYERS with SOLVER.FREEZE_ITERS and what {cfg.MODEL.META_ARCHITECTURE} freezes itself "
                "exclude each other: set SOLVER.FREEZE_ITERS 0 or MODEL.IGOAS.FREEZE_EPOCHS 0"
            )
        return by_host or by_model

    def __post_init__(self):
        for layer in self.layers:
            try:
                re.compile(layer)
            except re.error as error:
                raise InputError(f"MODEL.FREEZE_LAYERS: {layer} is no regular expression: {error}") from None

    def require_matches(self, model: nn.Module) -> None:
        """Raises InputError where a pattern matches no parameter: nothing would be frozen by it."""
        names = [name for name, _ in model.named_parameters()]
        for layer in self.layers:
            if not any(re.match(layer, name) for name in names):
                raise InputError(
                    f"MODEL.FREEZE_LAYERS: no parameter's name begins with {layer}; the first is {names[0]}"
                )

    def __bool__(self) -> bool:
        return bool(self.layers) and (self.iterations > 0 or self.epochs > 0)

    def holds(self, name: str) -> bool:
        return any(re.match(layer, name) for layer in self.layers)

    def active(self) -> bool:
        """Whether the run is still in the frozen part; read from the event storage, so right after a resume too."""
        progress = run_progress() or RunProgress(epoch=0, iteration=0, iters_per_epoch=None)
        return progress.iteration < self.iterations or progress.epoch < self.epochs


class FrozenGroups:
    """An optimiser that does not see the groups marked "freeze" while its plan is active.

    Skipping matters: Adam with L2 decay moves a parameter even where its gradient is zero.
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
    """Keeps the frozen layers in eval mode, step by step: an evaluation puts the whole model back into train mode.

    Only innermost modules are put into eval mode: a head, whose mode decides what it returns, stays in train mode.
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


def marking_frozen_groups(cfg, plan: FreezePlan):
    """Returns the config by which fast-reid's build_optimizer marks the groups that the plan freezes."""
    marked = cfg.clone()
    marked.defrost()
    marked.MODEL.FREEZE_LAYERS, marked.SOLVER.FREEZE_ITERS = list(plan.layers), max(plan.iterations, 1)
    return marked


@fix
def freeze_by_progress_of_the_run() -> None:
    """A resumed run freezes again: the host counts frozen steps from 0 each start. And an evaluation un-freezes BN.

    Its BN-eval also covers top-level children only, while its optimiser matches prefixes of parameter names. Here one
    plan serves both, by prefixes, and reads iteration and epoch of the run; models that freeze by epochs use it too.
    The optimiser of a plan is made in optimizer.py; FreezeNormalisation takes the place of fast-reid's LayerFreeze.
    """
    fastreid.solver.build.maybe_add_freeze_layer = lambda cfg, optimizer: optimizer  # its counter restarts
