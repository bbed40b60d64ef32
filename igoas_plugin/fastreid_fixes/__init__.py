"""Bugs of fast-reid 1.4.0 on today's Python and torch, one function each; nothing of fast-reid is edited on disk.

Each file concerns one thing, and each ``@fix`` in it is one fault: symptom, cause, upstream issue. They run once, when
the plugin is imported. ``python -m igoas_plugin.fastreid_fixes`` prints what was done.
"""

import gc
import importlib

from .fix import FIXES, apply_fixes
from .imports import require_host

FILES = (
    "imports",  # first: it loads fast-reid
    "registry",  # before anything of the plugin registers
    "yaml_loading",
    "network_files",
    "regnet_files",
    "device",
    "images",
    "transforms",
    "preprocessing",
    "alignment",
    "freezing",
    "optimizer",
    "amp",
    "train_step",
    "nonfinite",
    "async_metrics",
    "cross_entropy",
    "eval_hook",
)


def patch_fastreid(*more: str) -> None:
    """Loads fast-reid and applies every fix.

    Args:
        more: modules of other rooms that hold fixes too, in the order in which they are applied.

    Raises:
        ImportError: fastreid or faiss is not installed.
    """
    require_host()
    collects = gc.isenabled()
    gc.disable()  # nothing of what is imported is garbage; to look for it again and again takes a fifth of the time
    try:
        for name in (*(f"{__name__}.{file}" for file in FILES), *more):
            importlib.import_module(name)
            apply_fixes()
    finally:
        if collects:
            gc.enable()


__all__ = ["FIXES", "patch_fastreid"]
