"""Training step on any device."""

import time

from fastreid.engine.train_loop import AMPTrainer, SimpleTrainer
from fastreid.utils.params import ContiguousParams

from .amp import autocast_to
from .fix import fix


def run_step(self):
    """SimpleTrainer.run_step and AMPTrainer.run_step; what is not finite does not reach the weights.

    See amp.py for the types of mixed precision, nonfinite.py for the guard.
    """
    assert self.model.training, "the model was changed to eval mode"
    mixed = isinstance(self, AMPTrainer)
    start = time.perf_counter()
    batch = next(self._data_loader_iter)
    data_time = time.perf_counter() - start
    self.guard.before_forward(self.model)
    if mixed:
        with autocast_to(self.dtype, self.device_type):
            losses = self.model(batch)
            total = sum(losses.values())
        total = self.grad_scaler.scale(total)
    else:
        losses = self.model(batch)
        total = sum(losses.values())
    self.optimizer.zero_grad()
    total.backward()
    if self.guard.passes(self, batch, losses):
        self._write_metrics(losses, data_time)
        if mixed:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        else:
            self.optimizer.step()
    if isinstance(self.param_wrapper, ContiguousParams):
        self.param_wrapper.assert_buffer_is_valid()


@fix
def step_on_any_device() -> None:
    """AssertionError: the host's step of mixed precision demands CUDA, and uses the deprecated torch.cuda.amp.

    Upstream: fast-reid #700 (crash), #97, #485 (CPU).
    """
    SimpleTrainer.run_step = AMPTrainer.run_step = run_step
