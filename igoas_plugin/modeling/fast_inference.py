"""TEST.FAST: a copy of a model that evaluates in a fraction of the time."""

import copy
import logging
from collections import Counter

import torch
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.fusion import fuse_conv_bn_weights

from igoas_plugin.config import image_size
from igoas_plugin.fastreid_fixes.amp import amp_dtype, autocast_to

logger = logging.getLogger(f"fastreid.{__name__}")

# Largest relative change of the descriptors; rounding changes them by 1e-6 (float32) to 1e-3 (TF32 of a GPU)
TOLERANCE = 1e-2


def for_evaluation(cfg, model: nn.Module) -> nn.Module:
    """Returns the model that an evaluation runs: a FastInference with TEST.FAST, else the model itself."""
    if not cfg.TEST.get("FAST", False):
        return model
    plain = model.module if isinstance(model, DistributedDataParallel) else model
    images = 255 * torch.rand(2, 3, *image_size(cfg, "TEST"), device=plain.device)
    return FastInference(plain, images, amp_dtype(plain.device.type, cfg.SOLVER.AMP.get("DTYPE", "auto")))


class FastInference(nn.Module):
    """Copy of a model for evaluation, which gives the same descriptors, to rounding, in a fraction of the time.

    Norms that follow a convolution are fused into it if that leaves the descriptors unchanged. Convolutions compute in
    mixed precision, channels last, with weights stored in that dtype. Heads stay in float32.

    Args:
        model: of any meta-architecture; not modified.
        images: (B, 3, H, W) in [0, 255], on the device of the model. A forward pass with them shows which norm follows
            which convolution.
        dtype: of the mixed precision, see amp_dtype(); None: everything stays in float32.
    """

    def __init__(self, model: nn.Module, images: Tensor, dtype: torch.dtype | None):
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.device_type = images.device.type
        self.dtype = dtype
        fused = copy.deepcopy(self.model)
        fuse_norms(fused, images)
        if relative_change(self.model, fused, images) < TOLERANCE:
            self.model = fused
        else:
            logger.warning("TEST.FAST: the norms of this model cannot be fused into its convolutions: they stay")
        for module in outside_heads(self.model):
            if isinstance(module, nn.Conv2d):
                module.to(self.dtype, memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @torch.no_grad()
    def forward(self, batched_inputs: dict | Tensor) -> Tensor:
        """Returns the descriptors of the model, (B, D), float32."""
        with autocast_to(self.dtype, self.device_type):
            return self.model(batched_inputs).float()


def fuse_norms(model: nn.Module, images: Tensor) -> None:
    """Fuses, in place, each norm into the convolution whose output it takes.

    A forward pass shows which norm follows which convolution. A pair stays if either of them is used twice in it. The
    function cannot see a second use of the output of the convolution, nor other work of a norm from another library:
    compare the descriptors afterwards.
    """
    outputs, followed, calls = {}, {}, Counter()

    def record(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        calls[module] += 1
        if isinstance(module, nn.Conv2d):
            outputs[id(output)] = (module, output)  # the tensor is kept, so that no later one gets its id
        elif id(inputs[0]) in outputs:
            followed[module] = outputs[id(inputs[0])][0]

    watched = [module for module in model.modules() if isinstance(module, nn.Conv2d) or is_fixed_norm(module)]
    hooks = [module.register_forward_hook(record) for module in watched]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    parents = {child: (parent, name) for parent in model.modules() for name, child in parent.named_children()}
    shared = Counter(followed.values())
    for norm, convolution in followed.items():
        if calls[norm] == calls[convolution] == shared[convolution] == 1:
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                *(convolution.weight, convolution.bias, norm.running_mean, norm.running_var),
                *(norm.eps, norm.weight, norm.bias),
            )
            parent, name = parents[norm]
            setattr(parent, name, nn.Identity())


@torch.no_grad()
def relative_change(model: nn.Module, other: nn.Module, images: Tensor) -> float:
    """Returns the distance between the descriptors of two models, relative to their length."""
    expected = model(images)
    return float((other(images) - expected).norm() / expected.norm())


def outside_heads(model: nn.Module) -> list[nn.Module]:
    """Returns the modules of a model outside its heads, which compute in float32 (fastreid_fixes/amp.py)."""
    heads = tuple(REID_HEADS_REGISTRY._obj_map.values())
    inside = {module for head in model.modules() if isinstance(head, heads) for module in head.modules()}
    return [module for module in model.modules() if module not in inside]


def is_fixed_norm(module: nn.Module) -> bool:
    """Returns whether a module scales and shifts channels by learnt statistics in evaluation, as BatchNorm does."""
    return hasattr(module, "eps") and getattr(module, "running_var", None) is not None
