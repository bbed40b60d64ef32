"""Fixes of fast-reid's faults: one small function a fault, applied once, listed in a table."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # fast-reid cannot be imported before its first fix
    from fastreid.utils.registry import Registry


@dataclass
class Fix:
    """Fix of one fault of fast-reid.

    Args:
        apply: function that applies it. Its docstring names the symptom in its first line, then the cause.
        applied: whether fast-reid was changed.
        note: "applied", or why this machine does not need the fix.
    """

    apply: Callable[[], str | None]
    applied: bool = False
    note: str = "not run yet"

    @property
    def name(self) -> str:
        return self.apply.__name__.replace("_", " ")

    @property
    def symptom(self) -> str:
        return self.apply.__doc__.strip().splitlines()[0]


FIXES: list[Fix] = []


def fix(apply: Callable[[], str | None]) -> Callable[[], str | None]:
    """Registers a function that fixes one fault of fast-reid.

    Args:
        apply: takes nothing. Returns None if it changed fast-reid, or the reason why nothing had to be changed.
    """
    FIXES.append(Fix(apply))
    return apply


def apply_fixes() -> None:
    """Runs every registered fix that has not run yet, in the order of registration."""
    for each in FIXES:
        if each.note == "not run yet":
            reason = each.apply()
            each.applied, each.note = reason is None, reason or "applied"


def fastreid_classes(registry: "Registry") -> list:
    """Returns the classes in a registry that fast-reid registered; those of a user are not patched."""
    return [each for each in registry._obj_map.values() if each.__module__.split(".")[0] == "fastreid"]


# Modules that may have imported names of fast-reid before the plugin; none if the plugin imports fast-reid first
LOADED_BEFORE = set(sys.modules) if "fastreid" in sys.modules else set()


def modules_to_patch() -> list[ModuleType]:
    """Returns the modules of fast-reid, and all others that were loaded before the plugin."""
    plugin = __name__.split(".")[0]
    return [
        module
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType)
        and (name.split(".")[0] == "fastreid" or (name in LOADED_BEFORE and name.split(".")[0] != plugin))
    ]


def replace_everywhere(original: Any, replacement: Any) -> None:
    """Replaces an object of fast-reid in every module that holds it.

    Several modules hold the same object, because names are imported by ``from ... import``.

    Raises:
        RuntimeError: no module holds `original`.
    """
    found = False
    for module in modules_to_patch():
        for attribute, value in list(vars(module).items()):
            if value is original:
                setattr(module, attribute, replacement)
                found = True
    if not found:
        raise RuntimeError(f"no module of fastreid holds {original!r}")
