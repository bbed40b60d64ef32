"""The published fast-reid, made to run on today's Python and torch; nothing of it is edited on disk.

Each file mends one concern; each ``@fix`` in it is one fault. They run once, when the plugin is imported.
``python -m igoas_plugin.host`` prints what was done.
"""

import gc
import importlib

from .fix import FIXES, apply_fixes
from .version import require_host

FILES = (
    "imports",  # first: it loads the host
    "registry",  # before anything of the plugin registers
    "yaml_keys",
    "network_files",
    "device",
    "train_loop",
    "kept_memory",
    "loader",
    "images",
    "unreadable",
    "transforms",
    "preprocessing",
    "memory_format",
    "pretrained",
    "alignment",
    "optimizer",
    "freezing",
    "amp",
    "step",
    "nonfinite",
    "distributed",
    "saved_config",
    "log_files",
    "seeds",
    "late_scalars",
    "histories",
    "progress",
    "colours",
    "cross_entropy",
    "evaluation",
    "cython_ranking",
    "metrics",
    "roc_files",
    "reranking",
    "evaluator",
    "galleries",
    "fast_evaluation",
    "checkpoints",
    "kept_checkpoints",
    "training_summary",
    "resume",
    "interruption",
)


def prepare_host() -> None:
    """Loads the host and applies every fix.

    Raises:
        ImportError: fastreid or faiss is not installed.
    """
    require_host()
    collects = gc.isenabled()
    gc.disable()  # of what is imported nothing is garbage; to look for it again and again takes a fifth of the time
    try:
        for name in FILES:
            importlib.import_module(f"{__name__}.{name}")
            apply_fixes()
    finally:
        if collects:
            gc.enable()


__all__ = ["FIXES", "prepare_host"]
