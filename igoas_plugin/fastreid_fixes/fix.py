"""Registration of fixes of fast-reid's faults, and replacement of fast-reid's objects."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # fast-reid cannot be imported before its first fix
    from fastreid.utils.registry import Registry

FIXES: list[Callable[[], None]] = []
# Modules that may have imported names of fast-reid before the plugin; none if the plugin imports fast-reid first
LOADED_BEFORE = set(sys.modules) if "fastreid" in sys.modules else set()


def fix(apply: Callable[[], None]) -> Callable[[], None]:
    """Registers a function that fixes one fault of fast-reid; patch_fastreid() calls it once.

    The first line of the function's docstring names the symptom. The cause and the upstream issue follow.
    """
    FIXES.append(apply)
    return apply


def fastreid_classes(registry: "Registry") -> list:
    """Returns the classes in a registry that fast-reid registered; those of a user are not patched."""
    return [each for each in registry._obj_map.values() if each.__module__.split(".")[0] == "fastreid"]


def replace_everywhere(original: Any, replacement: Any) -> None:
    """Replaces an object in every module of fast-reid, and in every other one that was loaded before the plugin.

    Several modules hold the same object, because names are imported by ``from ... import``.

    Raises:
        RuntimeError: no module holds `original`.
    """
    plugin, found = __name__.split(".")[0], False
    for name, module in list(sys.modules.items()):
        package = name.split(".")[0]
        patched = package == "fastreid" or (name in LOADED_BEFORE and package != plugin)
        if not patched or not isinstance(module, ModuleType):
            continue
        for attribute, value in list(vars(module).items()):
            if value is original:
                setattr(module, attribute, replacement)
                found = True
    if not found:
        raise RuntimeError(f"no module of fastreid holds {original!r}")
