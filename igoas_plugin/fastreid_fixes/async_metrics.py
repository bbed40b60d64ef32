"""Metrics of a training: copied from a GPU asynchronously, so that no step waits for them, and kept for a while."""

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
original_init_history = HistoryBuffer.__init__
KEPT = 1000  # values of a scalar; fast-reid's longest window is the median time of a step over 1,000 steps


class Label(NamedTuple):
    """Name, iteration and smoothing hint of a scalar whose value has not arrived yet."""

    name: str
    iteration: int
    smoothing_hint: bool


class AsyncCopy:
    """Copy of scalars to the CPU that has been started.

    Args:
        values: shape (N,), on any device.
    """

    def __init__(self, values: Tensor):
        self.values = torch.empty(values.shape, dtype=values.dtype, device="cpu", pin_memory=values.is_cuda)
        self.values.copy_(values, non_blocking=True)
        self.event = torch.cuda.Event() if values.is_cuda else None
        if self.event is not None:
            self.event.record(torch.cuda.current_stream(values.device))

    def wait(self) -> list[float]:
        """Waits until the copy is complete and returns the values."""
        if self.event is not None:
            self.event.synchronize()
        return self.values.tolist()


def is_on_gpu(value) -> bool:
    """Returns whether the value is a CUDA tensor, so that reading it would synchronise."""
    return isinstance(value, Tensor) and value.is_cuda


class EventStorage(HostStorage):
    """Event storage that takes CUDA tensors and reads them one step later, or when somebody reads the storage.

    Raises:
        NotFinite: the total_loss of an earlier step was not finite. Every method that receives values may raise it.
    """

    def __init__(self, start_iter=0):
        super().__init__(start_iter)
        self._put: list[tuple[Label, Tensor]] = []
        self._sent: list[tuple[list[Label], AsyncCopy]] = []
        self._infinite_at: int | None = None

    def put_scalar(self, name, value, smoothing_hint=True):
        if not is_on_gpu(value):
            value = value.detach() if isinstance(value, Tensor) else value
            return super().put_scalar(name, value, smoothing_hint)
        if self._put and self._put[0][0].iteration != self._iter:  # a training loop that never calls receive_and_send()
            self.receive_and_send()
        label = Label(self._current_prefix + name, self._iter, smoothing_hint)
        self._put.append((label, value.detach().double().reshape(())))

    def receive_and_send(self) -> None:
        """Stores the scalars of the step before, whose copy is complete by now, and starts the copy of new ones."""
        sent, self._sent = self._sent, []
        for labels, values in sent:
            for label, value in zip(labels, values.wait(), strict=True):
                self._store(label, value)
        if self._put:
            labels, values = zip(*self._put, strict=True)
            self._put = []
            self._sent.append((labels, AsyncCopy(torch.stack(values))))
        if self._infinite_at is not None:
            at, self._infinite_at = self._infinite_at, None
            raise NotFinite(
                not_finite_at(at, {name: value for name, (value, of) in self._latest_scalars.items() if of == at})
            )

    def _store(self, label: Label, value: float) -> None:
        now, prefix = self._iter, self._current_prefix
        self._iter, self._current_prefix = label.iteration, ""
        try:
            super().put_scalar(label.name, value, label.smoothing_hint)
        finally:
            self._iter, self._current_prefix = now, prefix
        if label.name == "total_loss" and not math.isfinite(value):
            self._infinite_at = label.iteration

    def receive_all(self) -> None:
        """Waits for all scalars and stores them."""
        while self._put or self._sent:
            self.receive_and_send()

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


def not_finite_at(iteration: int, losses: dict[str, float]) -> str:
    """Returns the message about a step whose sum of losses is not finite."""
    values = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    return (
        f"iteration {iteration + 1:,}: a loss or a gradient is not finite (losses: {values}). No checkpoint has "
        "changed: lower SOLVER.BASE_LR, or skip such steps by SOLVER.ON_NONFINITE skip"
    )


def write_metrics(self, loss_dict, data_time):
    """Replaces SimpleTrainer._write_metrics; logs the mean of each loss and the longest data_time of all processes."""
    device = next(iter(loss_dict.values())).device
    device = device if device.type == "cuda" else torch.device("cpu")  # some other devices have no float64
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
        if (finite := self.guard.pending) is not None:  # covers the gradients too
            total = torch.where(finite.to(total.device), total, math.nan)
        if not is_on_gpu(total) and not total.isfinite():  # a project's own run_step() has no NonFiniteGuard
            raise NotFinite(not_finite_at(storage.iter, {name: float(mean) for name, mean in means.items()}))
        storage.put_scalar("total_loss", total)
        if len(means) > 1:
            storage.put_scalars(**means)
    if isinstance(storage, EventStorage):  # a user may hold fast-reid's own class
        storage.receive_and_send()


class LookAtLosses(HookBase):
    """Hook that reads the losses after each epoch, so that a NaN ends the run before its checkpoint."""

    def after_epoch(self):
        self.trainer.storage.latest()


@fix
def let_no_step_wait_for_its_losses() -> None:
    """A step on a GPU waits for the device a dozen times, once for each number in the log.

    The device is idle during these waits. Now all numbers are copied at once and read one step later, or when a line is
    written. An infinite loss ends the run one step later, before any checkpoint. On a CPU the loss is checked before
    the weights change, as in fast-reid.
    """
    replace_everywhere(HostStorage, EventStorage)
    SimpleTrainer._write_metrics = write_metrics


def init_short_history(self, max_length: int = KEPT):
    """Replaces HistoryBuffer.__init__, whose default is a million values."""
    original_init_history(self, max_length)


@fix
def keep_short_histories() -> None:
    """A long training fills the memory: half a million steps take a GB, as every scalar keeps a million values.

    Nothing reads more than the last thousand values; the mean over a whole run is counted separately.
    """
    HistoryBuffer.__init__ = init_short_history
