import copy
import logging
from collections import Counter

import torch
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.fusion import fuse_conv_bn_weights

from igoas_plugin.fastreid_fixes.amp import amp_dtype, autocast_to

logger = logging.getLogger(f"fastreid.{__name__}")

# Of the descriptors, by fused norms: rounding changes them by 1e-6 (float32) to 1e-3 (a GPU's TF32)
TOLERATED = 1e-2


def for_evaluation(cfg, model: nn.Module) -> nn.Module:
    """What an evaluation runs: with TEST.FAST a FastInference of the model, else the model."""
    if not cfg.TEST.get("FAST", False):
        return model
    plain = model.module if isinstance(model, DistributedDataParallel) else model
    images = 255 * torch.rand(2, 3, *cfg.INPUT.SIZE_TEST, device=plain.device)
    return FastInference(plain, images, amp_dtype(plain.device.type, cfg.SOLVER.AMP.get("DTYPE", "auto")))


class FastInference(nn.Module):
    """A copy of a model for evaluation: the same descriptors, to rounding, in a fraction of the time.

    Norms that follow a convolution become part of it, where that leaves the descriptors what they are. Convolutions
    compute in mixed precision, from weights that are stored in its type, channels last; heads stay in float32.

    Args:
        model: of any meta-architecture; it is left as it is.
        images: (B, 3, H, W) in [0, 255], on the model's device: passed through, to see what follows what.
        dtype: of the mixed precision, see amp_dtype(); None: everything stays in float32.
    """

    def __init__(self, model: nn.Module, images: Tensor, dtype: torch.dtype | None):
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.device_type = images.device.type
        self.dtype = dtype
        fused = copy.deepcopy(self.model)
        fuse_norms(fused, images)
        if relative_change(self.model, fused, images) < TOLERATED:
            self.model = fused
        else:
            logger.warning("TEST.FAST: norms of this model cannot be fused into its convolutions, they stay")
        for module in outside_heads(self.model):
            if isinstance(module, nn.Conv2d):
                module.to(self.dtype, memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @torch.no_grad()
    def forward(self, batched_inputs: dict | Tensor) -> Tensor:
        """What the model gives in evaluation: descriptors (B, D), float32."""
        with autocast_to(self.dtype, self.device_type):
            return self.model(batched_inputs).float()


def fuse_norms(model: nn.Module, images: Tensor) -> int:
    """Puts each norm whose input is the very output of a convolution into it, in place.

    Which norm follows which convolution is seen in a forward pass. Where either of them is used twice in it, both stay.
    It does not see an output that is used beside the norm, nor what a norm of another library does besides: compare the
    descriptors.

    Returns:
        The number of norms that were fused.
    """
    outputs, followed, calls = {}, {}, Counter()

    def note(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        calls[module] += 1
        if isinstance(module, nn.Conv2d):
            outputs[id(output)] = (module, output)  # kept, so that no later tensor gets its id
        elif id(inputs[0]) in outputs:
            followed[module] = outputs[id(inputs[0])][0]

    watched = [module for module in model.modules() if isinstance(module, nn.Conv2d) or is_fixed_norm(module)]
    hooks = [module.register_forward_hook(note) for module in watched]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    parents = {child: (parent, name) for parent in model.modules() for name, child in parent.named_children()}
    shared = Counter(followed.values())
    fused = 0
    for norm, convolution in followed.items():
        if calls[norm] == calls[convolution] == shared[convolution] == 1:
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                *(convolution.weight, convolution.bias, norm.running_mean, norm.running_var),
                *(norm.eps, norm.weight, norm.bias),
            )
            parent, name = parents[norm]
            setattr(parent, name, nn.Identity())
            fused += 1
    return fused


@torch.no_grad()
def relative_change(model: nn.Module, other: nn.Module, images: Tensor) -> float:
    """How far the descriptors of two models lie apart, relative to their length."""
    expected = model(images)
    return float((other(images) - expected).norm() / expected.norm())


def outside_heads(model: nn.Module) -> list[nn.Module]:
    """The modules of a model but those in heads, which run in float32 (fastreid_fixes.amp)."""
    heads = tuple(REID_HEADS_REGISTRY._obj_map.values())
    inside = {module for head in model.modules() if isinstance(head, heads) for module in head.modules()}
    return [module for module in model.modules() if module not in inside]


def is_fixed_norm(module: nn.Module) -> bool:
    """Whether a module in evaluation scales and shifts channels by what it has learnt, as BatchNorm and its kin."""
    return hasattr(module, "eps") and getattr(module, "running_var", None) is not None
