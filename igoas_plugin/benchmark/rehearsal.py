import time
from collections.abc import Callable, Collection

import torch

from igoas_plugin.host.kept_memory import keep_freed_memory

from .measure import wait_for


class Rehearsal:
    """Runs a way once before it is timed, with the memory as that way has it.

    So it makes no difference what the way before has left in the memory of the process.

    Args:
        ways: {name: function}.
        kept: names of those in which the process keeps what it frees, see host.kept_memory.
        device: where the work is done.

    Attributes:
        first: seconds of the first run of each way.
    """

    def __init__(self, ways: dict[str, Callable[[], object]], kept: Collection[str], device: torch.device):
        self.ways, self.kept, self.device = ways, kept, device
        self.first: dict[str, float] = {}

    def __call__(self, way: str) -> None:
        keep_freed_memory(way in self.kept)
        started = time.perf_counter()
        self.ways[way]()
        wait_for(self.device)
        self.first.setdefault(way, time.perf_counter() - started)
