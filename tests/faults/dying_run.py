"""Runs tools/train_net.py in a process that kills itself at a chosen point.

python tests/faults/dying_run.py POINT COUNT COUNTED [ARGUMENTS OF tools/train_net.py]

The point is counted in events and not in seconds, so it does not depend on the speed of the machine. POINT says which:
  start     audit events of Python (imports, opened files ...) before the first forward pass; the first forward pass
            if there are fewer than COUNT
  training  forward passes of modules, steps of the optimiser and audit events from the first forward pass on
  writing   pieces of files that write_atomically() is writing, from the first forward pass on
  a name    pieces of the file of that name, such as model_0001.pth

The process sends itself SIGKILL at number COUNT, or never where COUNT is 0. A process that ends in another way writes
the number of all events into the file COUNTED, as JSON.
"""

import io
import json
import os
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
POINT, COUNT, COUNTED = sys.argv[1], int(sys.argv[2]), sys.argv[3]
PROCESS = os.getpid()  # workers of the data loader are forked from it
seen = Counter()


def see(what: str) -> None:
    if os.getpid() == PROCESS:
        seen[what] += 1
        if what == POINT and seen[what] == COUNT:
            os.kill(PROCESS, signal.SIGKILL)


def audit(event, arguments) -> None:
    see("training" if seen["training"] else "start")


def forward(*given) -> None:
    if POINT == "start" and COUNT:
        os.kill(PROCESS, signal.SIGKILL)
    see("training")


sys.addaudithook(audit)
sys.path.insert(0, str(ROOT))
import igoas_plugin  # noqa: E402, F401  (first: it patches fast-reid)

# isort: split
from torch.nn.modules.module import register_module_forward_pre_hook  # noqa: E402
from torch.optim.optimizer import register_optimizer_step_post_hook  # noqa: E402

from igoas_plugin.core import files  # noqa: E402


class CountedFile(io.FileIO):
    """A file that counts the pieces that are written into it."""

    def write(self, content) -> int:
        if seen["training"]:
            see("writing")
        if Path(self.name).name.startswith(f"{POINT}."):
            see(POINT)
        return super().write(content)


if __name__ == "__main__":
    files.open = lambda path, mode: io.BufferedWriter(CountedFile(path, mode))
    register_module_forward_pre_hook(forward)
    register_optimizer_step_post_hook(lambda *given: see("training"))
    sys.argv = [str(ROOT / "tools/train_net.py"), *sys.argv[4:]]
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        Path(COUNTED).write_text(json.dumps(seen))
