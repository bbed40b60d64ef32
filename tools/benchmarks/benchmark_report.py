"""Results of a benchmark as JSON and as a plot."""

import json
import platform
from dataclasses import asdict

import faiss
import numpy as np
import torch
import torchvision
from matplotlib.figure import Figure

from igoas_plugin.core.timing import Row
from igoas_plugin.core.version import __version__
from igoas_plugin.reports.figures.figure_file import rendered


def as_json(rows: list[Row], command: str) -> str:
    """Returns all repeats of all rows, with the command and the machine, as JSON."""
    return json.dumps({"command": command, "machine": machine(), "rows": [asdict(row) for row in rows]}, indent=2)


def machine() -> dict:
    """Returns what timings depend on: processor, threads, GPU and versions."""
    cpu = platform.processor() or platform.machine()
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "cpu": capabilities.get("cpu_name", cpu),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": bool(capabilities.get("avx512_bf16")),
        "amx": bool(capabilities.get("amx_bf16")),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "igoas_plugin": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "faiss": faiss.__version__,
    }


def growth_plot(rows: list[Row]) -> bytes | None:
    """Returns a PNG of time and peak memory over the size of the gallery, or None with fewer than two sizes."""
    rows = [row for row in rows if "gallery" in row.facts]
    if len({row.facts["gallery"] for row in rows}) < 2:
        return None
    figure = Figure(figsize=(9, 3.5), layout="tight")
    panels = figure.subplots(1, 2)
    for way in dict.fromkeys(row.way for row in rows):
        own = [row for row in rows if row.way == way]
        sizes = [row.facts["gallery"] / 1000 for row in own]
        panels[0].plot(sizes, [row.median for row in own], "o-", label=way)
        panels[1].plot(sizes, [row.memory_mb or float("nan") for row in own], "o-", label=way)
    panels[0].set(xlabel="gallery images (thousands)", ylabel="seconds", ylim=0)
    panels[1].set(xlabel="gallery images (thousands)", ylabel="peak memory (MB)", ylim=0)
    panels[0].legend()
    return rendered(figure)
