"""Fixes of fast-reid 1.4.0 on today's Python and torch, in memory; no file of fast-reid is edited.

Each function with ``@fix`` fixes one fault, and its docstring names symptom, cause and upstream issue. All fixes run
once, when the plugin is imported. ``python -m igoas_plugin.fastreid_fixes`` prints them.
"""

import importlib

from .fix import FIXES
from .imports import require_fastreid

FILES = (
    "imports",  # first: it imports fast-reid
    "registry",  # before anything of the plugin registers
    "file_reading",
    "device",
    "images",
    "labels",
    "transforms",
    "preprocessing",
    "layers",
    "freezing",
    "optimizer",
    "amp",
    "nonfinite",
    "async_metrics",
    "cross_entropy",
    "eval_hook",
    "dense_ranking",
)


def patch_fastreid(*more: str) -> None:
    """Imports fast-reid and applies every fix.

    Args:
        more: modules of other folders that hold fixes too, in the order in which they are applied.

    Raises:
        ImportError: fastreid or faiss is not installed.
    """
    require_fastreid()
    applied = 0
    for name in (*(f"{__name__}.{file}" for file in FILES), *more):
        importlib.import_module(name)
        for apply in FIXES[applied:]:
            apply()
        applied = len(FIXES)


__all__ = ["FIXES", "patch_fastreid"]
