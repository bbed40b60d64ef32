from collections.abc import Callable

import torch

from igoas_plugin.core.allocator import keep_freed_memory
from igoas_plugin.core.timing import Row, measure

from .costs import largest_costs


def measure_memory(
    usual: dict[str, Callable[[], object]],
    kept: dict[str, Callable[[], object]],
    case: str,
    repeats: int,
    device: torch.device,
    profile: bool = False,
    **described,
) -> list[Row]:
    """Times ways as the process takes and gives back memory by itself, then others as host.kept_memory has it.

    One group after the other: a process that has kept its memory reuses parts of it for good, whatever it is told. Each
    group is run once in turn before it is timed, so that each way finds the memory that the other ways have left.

    Args:
        usual: {name: function}, the plain way first.
        kept: {name: function}, timed last.
        case: name of the thing.
        repeats: how often each is timed.
        device: where the work is done; on a GPU both groups are the same to the memory.
        profile: whether each is run once more, for its largest costs.
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
