"""Metrics that arrive from a GPU without a step waiting for them."""

import functools
import math
from typing import NamedTuple

import fastreid.utils.events
import torch
import torch.distributed as dist
from fastreid.engine.train_loop import HookBase, SimpleTrainer
from fastreid.utils import comm
from fastreid.utils.history_buffer import HistoryBuffer
from torch import Tensor

from igoas_plugin.core.errors import NotFinite

from .fix import fix, replace_everywhere

HostStorage = fastreid.utils.events.EventStorage


class Label(NamedTuple):
    """What belongs to a scalar whose value is not there yet."""

    name: str
    iteration: int
    smoothing_hint: bool


class OnTheWay:
    """Scalars that are being copied from a device to the CPU.

    Args:
        values: shape (N,), on the device.
    """

    def __init__(self, values: Tensor):
        self.values = torch.empty(values.shape, dtype=values.dtype, device="cpu", pin_memory=values.is_cuda)
        self.values.copy_(values, non_blocking=True)
        self.event = torch.cuda.Event() if values.is_cuda else None
        if self.event is not None:
            self.event.record(torch.cuda.current_stream(values.device))

    def arrived(self) -> list[float]:
        if self.event is not None:
            self.event.synchronize()
        return self.values.tolist()


def comes_late(value) -> bool:
    """Whether a value is one that the CPU would have to wait for, and that can be sent for."""
    return isinstance(value, Tensor) and value.is_cuda


class EventStorage(HostStorage):
    """The host's; tensors on a GPU are asked for when somebody looks at the storage, or a step later.

    Raises:
        NotFinite: by whatever lets scalars arrive: a total_loss that came late is not finite.
    """

    def __init__(self, start_iter=0):
        super().__init__(start_iter)
        self._put: list[tuple[Label, Tensor]] = []
        self._sent: list[tuple[list[Label], OnTheWay]] = []
        self._infinite_at: int | None = None

    def put_scalar(self, name, value, smoothing_hint=True):
        if not comes_late(value):
            value = value.detach() if isinstance(value, Tensor) else value
            return super().put_scalar(name, value, smoothing_hint)
        if self._put and self._put[0][0].iteration != self._iter:  # a loop that is not the host's: nobody sends
            self.receive_then_send()
        label = Label(self._current_prefix + name, self._iter, smoothing_hint)
        self._put.append((label, value.detach().double().reshape(())))

    def receive_then_send(self) -> None:
        """Takes what was sent in the step before, which is there by now, and starts the copy of what was put since."""
        sent, self._sent = self._sent, []
        for labels, values in sent:
            for label, value in zip(labels, values.arrived(), strict=True):
                self._take(label, value)
        if self._put:
            labels, values = zip(*self._put, strict=True)
            self._put = []
            self._sent.append((labels, OnTheWay(torch.stack(values))))
        if self._infinite_at is not None:
            at, self._infinite_at = self._infinite_at, None
            raise infinite(at, {name: value for name, (value, of) in self._latest_scalars.items() if of == at})

    def _take(self, label: Label, value: float) -> None:
        now, prefix = self._iter, self._current_prefix
        self._iter, self._current_prefix = label.iteration, ""
        try:
            super().put_scalar(label.name, value, label.smoothing_hint)
        finally:
            self._iter, self._current_prefix = now, prefix
        if label.name == "total_loss" and not math.isfinite(value):
            self._infinite_at = label.iteration

    def receive_all(self) -> None:
        """Waits for everything that was put."""
        while self._put or self._sent:
            self.receive_then_send()

    def history(self, name):
        self.receive_all()
        return super().history(name)

    def histories(self):
        self.receive_all()
        return super().histories()

    def latest(self):
        self.receive_all()
        return super().latest()

    def latest_with_smoothing_hint(self, window_size=20):
        self.receive_all()
        return super().latest_with_smoothing_hint(window_size)


def infinite(iteration: int, losses: dict[str, float]) -> NotFinite:
    told = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    return NotFinite(
        f"iteration {iteration + 1:,}: a loss or a gradient is not finite (losses: {told}). Checkpoints are as they "
        "were: lower SOLVER.BASE_LR, or leave such steps out by SOLVER.ON_NONFINITE skip"
    )


def write_metrics(self, loss_dict, data_time):
    """SimpleTrainer._write_metrics: the mean of each loss and the longest data_time of all processes."""
    device = next(iter(loss_dict.values())).device
    device = device if device.type == "cuda" else torch.device("cpu")  # not every other one has float64
    losses = [loss.detach().reshape(()).to(device, non_blocking=device.type == "cuda") for loss in loss_dict.values()]
    losses = torch.stack(losses).double()
    values = torch.cat([losses, torch.full_like(losses[:1], data_time)])
    if comm.get_world_size() > 1:
        of_all = [torch.empty_like(values) for _ in range(comm.get_world_size())]
        dist.all_gather(of_all, values)
    else:
        of_all = [values]
    storage = fastreid.utils.events.get_event_storage()
    if comm.is_main_process():
        of_all = torch.stack(of_all)
        storage.put_scalar("data_time", of_all[:, -1].max())
        means = of_all[:, :-1].mean(0)
        total, means = means.sum(), dict(zip(loss_dict, means, strict=True))
        if (finite := self.guard.late) is not None:  # of the gradients too
            total = torch.where(finite.to(total.device), total, math.nan)
        storage.put_scalar("total_loss", total)
        if len(means) > 1:
            storage.put_scalars(**means)
    if isinstance(storage, EventStorage):  # not one of a user who loaded the host first
        storage.receive_then_send()


class LookAtLosses(HookBase):
    """After each epoch, before its checkpoint: where the loss became NaN, the run ends here."""

    def after_epoch(self):
        self.trainer.storage.latest()


@fix
def let_no_step_wait_for_its_losses() -> None:
    """Speed: on a GPU each step waits for the device a dozen times, once for each number that is logged.

    Between two such waits the device has nothing to do. Numbers are now asked for one step later, all at once, or when
    a line is written; an infinite loss ends the run one step later, and before a checkpoint. On the CPU nothing waits,
    and the loss is looked at before the weights are changed, as in the host.
    """
    replace_everywhere(HostStorage, EventStorage)
    SimpleTrainer._write_metrics = write_metrics


KEPT = 1000  # values of a scalar: the longest window that the host looks at (the median time of a step)
construct = HistoryBuffer.__init__


@functools.wraps(construct)
def construct_short(self, max_length: int = KEPT):
    construct(self, max_length)


@fix
def forget_scalars_of_long_ago() -> None:
    """Memory: a training keeps the last million values of every scalar: 2 kB a step, a GB in half a million steps.

    Nobody looks further back than a thousand; the mean over a whole run is counted beside them.
    """
    HistoryBuffer.__init__ = construct_short
