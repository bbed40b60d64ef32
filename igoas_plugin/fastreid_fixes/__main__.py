"""Command ``python -m igoas_plugin.fastreid_fixes``, which prints the fixes of fast-reid on this machine."""

import platform
import textwrap

import faiss
import torch
import torchvision
from tabulate import tabulate

from . import FIXES
from .imports import require_fastreid


def main() -> None:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    versions = {
        "fastreid": require_fastreid(),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "faiss": faiss.__version__,
        "device": device,
    }
    print(tabulate(versions.items()))
    rows = [(fix.__name__.replace("_", " "), textwrap.fill(fix.__doc__.splitlines()[0], 90)) for fix in FIXES]
    print(tabulate(rows, headers=("fix", "fault of fast-reid")))


if __name__ == "__main__":
    main()
