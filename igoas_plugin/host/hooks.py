"""How fixes add to the hooks that the host's trainer builds."""

import functools
from collections.abc import Callable

from fastreid.engine.defaults import DefaultTrainer
from fastreid.engine.hooks import EvalHook
from fastreid.engine.train_loop import HookBase


def extend_hooks(extend: Callable[[DefaultTrainer, list[HookBase]], list[HookBase]]) -> None:
    """Lets `extend(trainer, hooks) -> hooks` see and change what every DefaultTrainer registers."""
    build_hooks = DefaultTrainer.build_hooks

    @functools.wraps(build_hooks)
    def extended(trainer):
        return extend(trainer, build_hooks(trainer))

    DefaultTrainer.build_hooks = extended


def insert_before_evaluation(hooks: list[HookBase], hook: HookBase) -> list[HookBase]:
    """Evaluation, checkpoint and writers come last, in this order: the new hook goes in front of them."""
    at = next((i for i, each in enumerate(hooks) if isinstance(each, EvalHook)), len(hooks))
    return [*hooks[:at], hook, *hooks[at:]]
