"""Splitting a backbone into the shared trunk and the last stage that each branch copies: one function a family."""

import copy
import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import torch
from fastreid.layers.batch_norm import FrozenBatchNorm
from fastreid.modeling.backbones.mobilenet import MobileNetV2
from fastreid.modeling.backbones.mobilenetv3 import MobileNetV3
from fastreid.modeling.backbones.osnet import OSNet
from fastreid.modeling.backbones.regnet.effnet import EffNet
from fastreid.modeling.backbones.regnet.regnet import RegNet
from fastreid.modeling.backbones.repvgg import RepVGG
from fastreid.modeling.backbones.resnest import ResNeSt
from fastreid.modeling.backbones.resnet import Bottleneck, ResNet
from fastreid.modeling.backbones.resnext import ResNeXt
from fastreid.modeling.backbones.shufflenet import ShuffleNetV2
from fastreid.modeling.backbones.vision_transformer import VisionTransformer
from torch import Tensor, nn

from igoas_plugin.core.errors import InputError, require_choice


class Parts(NamedTuple):
    """Parts of a backbone; its modules are moved, not copied.

    Args:
        trunk: everything before the last stage.
        last_stage: the layers from the last reduction of the resolution on, and the convolution that some families end
            with. MODEL.BACKBONE.LAST_STRIDE can set that reduction to 1. Of a vision transformer the last block.
        block: the last block of that stage; None if a convolution to another width follows it.
    """

    trunk: nn.Module
    last_stage: nn.Module
    block: nn.Module | None = None


class ResNetTrunk(nn.Module):
    """Stem and stages 1-3 of a ResNet or ResNeXt, with the non-local blocks that fast-reid runs between their blocks.

    Args:
        backbone: its modules are moved.
        pool: name of its max pooling.
        padded: whether the max pooling is padded by 1, as in torchvision and the ImageNet weights, or not, as in
            fast-reid.
    """

    def __init__(self, backbone: ResNet | ResNeXt, pool: str, padded: bool):
        super().__init__()
        self.conv1, self.bn1, self.relu = backbone.conv1, backbone.bn1, backbone.relu
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if padded else getattr(backbone, pool)
        self.layer1, self.layer2, self.layer3 = backbone.layer1, backbone.layer2, backbone.layer3
        self.non_local_after = {}  # stage -> indices of the blocks that a non-local block follows
        for stage in (1, 2, 3):
            indices = getattr(backbone, f"NL_{stage}_idx")
            self.non_local_after[stage] = [index for index in indices if index >= 0]  # fast-reid writes [-1] for none
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


class TransformerTrunk(nn.Module):
    """All blocks of a vision transformer but the last: images -> patch tokens as a feature map (B, C, h, w).

    The class token passes these blocks and stays behind. It has no position, so that neither the attention of the
    suppression branch nor the visibility mask nor the suppression loss could act on it: what it reads in an occluded
    patch would be ranked unsuppressed. Each branch ranks the pooled patch tokens of its last block in its place.

    Args:
        backbone: its modules and parameters are moved.
    """

    def __init__(self, backbone: VisionTransformer):
        super().__init__()
        self.patch_embed, self.pos_drop = backbone.patch_embed, backbone.pos_drop
        self.cls_token, self.pos_embed = backbone.cls_token, backbone.pos_embed
        self.blocks = backbone.blocks[:-1]

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embed(images)  # (B, h * w, C); len() of it would fix the batch size of an ONNX file
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], 1) + self.pos_embed
        tokens = self.pos_drop(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (self.patch_embed.num_y, self.patch_embed.num_x))


class TransformerStage(nn.Module):
    """A block of a vision transformer and a norm, on a feature map: (B, C, h, w) -> (B, C, h, w).

    The norm gives every token the channel mean 0 and the mean square 1 before its learnt scale and shift. The
    suppression loss can therefore move the output only behind the attention of the suppression branch, and on the
    whole feature map (MODEL.IGOAS.MASK_LOSS.ON feature_map, BRANCHES suppression, as in igoas_ViT.yml).

    Args:
        block: takes tokens (B, h * w, C).
        norm: of the channels of each token.
    """

    def __init__(self, block: nn.Module, norm: nn.Module):
        super().__init__()
        self.block, self.norm = block, norm

    def forward(self, feature_map: Tensor) -> Tensor:
        tokens = self.norm(self.block(feature_map.flatten(2).transpose(1, 2)))
        return tokens.transpose(1, 2).unflatten(2, feature_map.shape[2:])


