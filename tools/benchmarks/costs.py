from collections import Counter
from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile


def largest_costs(way: Callable[[], object], device: torch.device, count: int = 3) -> dict[str, float]:
    """Runs it once under torch's profiler.

    Returns:
        {operator: its share of the time of all operators}, the largest first: of the time that the operator itself
        takes, without those that it calls; on a GPU of its kernels' time, and {} where that is not told.
    """
    gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as profiler:
        way()
    costs = Counter()
    for event in profiler.key_averages():
        if event.device_type == DeviceType.CPU:  # a kernel is listed once more by its own name
            costs[event.key] += event.self_device_time_total if gpu else event.self_cpu_time_total
    return {operator: cost / costs.total() for operator, cost in costs.most_common(count) if cost}
