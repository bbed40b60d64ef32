"""Training step on any device."""

import time

from fastreid.engine.train_loop import AMPTrainer, SimpleTrainer
from fastreid.utils.params import ContiguousParams

from .amp import autocast_to
from .fix import fix


def run_step(self):
    """Replaces SimpleTrainer.run_step and AMPTrainer.run_step.

    amp.py sets the dtype of mixed precision. The guard of nonfinite.py checks losses and gradients before the step.
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
    """AssertionError: a training step with SOLVER.AMP.ENABLED needs CUDA.

    Upstream: fast-reid #700 (crash), #97, #485 (CPU).
    """
    SimpleTrainer.run_step = AMPTrainer.run_step = run_step