def part_of(backbone: nn.Module, *names: str) -> nn.Sequential:
    """Returns the named children of a backbone in a row, under their names."""
    return nn.Sequential(OrderedDict((name, getattr(backbone, name)) for name in names))


def last_reduction(blocks: nn.Sequential) -> int:
    """Returns the index of the last block that reduces the resolution."""
    return max(
        index
        for index, block in enumerate(blocks)
        if any(isinstance(module, nn.Conv2d) and module.stride != (1, 1) for module in block.modules())
    )


def split_resnet(backbone: ResNet, stem: str) -> Parts:
    require_choice("MODEL.IGOAS.STEM", stem, ("torchvision", "host"))
    trunk = ResNetTrunk(backbone, "maxpool", padded=stem == "torchvision")
    return Parts(trunk, backbone.layer4, backbone.layer4[-1])  # fast-reid has no IBN and no non-local block there


def split_resnext(backbone: ResNeXt, stem: str) -> Parts:
    return Parts(ResNetTrunk(backbone, "maxpool1", padded=False), backbone.layer4, backbone.layer4[-1])


def split_resnest(backbone: ResNeSt, stem: str) -> Parts:
    trunk = part_of(backbone, "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
    return Parts(trunk, backbone.layer4, backbone.layer4[-1])


def split_osnet(backbone: OSNet, stem: str) -> Parts:
    return Parts(
        part_of(backbone, "conv1", "maxpool", "conv2", "conv3"), part_of(backbone, "conv4", "conv5"), backbone.conv4[-1]
    )


def split_regnet(backbone: RegNet, stem: str) -> Parts:
    *before, last = dict(backbone.named_children())
    stage = getattr(backbone, last)
    return Parts(part_of(backbone, *before), stage, list(stage.children())[-1])


def split_effnet(backbone: EffNet, stem: str) -> Parts:
    trunk = part_of(backbone, "stem", "s1", "s2", "s3", "s4", "s5")
    return Parts(trunk, part_of(backbone, "s6", "s7", "head"))  # fast-reid applies LAST_STRIDE to s6


def split_repvgg(backbone: RepVGG, stem: str) -> Parts:
    trunk = part_of(backbone, "stage0", "stage1", "stage2", "stage3")
    return Parts(trunk, backbone.stage4, backbone.stage4[-1])


def split_mobilenet(backbone: MobileNetV2 | MobileNetV3, stem: str) -> Parts:
    return split_features(backbone, (), "conv")


def split_shufflenet(backbone: ShuffleNetV2, stem: str) -> Parts:
    return split_features(backbone, ("first_conv", "maxpool"), "conv_last")


def split_transformer(backbone: VisionTransformer, stem: str) -> Parts:
    last_stage = TransformerStage(backbone.blocks[-1], backbone.norm)
    return Parts(TransformerTrunk(backbone), last_stage, last_stage)


def split_features(backbone: nn.Module, first: tuple[str, ...], last: str) -> Parts:
    """Splits a backbone whose blocks are one sequence `features`; the slices keep the indices as names."""
    split = last_reduction(backbone.features)
    trunk, last_stage = part_of(backbone, *first, "features"), part_of(backbone, "features", last)
    trunk.features, last_stage.features = backbone.features[:split], backbone.features[split:]
    return Parts(trunk, last_stage)


FAMILIES: dict[type[nn.Module], Callable[[nn.Module, str], Parts]] = {
    ResNet: split_resnet,
    ResNeXt: split_resnext,
    ResNeSt: split_resnest,
    OSNet: split_osnet,
    RegNet: split_regnet,
    EffNet: split_effnet,
    MobileNetV2: split_mobilenet,
    MobileNetV3: split_mobilenet,
    ShuffleNetV2: split_shufflenet,
    RepVGG: split_repvgg,
    VisionTransformer: split_transformer,
}


class SplitBackbone(NamedTuple):
    """Backbone in two parts, with their widths.

    Args:
        trunk: images (B, 3, H, W) -> feature map (B, trunk_channels, h, w).
        last_stage: that feature map -> (B, channels, h', w').
        trunk_channels, channels: widths of the two feature maps.
        make_block: builds one more block with random weights, channels -> channels. Its type is that of the last block
            of the last stage, or the bottleneck of ResNet-50 if that block changes the width.
    """

    trunk: nn.Module
    last_stage: nn.Module
    trunk_channels: int
    channels: int
    make_block: Callable[[], nn.Module]


def split_backbone(
    backbone: nn.Module, image_size: tuple[int, int], bn_norm: str = "BN", stem: str = "torchvision"
) -> SplitBackbone:
    """Splits a backbone before its last stage, weights included.

    Args:
        backbone: built by build_backbone() of fast-reid, or a backbone of your own with a method
            ``split_last_stage()``. The method returns two modules, trunk and last stage, such that
            ``last_stage(trunk(images))`` equals the output of the backbone.
        image_size: height and width, in pixels, of the images. One image passes the backbone to read the widths.
        bn_norm: MODEL.BACKBONE.NORM, for new bottlenecks.
        stem: MODEL.IGOAS.STEM, for the ResNet of fast-reid.

    Raises:
        InputError: the backbone has no stages or gives no feature map, or the stem is unknown.
    """
    block = None
    if type(backbone) in FAMILIES:
        trunk, last_stage, block = FAMILIES[type(backbone)](backbone, stem)
    elif hasattr(backbone, "split_last_stage"):
        trunk, last_stage = backbone.split_last_stage()
    else:
        families, kind = ", ".join(family.__name__ for family in FAMILIES), type(backbone)
        raise InputError(  # a project may have another class of the same name
            f"IGOAS cannot split {kind.__module__}.{kind.__qualname__} into a shared trunk and a last stage: it knows "
            f"these classes of fast-reid alone: {families}. Set MODEL.BACKBONE.NAME to a builder of one of them, or "
            f"give your {kind.__name__} a method split_last_stage() that returns the two modules"
        )
    training = backbone.training
    trunk_channels, channels = widths(trunk.eval(), last_stage.eval(), image_size)
    for part in (trunk, last_stage):
        part.train(training)
    if block is not None and keeps_width(block, channels):
        make_block = functools.partial(with_random_weights, block)
    else:
        make_block = functools.partial(bottleneck, channels, bn_norm)
    return SplitBackbone(trunk, last_stage, trunk_channels, channels, make_block)


def widths(trunk: nn.Module, last_stage: nn.Module, image_size: tuple[int, int]) -> tuple[int, int]:
    """Returns the channels of the two feature maps of an image; raises InputError if a module gives anything else."""
    feature_map, channels = torch.zeros(1, 3, *image_size), []
    for part in (trunk, last_stage):
        with torch.no_grad():
            feature_map = part(feature_map)
        if not (isinstance(feature_map, Tensor) and feature_map.dim() == 4):
            raise InputError(
                f"IGOAS needs feature maps (B, C, H, W): the part {type(part).__name__} of the backbone gives "
                f"{tuple(feature_map.shape) if isinstance(feature_map, Tensor) else type(feature_map).__name__}"
            )
        channels.append(feature_map.shape[1])
    return channels[0], channels[1]


def keeps_width(block: nn.Module, channels: int) -> bool:
    """Returns whether a block maps `channels` to `channels` at the same resolution, so that another can follow it."""
    convolutions = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions:  # a block of a vision transformer
        return True
    return convolutions[0].in_channels == channels and all(each.stride == (1, 1) for each in convolutions)


def with_random_weights(block: nn.Module) -> nn.Module:
    """Returns a copy of a block with the default random initialisation of torch."""
    block = copy.deepcopy(block)
    for module in block.modules():
        if isinstance(module, FrozenBatchNorm):
            module.load_state_dict(FrozenBatchNorm(module.num_features, module.eps).state_dict())
        elif hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return block


def bottleneck(channels: int, bn_norm: str) -> nn.Module:
    """Builds the bottleneck of ResNet-50, channels -> channels; raises InputError for a width not divisible by 4."""
    if channels % Bottleneck.expansion:
        raise InputError(
            f"MODEL.IGOAS.EXTRA_BLOCK True needs a multiple of {Bottleneck.expansion} channels, and the backbone has "
            f"{channels}: set it to False"
        )
    return Bottleneck(channels, channels // Bottleneck.expansion, bn_norm)
