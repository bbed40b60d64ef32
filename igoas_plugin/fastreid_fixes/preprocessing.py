"""Preprocessing of a batch: normalisation, targets, memory format."""

import functools

import torch
from fastreid.layers.batch_norm import IBN
from fastreid.layers.non_local import Non_local
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY

from .device import under_autocast
from .fix import classes_of_host, fix


def preprocess_image(self, batched_inputs):
    """Normalises the images of a batch into a new tensor; in mixed precision it is channels last, and so all maps are.

    16-bit convolutions of a GPU, and of a CPU that has them, take channels last without a copy.

    Args:
        batched_inputs: the host's batch dict, or its images alone: (B, 3, H, W) in [0, 255].
    """
    images = batched_inputs["images"] if isinstance(batched_inputs, dict) else batched_inputs
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"batched_inputs must be a dict with images or a tensor, got {type(batched_inputs)}")
    images = images.to(self.pixel_mean.device)
    if images.dim() == 4 and under_autocast(images.device.type):
        images = images.contiguous(memory_format=torch.channels_last)
    return (images - self.pixel_mean) / self.pixel_std


def for_precise_bn(targets: torch.Tensor) -> bool:
    """Whether a batch in training mode comes from the host's PreciseBN: negative targets, and nothing is learnt.

    A training step, which has gradients, is not asked for its targets: a GPU would have to finish its work for that.
    """
    return not torch.is_grad_enabled() and bool(targets.sum() < 0)


@fix
def normalise_into_a_new_tensor() -> None:
    """TEST.FLIP gives wrong descriptors: normalisation edits the batch, so the flipped images are normalised twice.

    Measured: input mean -1.98 instead of 0.22, cosine to the right descriptor about 0.96.
    """
    for architecture in classes_of_host(META_ARCH_REGISTRY):
        if "preprocess_image" in vars(architecture):
            architecture.preprocess_image = preprocess_image


@fix
def leave_the_targets_of_the_batch_alone() -> None:
    """PreciseBN's batch is edited: a host model sets negative targets to 0 in the caller's tensor.

    The model now gets a shallow copy of the batch whose targets are its own.
    """
    for architecture in classes_of_host(META_ARCH_REGISTRY):
        if "forward" in vars(architecture):
            architecture.forward = with_own_targets(architecture.forward)


def with_own_targets(forward):
    @functools.wraps(forward)
    def wrapped(self, batched_inputs, *args, **kwargs):
        if self.training and isinstance(batched_inputs, dict) and "targets" in batched_inputs:
            batched_inputs = {**batched_inputs, "targets": batched_inputs["targets"].clone()}
        return forward(self, batched_inputs, *args, **kwargs)

    return wrapped


def stored_as(like: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """The same maps (B, C, H, W), stored channels last where `like` is."""
    last = like.is_contiguous(memory_format=torch.channels_last)
    return maps.contiguous(memory_format=torch.channels_last) if last else maps


def with_own_format(forward):
    @functools.wraps(forward)
    def wrapped(self, maps):
        return stored_as(maps, forward(self, maps))

    return wrapped


@fix
def stay_channels_last_behind_ibn_and_non_local() -> None:
    """Speed: behind the first IBN or non-local block the maps of a ResNet are no longer channels last.

    Counted in mixed precision: 3 of 53 convolutions of ResNet-50 with IBN got such maps, 21 with non-local blocks.
    """
    for layer in (IBN, Non_local):
        layer.forward = with_own_format(layer.forward)
