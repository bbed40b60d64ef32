"""What the console says of a training, in one line."""

import re
from datetime import timedelta

import torch
from fastreid.utils.events import get_event_storage

from igoas_plugin.run_progress import run_progress

from .late_scalars import HostStorage

WINDOW = 20  # steps that a number is smoothed over, as in metrics.json
PROGRESS = re.compile(r"epoch (\d+)/\d+  iter (\d+)/\d+")  # the epoch, from 1, and how many iterations are done
LOSS = re.compile(r"(?!total_|raw_|loss_weight_).*loss")  # of those that are summed; IGOAS records others too


def progress_line(max_iter: int, seconds_left: float | None) -> str:
    """Epoch, iteration, total loss, covered share, images/s, time left; then what a narrow terminal cuts off.

    That is the learning rate, the part of a step that waits for images, the GPU memory, and each loss as it is summed.
    What the open event storage does not know is left out. Nobody waits for a GPU: losses that are still on their way
    come with a later line.

    Args:
        max_iter: iterations of the whole run.
        seconds_left: as estimated; None: not known yet.
    """
    storage, at = get_event_storage(), run_progress()
    scalars = {name: value for name, (value, _) in HostStorage.latest_with_smoothing_hint(storage, WINDOW).items()}
    step, wait = (
        HostStorage.history(storage, name).avg(WINDOW) if name in scalars else None for name in ("time", "data_time")
    )
    images = getattr(storage, "images_per_step", None)  # a bare storage does not know
    parts = [
        part("epoch {}/{}", at.epoch + 1, at.iters_per_epoch and max_iter // at.iters_per_epoch),
        part("iter {}/{}", at.iteration + 1, max_iter),
        part("loss {:.4g}", scalars.get("total_loss")),
        part("covered {:.0%}", scalars.get("occlusion/share")),
        part("{:.1f} images/s", ratio(images, step)),
        part("left {}", seconds_left if seconds_left is None else timedelta(seconds=round(seconds_left))),
        part("lr {:.2e}", scalars.get("lr")),
        part("data wait {:.0%}", ratio(wait, step)),
        part("{:.1f} GiB", torch.cuda.max_memory_allocated() / 2**30 or None),
        *(part(name.removeprefix("loss_") + " {:.4g}", scalars[name]) for name in scalars if LOSS.match(name)),
    ]
    return "  ".join(filter(None, parts))


def part(template: str, *values) -> str | None:
    return None if None in values else template.format(*values)


def ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None
