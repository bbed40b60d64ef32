"""How a fault of the host is mended: one small function a fault, applied once, listed in a table."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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


def replace_everywhere(original: Any, replacement: Any) -> None:
    """Puts `replacement` where any loaded module of the host holds `original`.

    The host imports names by ``from ... import``, so one object has several homes.

    Raises:
        RuntimeError: no module of the host holds `original`.
    """
    found = False
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "fastreid":
            continue
        for attribute, value in list(vars(module).items()):
            if value is original:
                setattr(module, attribute, replacement)
                found = True
    if not found:
        raise RuntimeError(f"no module of fastreid holds {original!r}")
