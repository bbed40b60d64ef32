"""How a fault of the host is mended: one small function a fault, applied once, listed in a table."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # nothing of the host can be imported before its first fix
    from fastreid.utils.registry import Registry


@dataclass
class Fix:
    """One mended fault of the host.

    Args:
        apply: the function that mends it; its docstring gives symptom, reason and upstream issue.
        applied: whether the host was changed.
        note: what was done, or why nothing had to be done.
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
    """Registers a function that mends one fault of the host; they run once, in the order of registration.

    Args:
        apply: takes nothing; returns None where it changed the host, or the reason why nothing had to be changed.
    """
    FIXES.append(Fix(apply))
    return apply


def apply_fixes() -> None:
    """Runs every registered fix that has not run yet."""
    for each in FIXES:
        if each.note == "not run yet":
            reason = each.apply()
            each.applied, each.note = reason is None, reason or "applied"


def classes_of_host(registry: "Registry") -> list:
    """What the host itself registered; what a user registered stays as the user wrote it."""
    return [each for each in registry._obj_map.values() if each.__module__.split(".")[0] == "fastreid"]


def modules_with_names_of_host() -> list[ModuleType]:
    """The host's modules; and, where the host was loaded before the plugin, all that may have imported from it."""
    plugin = __name__.split(".")[0]
    return [
        module
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType)
        and (name.split(".")[0] == "fastreid" or (name in LOADED_BEFORE and name.split(".")[0] != plugin))
    ]


# Modules that may hold names of the host from before it was mended: none where the plugin loads the host
LOADED_BEFORE = set(sys.modules) if "fastreid" in sys.modules else set()


def replace_everywhere(original: Any, replacement: Any) -> None:
    """Puts `replacement` where any loaded module of the host, or of a user who loaded the host first, holds `original`.

    Names are imported by ``from ... import``, so one object has several homes.

    Raises:
        RuntimeError: no module holds `original`.
    """
    found = False
    for module in modules_with_names_of_host():
        for attribute, value in list(vars(module).items()):
            if value is original:
                setattr(module, attribute, replacement)
                found = True
    if not found:
        raise RuntimeError(f"no module of fastreid holds {original!r}")
