"""A backbone in two parts: the shared trunk, and the last stage, which each branch copies."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from fastreid.layers.batch_norm import FrozenBatchNorm
from fastreid.modeling.backbones.resnet import Bottleneck
from torch import Tensor, nn

from igoas_plugin.errors import InputError

from .families import FAMILIES


class SplitBackbone(NamedTuple):
    """A backbone in two parts, with what a branch must know of them.

    Args:
        trunk: images (B, 3, H, W) -> feature map (B, trunk_channels, h, w).
        last_stage: that feature map -> (B, channels, h', w').
        trunk_channels, channels: as above.
        make_block: makes one more block, randomly initialised, channels -> channels: of the kind that the last stage
            ends with where that keeps its width, else a bottleneck as in ResNet-50.
    """

    trunk: nn.Module
    last_stage: nn.Module
    trunk_channels: int
    channels: int
    make_block: Callable[[], nn.Module]


def split_backbone(
    backbone: nn.Module, image_size: tuple[int, int], bn_norm: str = "BN", stem: str = "torchvision"
) -> SplitBackbone:
    """Takes a backbone apart before its last stage, weights included.

    Args:
        backbone: of the host, as build_backbone() gives it; or a user's own, with a method ``split_last_stage()`` that
            returns two modules, trunk and last stage: ``last_stage(trunk(images))`` is what the backbone gives.
        image_size: height and width, in pixels, of the images that it is made for; one is passed through to read the
            widths.
        bn_norm: MODEL.BACKBONE.NORM, for bottlenecks to be made.
        stem: MODEL.IGOAS.STEM, for the host's ResNet.

    Raises:
        InputError: the backbone has no stages, or gives no feature map; another stem.
    """
    block = None
    if type(backbone) in FAMILIES:
        trunk, last_stage, block = FAMILIES[type(backbone)](backbone, stem)
    elif hasattr(backbone, "split_last_stage"):
        trunk, last_stage = backbone.split_last_stage()
    else:
        families = ", ".join(family.__name__ for family in FAMILIES)
        raise InputError(
            f"IGOAS cannot take {type(backbone).__name__} apart into a shared trunk and a last stage: "
            f"MODEL.BACKBONE.NAME must give one of {families}, or a backbone of your own with a method "
            "split_last_stage() that returns the two modules"
        )
    training = backbone.training
    trunk_channels, channels = widths(trunk.eval(), last_stage.eval(), image_size)
    for part in (trunk, last_stage):
        part.train(training)

    def make_block() -> nn.Module:
        own = block is not None and keeps_width(block, channels)
        return as_new(block) if own else bottleneck(channels, bn_norm)

    return SplitBackbone(trunk, last_stage, trunk_channels, channels, make_block)


def widths(trunk: nn.Module, last_stage: nn.Module, image_size: tuple[int, int]) -> tuple[int, int]:
    """Channels of the two feature maps of one image; raises InputError where either module gives something else."""
    feature_map, channels = torch.zeros(1, 3, *image_size), []
    for part in (trunk, last_stage):
        with torch.no_grad():
            feature_map = part(feature_map)
        if not (isinstance(feature_map, Tensor) and feature_map.dim() == 4):
            raise InputError(
                f"IGOAS needs feature maps (B, C, H, W): {type(part).__name__}, a part of the backbone, gives "
                f"{tuple(feature_map.shape) if isinstance(feature_map, Tensor) else type(feature_map).__name__}"
            )
        channels.append(feature_map.shape[1])
    return channels[0], channels[1]


def keeps_width(block: nn.Module, channels: int) -> bool:
    """Whether a block maps `channels` to as many at the same resolution: one more of its kind can follow."""
    convolutions = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
    return convolutions[0].in_channels == channels and all(each.stride == (1, 1) for each in convolutions)


def as_new(block: nn.Module) -> nn.Module:
    """A copy of a block in torch's own random initialisation."""
    block = copy.deepcopy(block)
    for module in block.modules():
        if isinstance(module, FrozenBatchNorm):
            module.load_state_dict(FrozenBatchNorm(module.num_features, module.eps).state_dict())
        elif hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return block


def bottleneck(channels: int, bn_norm: str) -> nn.Module:
    """The host's ResNet bottleneck, channels -> channels; raises InputError where that is no multiple of 4."""
    if channels % Bottleneck.expansion:
        raise InputError(
            f"MODEL.IGOAS.EXTRA_BLOCK: a bottleneck needs a multiple of {Bottleneck.expansion} channels, the backbone "
            f"has {channels}: set it False"
        )
    return Bottleneck(channels, channels // Bottleneck.expansion, bn_norm)
