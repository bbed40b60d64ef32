"""By what a table was made: command, versions, machine."""

import importlib.metadata
import os
import platform
import shlex
import subprocess

import torch

from .. import __version__


def made_by(words: list[str]) -> str:
    """One paragraph of Markdown.

    Args:
        words: of the command line, without the interpreter.
    """
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("fastreid", "torch"))
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{processor()}, no GPU"
    return (
        f"Made by `python {shlex.join(words)}` with igoas_plugin {__version__}{commit()}, {versions}, "
        f"Python {platform.python_version()}; {machine}; {torch.get_num_threads()} of {os.cpu_count()} CPU threads."
    )


def commit() -> str:
    """The commit of this checkout, and whether files of it were changed; "" where it is none."""
    git = ["git", "-C", os.path.dirname(os.path.abspath(__file__))]
    try:
        told = [
            subprocess.run([*git, *words], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
            for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no", "."])
        ]
    except (OSError, subprocess.SubprocessError):
        return ""
    return f" (commit {told[0]}{', with changes' if told[1] else ''})"


def processor() -> str:
    """Its name as the system tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
