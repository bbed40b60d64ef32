"""Mixed precision on any device."""

import functools
import logging

import torch
from fastreid.engine.hooks import LRScheduler
from fastreid.engine.train_loop import AMPTrainer, HookBase, SimpleTrainer
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY

from .device import under_autocast
from .fix import classes_of_host, fix

logger = logging.getLogger("fastreid.igoas_plugin")

DTYPES = ("auto", "float16", "bfloat16")  # of SOLVER.AMP.DTYPE


@functools.cache
def has_bfloat16() -> bool:
    """Whether this CPU has the instructions that bfloat16 is fast with; without them it is emulated."""
    try:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except (AttributeError, RuntimeError):  # a torch without oneDNN
        return False


@functools.cache
def amp_dtype(device_type: str, wanted: str = "auto") -> torch.dtype | None:
    """What mixed precision computes in.

    Args:
        device_type: "cuda", "cpu" or another type of torch.device.
        wanted: SOLVER.AMP.DTYPE, one of DTYPES: "auto" is float16 on CUDA, as in the host, and bfloat16 elsewhere.

    Returns:
        The type; or, by "auto", None on a CPU whose bfloat16 is emulated, with one line in the log: a step of
        MobileNetV2 took 12 times as long there as in float32.
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
    """Autocast to a type of amp_dtype()."""
    return torch.autocast(device_type, dtype or torch.float32, enabled=dtype is not None)


def init_amp_trainer(self, model, data_loader, optimizer, param_wrapper, grad_scaler=None):
    """AMPTrainer.__init__ for any device."""
    SimpleTrainer.__init__(self, model, data_loader, optimizer, param_wrapper)
    self.device_type = next(model.parameters()).device.type
    compute_in(self, amp_dtype(self.device_type), grad_scaler)


def compute_in(trainer: AMPTrainer, dtype: torch.dtype | None, grad_scaler: torch.amp.GradScaler | None = None) -> None:
    """Sets the type of a trainer; gradients are scaled in float16 only, the others have the range of float32."""
    trainer.dtype = dtype
    trainer.grad_scaler = grad_scaler or torch.amp.GradScaler(trainer.device_type, enabled=dtype == torch.float16)


@fix
def train_with_amp_on_any_device() -> None:
    """AMPTrainer scales gradients by the deprecated torch.cuda.amp, and on a CPU too.

    There it means bfloat16 autocast without gradient scaling, where the CPU has that type.
    """
    AMPTrainer.__init__ = init_amp_trainer


def warm_up_by_iteration(self):
    """LRScheduler.after_step; every iteration of the warm-up counts, also one whose gradients overflowed."""
    lr = self._optimizer.param_groups[self._best_param_group_id]["lr"]
    self.trainer.storage.put_scalar("lr", lr, smoothing_hint=False)
    if self.trainer.iter + 1 <= self.trainer.warmup_iters:
        self._scheduler["warmup_sched"].step()


@fix
def finish_the_warm_up_under_amp() -> None:
    """With AMP on CUDA the learning rate can stay too low for the whole run: the warm-up is left before its end.

    The host's hook leaves out each step in which the scale of the gradients changed (an overflow, or a growth of the
    scale), ends the warm-up at SOLVER.WARMUP_ITERS all the same, and nothing makes up for what was left out.
    """
    LRScheduler.after_step = warm_up_by_iteration
    LRScheduler.before_step = HookBase.before_step  # it asked the device for the scale


def in_float32(method):
    """The method; under autocast it runs outside it, on floating-point tensors (also in dicts and lists) in float32."""

    def cast(value):
        if isinstance(value, dict):
            return {key: cast(each) for key, each in value.items()}
        if isinstance(value, list):
            return [cast(each) for each in value]
        return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        device = next(value for value in self.parameters()).device.type
        if not under_autocast(device):
            return method(self, *args, **kwargs)
        with torch.autocast(device, enabled=False):
            return method(self, *map(cast, args), **cast(kwargs))

    return wrapped


@fix
def compute_heads_and_losses_in_float32() -> None:
    """Under AMP the host's logits, margins and (on the CPU) cross-entropy are rounded to 16 bits.

    CPU autocast leaves log_softmax and the margin layers in bfloat16, whose steps near 5 are 0.03. Heads and losses
    cost little: they run outside autocast, in float32.
    """
    for registry, method in ((REID_HEADS_REGISTRY, "forward"), (META_ARCH_REGISTRY, "losses")):
        for registered in classes_of_host(registry):
            if method in vars(registered):
                setattr(registered, method, in_float32(vars(registered)[method]))
