"""The host's ResNet, taken apart: the shared trunk (stem, stages 1-3) and the last stage, which each branch copies."""

from collections.abc import Callable
from typing import NamedTuple

from fastreid.modeling.backbones.resnet import ResNet
from torch import Tensor, nn

from igoas_plugin.errors import InputError, require_choice


class SplitBackbone(NamedTuple):
    """A backbone in two parts, with what a branch must know of them.

    Args:
        trunk: images (B, 3, H, W) -> feature map (B, trunk_channels, h, w).
        last_stage: that feature map -> (B, channels, h', w').
        make_block: makes one more block of the backbone's own type, randomly initialised, channels -> channels.
    """

    trunk: nn.Module
    last_stage: nn.Module
    trunk_channels: int
    channels: int
    make_block: Callable[[], nn.Module]


class Trunk(nn.Module):
    """Stem and stages 1-3 of the host's ResNet with their non-local blocks; parameters keep the host's names.

    Args:
        backbone: its modules are taken over, not copied.
        stem: max pooling "torchvision" (padded by 1) or "host" (not padded, ceil mode).

    Raises:
        InputError: another stem.
    """

    def __init__(self, backbone: ResNet, stem: str):
        super().__init__()
        require_choice("MODEL.IGOAS.STEM", stem, ("torchvision", "host"))
        self.conv1, self.bn1, self.relu = backbone.conv1, backbone.bn1, backbone.relu
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "torchvision" else backbone.maxpool
        self.layer1, self.layer2, self.layer3 = backbone.layer1, backbone.layer2, backbone.layer3
        self.non_local_after = {}  # stage -> indices of the blocks that a non-local block follows
        for stage in (1, 2, 3):
            indices = getattr(backbone, f"NL_{stage}_idx")
            self.non_local_after[stage] = [index for index in indices if index >= 0]  # the host writes [-1] for none
            if hasattr(backbone, f"NL_{stage}"):
                setattr(self, f"NL_{stage}", getattr(backbone, f"NL_{stage}"))

    def forward(self, images: Tensor) -> Tensor:
        feature_map = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in (1, 2, 3):
            non_local = iter(getattr(self, f"NL_{stage}", ()))
            for index, block in enumerate(getattr(self, f"layer{stage}")):
                feature_map = block(feature_map)
                if index in self.non_local_after[stage]:
                    feature_map = next(non_local)(feature_map)
        return feature_map


def split_backbone(backbone: nn.Module, bn_norm: str, with_se: bool, stem: str = "torchvision") -> SplitBackbone:
    """Takes the host's ResNet apart before its last stage (in which the host has no IBN and no non-local block).

    Args:
        backbone: as build_backbone() gives it.
        bn_norm: MODEL.BACKBONE.NORM, for blocks to be made.
        with_se: MODEL.BACKBONE.WITH_SE, likewise.
        stem: see Trunk.

    Raises:
        InputError: another family than ResNet.
    """
    if type(backbone) is not ResNet:
        raise InputError(
            f"IGOAS cannot split {type(backbone).__name__} into trunk and last stage: "
            "set MODEL.BACKBONE.NAME build_resnet_backbone"
        )
    last_stage = backbone.layer4
    block = type(last_stage[-1])
    width = last_stage[-1].conv2.out_channels  # of the 3x3 convolution
    channels = width * block.expansion
    return SplitBackbone(
        trunk=Trunk(backbone, stem),
        last_stage=last_stage,
        trunk_channels=last_stage[0].conv1.in_channels,
        channels=channels,
        make_block=lambda: block(channels, width, bn_norm, with_se=with_se),
    )
