"""Timing of several ways to do the same work, and a table of the results."""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

MB = 1e6  # bytes


@dataclass
class Row:
    """Measurement of one way to do some work.

    Args:
        case: name of the work.
        way: name of the way to do it.
        seconds: time of each repeat.
        memory_mb: peak memory above that in use before, in 10^6 bytes; None if the system does not report it.
        work: amount of work of one repeat, in `unit`; 0 if there is no natural unit.
        unit: unit of the work, such as "images".
        facts: further columns of the row, {key of FACTS: value}.
        first_seconds: time of the first run, which warms up.
    """

    case: str
    way: str
    seconds: list[float] = field(default_factory=list)
    memory_mb: float | None = None
    work: float = 0
    unit: str = ""
    facts: dict = field(default_factory=dict)
    first_seconds: float | None = None

    @property
    def median(self) -> float:
        """Median time of the repeats, in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half of the range of the repeats, as a fraction of the median."""
        return (max(self.seconds) - min(self.seconds)) / 2 / self.median


def measure(
    ways: dict[str, Callable[[], object]],
    case: str,
    repeats: int,
    rounds: int = 0,
    device: torch.device | str = "cpu",
    **described,
) -> list[Row]:
    """Times several ways to do the same work, in turn, so that a change of the machine's speed affects all alike.

    Args:
        ways: {name: function to be timed}, the baseline first.
        case: name of the work.
        repeats: number of timed runs of each way.
        rounds: number of untimed runs of each way after its warm-up run.
        device: device that does the work, and whose memory is measured.
        described: `work` and `unit` of the rows.

    Returns:
        A row for each way, in the order of `ways`.
    """
    device = torch.device(device)
    rows = [Row(case, way, **described) for way in ways]
    for way, row in zip(ways.values(), rows, strict=True):
        started = time.perf_counter()
        row.memory_mb = peak_on_gpu(way, device) if device.type == "cuda" else peak_of(way)
        row.first_seconds = time.perf_counter() - started
        if device.type == "cuda":  # the first peak includes the trials by which cuDNN chooses its algorithms
            row.memory_mb = peak_on_gpu(way, device)
    for repeat in range(-rounds, repeats):
        for way, row in zip(ways.values(), rows, strict=True):
            wait_for(device)
            started = time.perf_counter()
            way()
            wait_for(device)
            if repeat >= 0:
                row.seconds.append(time.perf_counter() - started)
    return rows


def wait_for(device: torch.device) -> None:
    """Waits until a GPU has finished its work; returns at once for a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_on_gpu(way: Callable[[], object], device: torch.device) -> float:
    """Calls the function and returns the peak of the GPU's memory above that in use before, in 10^6 bytes."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    way()
    wait_for(device)
    return (torch.cuda.max_memory_allocated(device) - before) / MB


def peak_of(way: Callable[[], object]) -> float | None:
    """Calls the function and returns the peak of this process's memory above that in use before, in 10^6 bytes.

    Returns None if the system does not report the peak.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # freed memory that glibc keeps would be reused unseen
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # Linux: resets the peak
        before = peak_bytes()
    except (AttributeError, OSError, TypeError):  # another system
        way()
        return None
    way()
    return max(peak_bytes() - before, 0) / MB


def peak_bytes() -> int:
    """Returns the peak memory of this process since the last reset (VmHWM of Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


def random_batch(size: tuple[int, int], images: int, device: torch.device, identities: int = 2) -> dict[str, Tensor]:
    """Returns a batch of random images, as fast-reid's loader gives it.

    Args:
        size: height and width.
        images: number of images.
        device: device of the batch.
        identities: number of different targets.
    """
    return {
        "images": 255 * torch.rand(images, 3, *size, device=device),
        "targets": torch.arange(images, device=device) % identities,
        "camids": torch.zeros(images, dtype=torch.int64, device=device),
    }


FACTS = {
    "rank_1": "Rank-1",
    "map": "mAP",
    "recall": "recall",
    "build_seconds": "build s",
    "cosine": "cosine",
    "first_seconds": "first step s",
    "peak_share": "of the peak",
    "costs": "largest costs",
}


def name_of(dtype: torch.dtype) -> str:
    """Returns the name of a dtype without its module, such as bfloat16."""
    return str(dtype).removeprefix("torch.")


def format_fact(fact: float | str) -> str:
    """Returns a fact as text, a number with 4 digits."""
    return fact if isinstance(fact, str) else f"{fact:.4g}"


def as_table(rows: list[Row]) -> str:
    """Returns a Markdown table with a line for each row.

    The column "times faster" compares the medians with that of the first way of the same case.
    """
    plain, lines = {}, []
    facts = [fact for fact in FACTS if any(fact in row.facts for row in rows)]
    rated = any(row.unit for row in rows)
    for row in rows:
        first = plain.setdefault(row.case, row)
        lines.append(
            [
                row.case,
                row.way,
                f"{row.median:.3g} ± {100 * row.spread:.0f} %",
                *([f"{row.work / row.median:.4g} {row.unit}/s" if row.unit else ""] if rated else []),
                f"{first.median / row.median:.2f}" if first is not row else "1",
                "-" if row.memory_mb is None else f"{row.memory_mb:.0f}",
                *(format_fact(row.facts.get(fact, "")) for fact in facts),
            ]
        )
    headers = ["case", "way", "seconds", *(["speed"] if rated else []), "times faster", "peak MB"]
    return tabulate(lines, headers=[*headers, *(FACTS[fact] for fact in facts)], tablefmt="pipe", disable_numparse=True)
