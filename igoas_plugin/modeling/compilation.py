"""What torch.compile needs, and where it is not wanted."""

import os
import shutil
from contextlib import AbstractContextManager, nullcontext

import torch

from igoas_plugin.core.errors import InputError
from igoas_plugin.fastreid_fixes.device import usable_device

COMPILERS = ("g++", "clang++", "cl")


def require_compiler(device: str) -> None:
    """Raises InputError where torch.compile cannot work: an old torch, or a CPU without a C++ compiler."""
    if not hasattr(torch.compiler, "set_stance"):
        raise InputError(f"MODEL.IGOAS.COMPILE needs torch 2.6 or newer, and this is torch {torch.__version__}")
    compilers = (os.environ.get("CXX"), *COMPILERS)
    if usable_device(device) == "cpu" and not any(name and shutil.which(name) for name in compilers):
        raise InputError(
            "MODEL.IGOAS.COMPILE needs a C++ compiler on a CPU, and there is none: install g++, or set it False"
        )


def uncompiled() -> AbstractContextManager:
    """A context in which what was given to torch.compile runs as it is: each new size of a batch would be compiled.

    A whole model that is being compiled by its user stays so.
    """
    return nullcontext() if torch.compiler.is_compiling() else torch.compiler.set_stance("force_eager")
