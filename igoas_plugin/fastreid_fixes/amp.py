"""Mixed precision, and the training step, on any device."""

import functools
import logging
import time

import torch
from fastreid.engine.hooks import LRScheduler
from fastreid.engine.train_loop import AMPTrainer, HookBase, SimpleTrainer
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.utils.params import ContiguousParams

from .device import under_autocast
from .fix import fastreid_classes, fix

logger = logging.getLogger("fastreid.igoas_plugin")

DTYPES = ("auto", "float16", "bfloat16")  # of SOLVER.AMP.DTYPE


@functools.cache
def has_bfloat16() -> bool:
    """Returns whether this CPU has instructions for bfloat16; without them it is emulated, and slow."""
    try:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except (AttributeError, RuntimeError):  # a torch without oneDNN
        return False


@functools.cache
def amp_dtype(device_type: str, wanted: str = "auto") -> torch.dtype | None:
    """Returns the dtype of mixed precision for a type of torch.device.

    `wanted` is SOLVER.AMP.DTYPE. "auto" is float16 on CUDA, as in fast-reid, and bfloat16 elsewhere. If a CPU would
    emulate bfloat16, it is None, with one line in the log: a step of MobileNetV2 took 12 times as long there as in
    float32.
    """
    if wanted != "auto":
        return getattr(torch, wanted)
    if device_type == "cuda":
        return torch.float16
    if device_type != "cpu" or has_bfloat16():
        return torch.bfloat16
    logger.info("Mixed precision is left out: this CPU has no bfloat16 instructions, and float32 is faster on it")
    return None


def autocast_to(dtype: torch.dtype | None, device_type: str) -> torch.autocast:
    """Returns a context of autocast to a dtype of amp_dtype(); None is no autocast."""
    return torch.autocast(device_type, dtype or torch.float32, enabled=dtype is not None)


def init_amp_trainer(self, model, data_loader, optimizer, param_wrapper, grad_scaler=None):
    """Replaces AMPTrainer.__init__; works on any device."""
    SimpleTrainer.__init__(self, model, data_loader, optimizer, param_wrapper)
    self.device_type = next(model.parameters()).device.type
    compute_in(self, amp_dtype(self.device_type), grad_scaler)


def compute_in(trainer: AMPTrainer, dtype: torch.dtype | None, grad_scaler: torch.amp.GradScaler | None = None) -> None:
    """Sets the dtype of a trainer. Gradients are scaled in float16 only; bfloat16 has the range of float32."""
    trainer.dtype = dtype
    trainer.grad_scaler = grad_scaler or torch.amp.GradScaler(trainer.device_type, enabled=dtype == torch.float16)


@fix
def train_with_amp_on_any_device() -> None:
    """AMP uses the deprecated torch.cuda.amp, on a CPU too.

    Now AMP on a CPU with bfloat16 instructions is bfloat16 without scaled gradients.
    """
    AMPTrainer.__init__ = init_amp_trainer


def run_step(self):
    """Replaces SimpleTrainer.run_step and AMPTrainer.run_step; NonFiniteGuard checks losses and gradients."""
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


def warm_up_by_iteration(self):
    """Replaces LRScheduler.after_step; every iteration counts in the warm-up, whether its gradients overflow or not."""
    lr = self._optimizer.param_groups[self._best_param_group_id]["lr"]
    self.trainer.storage.put_scalar("lr", lr, smoothing_hint=False)
    if self.trainer.iter + 1 <= self.trainer.warmup_iters:
        self._scheduler["warmup_sched"].step()


@fix
def finish_the_warm_up_under_amp() -> None:
    """With AMP on CUDA, the warm-up may end too early, and the learning rate stays too low for the whole run.

    Cause: fast-reid's hook skips each step in which the scale of the gradients changes, but ends the warm-up at
    SOLVER.WARMUP_ITERS. The skipped steps are never made up for.
    """
    LRScheduler.after_step = warm_up_by_iteration
    LRScheduler.before_step = HookBase.before_step  # fast-reid's reads the scale, which synchronises with the GPU


def in_float32(method):
    """Returns the method without autocast; floating-point tensors, also in dicts and lists, are given as float32."""

    def cast(value):
        if isinstance(value, dict):
            return {key: cast(each) for key, each in value.items()}
        if isinstance(value, list):
            return [cast(each) for each in value]
        return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        device = next(self.parameters()).device.type
        if not under_autocast(device):
            return method(self, *args, **kwargs)
        with torch.autocast(device, enabled=False):
            return method(self, *map(cast, args), **cast(kwargs))

    return wrapped


@fix
def compute_heads_and_losses_in_float32() -> None:
    """AMP rounds logits, margins and, on a CPU, the cross-entropy to 16 bits.

    Cause: autocast on a CPU leaves log_softmax and the margin layers in bfloat16, whose steps near 5 are 0.03. Heads
    and losses take little time, so they run in float32.
    """
    for registry, method in ((REID_HEADS_REGISTRY, "forward"), (META_ARCH_REGISTRY, "losses")):
        for registered in fastreid_classes(registry):
            if method in vars(registered):
                setattr(registered, method, in_float32(vars(registered)[method]))
