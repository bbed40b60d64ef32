"""Exponential moving average (EMA) of the weights, which a run evaluates and saves in place of the raw weights."""

import contextlib
from collections.abc import Iterator

import torch
from fastreid.engine.hooks import EvalHook, PreciseBN
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .distributed import AverageNormalisation

STATE = "ema"  # key of the raw weights and the number of updates in a checkpoint, whose key "model" has the average


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Returns the parameters and persistent buffers of a model by name; a shared one once, under its last name."""
    state = model.state_dict(keep_vars=True).items()
    return dict({id(value): (name, value) for name, value in state if isinstance(value, Tensor)}.values())


@torch.no_grad()
def set_tensors(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Copies values into the tensors of a model, in place.

    Raises:
        KeyError: a tensor is missing.
        ValueError: a tensor has another shape.
    """
    for name, tensor in tensors_of(model).items():
        if values[name].shape != tensor.shape:
            raise ValueError(f"{name} has shape {tuple(values[name].shape)}, not {tuple(tensor.shape)}")
        tensor.copy_(values[name])


class WeightAverage(HookBase):
    r"""Hook that averages the weights of a training, and makes the run evaluate and save the average.

    The first update copies the weights. Update n after it, n = 1, 2, ..., is

    .. math:: \bar w \leftarrow d_n \bar w + (1 - d_n) w, \quad d_n = \min(d, (1 + n) / (10 + n)).

    The warm-up of the decay lets a short run forget its first weights. It is that of TensorFlow's
    ExponentialMovingAverage with num_updates. The EMAHook of d2go has the same one as an option, and timm's ModelEmaV3
    another one.

    Buffers of floating point, such as the statistics of BatchNorm, are averaged with the same decay, as timm and d2go
    do it. Other buffers are copied. A step that the NonFiniteGuard skips is no update. One whose gradients overflow in
    float16 is, because asking would synchronise with the GPU; the weights stay the same in it.

    The average takes the memory of one copy of the model, on its device. It trades places with the raw weights, in
    place and tensor by tensor, for the time of an evaluation, PreciseBN, or the writing of a checkpoint.

    Args:
        model: model of the trainer.
        decay: weight of the average in an update after the warm-up, in [0, 1).
        start: number of epochs before the first update, 0 or more. Until then the average is the raw weights.

    Attributes:
        average: tensors by name; empty before the first update. While `applied` is true, the raw ones.
        applied: whether the model holds the average.
        updates: number of updates.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, start: int = 0):
        self.model = model.module if isinstance(model, DistributedDataParallel) else model
        self.decay, self.start = decay, start
        self.average: dict[str, Tensor] = {}
        self.applied = False
        self.updates = 0
        self.continued = False  # whether a checkpoint had a state for this hook

    @classmethod
    def from_config(cls, cfg, model: nn.Module) -> "WeightAverage | None":
        """Returns the hook of SOLVER.EMA, None if it is not enabled."""
        keys = cfg.SOLVER.get("EMA")
        return cls(model, keys.DECAY, keys.START) if keys and keys.ENABLED else None

    def serve(self, trainer, hooks: list[HookBase]) -> None:
        """Makes a trainer evaluate and save the average.

        Args:
            trainer: its `test`, also where a project calls it, and its checkpointer.
            hooks: those of the run. Evaluations and PreciseBN see the average alone.
        """
        trainer.checkpointer.checkpointables[STATE] = self
        trainer.test = self.in_place()(trainer.test)
        for hook in hooks:
            # a signal that ends an evaluation must not come between two tensors, so the hook as a whole
            if isinstance(hook, (EvalHook, PreciseBN)):
                hook.after_epoch = self.in_place()(hook.after_epoch)

    def after_step(self):
        skipped = getattr(getattr(self.trainer._trainer, "guard", None), "skipped", 0)
        if not skipped and (self.average or self.trainer.epoch >= self.start):
            self.update()

    def after_epoch(self):
        if self.average and comm.get_world_size() > 1:
            with self.in_place():
                AverageNormalisation(self.model).after_epoch()

    @torch.no_grad()
    def update(self) -> None:
        """Takes the weights of the model into the average."""
        tensors, n = tensors_of(self.model), self.updates
        if n == 0:
            self.average = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        else:
            names = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
            mean = get_ema_multi_avg_fn(min(self.decay, (1 + n) / (10 + n)))
            mean([self.average[name] for name in names], [tensors[name] for name in names], n)
            for name in tensors.keys() - set(names):
                self.average[name].copy_(tensors[name])
        self.updates += 1

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Context in which the model holds the average; afterwards it holds the raw weights again, bit by bit."""
        outermost = not self.applied
        if outermost:
            self.exchange()
        try:
            yield
        finally:
            if outermost:
                self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Exchanges the values of the model and of the average; the tensors of the model stay where they are."""
        tensors = tensors_of(self.model)
        for name, other in self.average.items():
            before = tensors[name].clone()
            tensors[name].copy_(other)
            other.copy_(before)
        self.applied = not self.applied

    def state_dict(self) -> dict:
        """Returns what a checkpoint stores beside the average: the raw weights, none before the first update."""
        raw = self.average if self.applied else {name: each.detach() for name, each in tensors_of(self.model).items()}
        return {"updates": self.updates, "raw_weights": raw if self.average else {}}

    def load_state_dict(self, state: dict) -> None:
        """Continues the average, which the model holds, and gives the model its raw weights.

        Raises:
            KeyError, ValueError, TypeError: the state does not fit.
        """
        self.updates, self.continued = int(state["updates"]), True
        self.average = {}
        if self.updates:
            self.average = {name: tensor.detach().clone() for name, tensor in tensors_of(self.model).items()}
            set_tensors(self.model, state["raw_weights"])


def average_in_place(checkpointables: dict) -> contextlib.AbstractContextManager:
    """Returns a context in which the model of a checkpointer holds the average, if the run has one."""
    return checkpointables[STATE].in_place() if STATE in checkpointables else contextlib.nullcontext()
