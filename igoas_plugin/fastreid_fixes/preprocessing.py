"""Preprocessing of a batch: normalisation, targets, memory format."""

import functools

import torch
from fastreid.layers.batch_norm import IBN
from fastreid.layers.non_local import Non_local
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY

from .device import under_autocast
from .fix import fastreid_classes, fix


def preprocess_image(self, batched_inputs):
    """Normalises a copy of the images of a batch, which is channels last in mixed precision.

    Every later feature map is then channels last too, the format of 16-bit convolutions on GPUs and on some CPUs.

    fast-reid's Caffe exporter tracks tensors by identity, from one operation that it knows to the next. It knows the
    addition of an integer, which makes the copy, and none of the operations of a normalisation, which are in place.

    Args:
        batched_inputs: fast-reid's batch dict, or its images alone: (B, 3, H, W) in [0, 255].
    """
    images = batched_inputs["images"] if isinstance(batched_inputs, dict) else batched_inputs
    images = images.to(self.pixel_mean)
    if images.dim() == 4 and under_autocast(images.device.type):
        images = images.contiguous(memory_format=torch.channels_last)
    return (images + 0).sub_(self.pixel_mean).div_(self.pixel_std)


def for_precise_bn(targets: torch.Tensor) -> bool:
    """Returns whether a batch in training mode comes from fast-reid's PreciseBN, which sets targets below 0.

    PreciseBN computes no gradients. In a training step, which does, the targets are not read: that would synchronise
    with the GPU.
    """
    return not torch.is_grad_enabled() and bool(targets.sum() < 0)


@fix
def normalise_a_copy() -> None:
    """TEST.FLIP gives wrong descriptors, because the flipped images are normalised twice.

    Cause: fast-reid normalises the batch in place. Measured: input mean -1.98 instead of 0.22, cosine to the right
    descriptor about 0.96.
    """
    for architecture in fastreid_classes(META_ARCH_REGISTRY):
        if "preprocess_image" in vars(architecture):
            architecture.preprocess_image = preprocess_image


@fix
def leave_the_targets_of_the_batch_alone() -> None:
    """PreciseBN changes the caller's batch: fast-reid's models set negative targets to 0 in it.

    Now the model gets a shallow copy of the batch with a copy of the targets.
    """
    for architecture in fastreid_classes(META_ARCH_REGISTRY):
        if "forward" in vars(architecture):
            architecture.forward = with_own_targets(architecture.forward)


def with_own_targets(forward):
    """Returns forward() with a copy of the targets in training mode."""

    @functools.wraps(forward)
    def wrapped(self, batched_inputs, *args, **kwargs):
        if self.training and isinstance(batched_inputs, dict) and "targets" in batched_inputs:
            batched_inputs = {**batched_inputs, "targets": batched_inputs["targets"].clone()}
        return forward(self, batched_inputs, *args, **kwargs)

    return wrapped


def stored_as(like: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Returns maps (B, C, H, W), converted to channels last if `like` is channels last."""
    last = like.is_contiguous(memory_format=torch.channels_last)
    return maps.contiguous(memory_format=torch.channels_last) if last else maps


def with_own_format(forward):
    """Returns forward() whose output has the memory format of its input."""

    @functools.wraps(forward)
    def wrapped(self, maps):
        return stored_as(maps, forward(self, maps))

    return wrapped


@fix
def stay_channels_last_behind_ibn_and_non_local() -> None:
    """Mixed precision is slow: after the first IBN or non-local block, feature maps are not channels last.

    Measured: 3 of 53 convolutions of ResNet-50 with IBN get channels last, and 21 with non-local blocks.
    """
    for layer in (IBN, Non_local):
        layer.forward = with_own_format(layer.forward)
