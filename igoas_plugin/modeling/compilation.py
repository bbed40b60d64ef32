"""torch.compile: its requirements, and how an evaluation avoids it."""

import os
import shutil
from contextlib import AbstractContextManager, nullcontext

import torch

from igoas_plugin.core.errors import InputError
from igoas_plugin.fastreid_fixes.device import usable_device

COMPILERS = ("g++", "clang++", "cl")


def require_compiler(device: str) -> None:
    """Raises InputError if torch.compile cannot work: torch is too old, or a CPU has no C++ compiler."""
    if not hasattr(torch.compiler, "set_stance"):
        raise InputError(f"MODEL.IGOAS.COMPILE needs torch 2.6 or newer, and this is torch {torch.__version__}")
    compilers = (os.environ.get("CXX"), *COMPILERS)
    if usable_device(device) == "cpu" and not any(name and shutil.which(name) for name in compilers):
        raise InputError("MODEL.IGOAS.COMPILE needs a C++ compiler on a CPU: install g++, or set it to False")


def uncompiled() -> AbstractContextManager:
    """Returns a context in which compiled modules run uncompiled, because each new batch size would compile again.

    A whole model that its user compiles stays compiled.
    """
    return nullcontext() if torch.compiler.is_compiling() else torch.compiler.set_stance("force_eager")
