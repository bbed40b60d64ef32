"""Operators that take the most time of a function."""

from collections import Counter
from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile


def largest_costs(way: Callable[[], object], device: torch.device, count: int = 3) -> dict[str, float]:
    """Runs a function once under torch's profiler.

    Returns:
        {operator: its share of the time of all operators}, the largest first. The time is that of the operator itself,
        without the operators that it calls; on a GPU that of its kernels. {} if the profiler reports no times.
    """
    gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as profiler:
        way()
    costs = Counter()
    for event in profiler.key_averages():
        if event.device_type == DeviceType.CPU:  # kernels are listed a second time by their own names
            costs[event.key] += event.self_device_time_total if gpu else event.self_cpu_time_total
    return {operator: cost / costs.total() for operator, cost in costs.most_common(count) if cost}
