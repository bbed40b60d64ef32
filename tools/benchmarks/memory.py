"""Timing of functions without and with kept memory (see igoas_plugin.core.allocator), and their largest costs."""

from collections import Counter
from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from igoas_plugin.core.allocator import keep_freed_memory
from igoas_plugin.core.timing import Row, measure


def measure_memory(
    usual: dict[str, Callable[[], object]],
    kept: dict[str, Callable[[], object]],
    case: str,
    repeats: int,
    device: torch.device,
    profile: bool = False,
    **described,
) -> list[Row]:
    """Times ways by which the process frees its memory, then ways by which it keeps it.

    The order matters, because a process that has kept its memory goes on using it. Each group is run once in turn
    before it is timed, so that each way finds the memory that the other ways have left.

    Args:
        usual: {name: function}, the plain way first.
        kept: {name: function} with kept memory, timed last.
        case: name of the benchmark.
        repeats: how often each way is timed.
        device: where the work is done; on a GPU both groups use memory alike.
        profile: whether each way is run once more to find its largest costs.
        described: `work` and `unit` of the rows.
    """
    rows = []
    for ways in (usual, kept):
        if ways is kept and device.type == "cpu":
            keep_freed_memory()
        measured = measure(ways, case, repeats, rounds=1, device=device, **described)
        for row in measured if profile else ():
            costs = largest_costs(ways[row.way], device)
            row.facts["costs"] = ", ".join(f"{operator} {100 * share:.0f} %" for operator, share in costs.items())
        rows += measured
    return rows


def largest_costs(way: Callable[[], object], device: torch.device, count: int = 3) -> dict[str, float]:
    """Runs a function once under torch's profiler.

    Returns:
        {operator: its share of the time of all operators}, the largest first. The time is that of the operator itself,
        without the operators that it calls; on a GPU that of its kernels. {} if the profiler reports no times.
    """
    gpu = device.type == "cuda"
    with torch.profiler.profile(
        activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    ) as profiler:
        way()
    costs = Counter()
    for event in profiler.key_averages():
        if event.device_type == DeviceType.CPU:  # kernels are listed a second time by their own names
            costs[event.key] += event.self_device_time_total if gpu else event.self_cpu_time_total
    return {operator: cost / costs.total() for operator, cost in costs.most_common(count) if cost}
