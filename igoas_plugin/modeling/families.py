"""How each family of the host's backbones is taken apart; parameters keep the host's names in both parts."""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from fastreid.modeling.backbones.mobilenet import MobileNetV2
from fastreid.modeling.backbones.mobilenetv3 import MobileNetV3
from fastreid.modeling.backbones.osnet import OSNet
from fastreid.modeling.backbones.regnet.effnet import EffNet
from fastreid.modeling.backbones.regnet.regnet import RegNet
from fastreid.modeling.backbones.repvgg import RepVGG
from fastreid.modeling.backbones.resnest import ResNeSt
from fastreid.modeling.backbones.resnet import ResNet
from fastreid.modeling.backbones.resnext import ResNeXt
from fastreid.modeling.backbones.shufflenet import ShuffleNetV2
from torch import Tensor, nn

from igoas_plugin.errors import require_choice


class Parts(NamedTuple):
    """What a backbone is taken apart into; the modules are taken over, not copied.

    Args:
        trunk: all before the last stage.
        last_stage: the layers behind the last reduction of the resolution (by MODEL.BACKBONE.LAST_STRIDE, which can
            be 1), and the convolution that some families end with.
        block: the last block of that stage; None where a convolution to another width follows it.
    """

    trunk: nn.Module
    last_stage: nn.Module
    block: nn.Module | None = None


class ResNetTrunk(nn.Module):
    """Stem and stages 1-3 of a ResNet or ResNeXt, with the non-local blocks that the host runs between their blocks.

    Args:
        backbone: its modules are taken over.
        pool: name of its max pooling.
        padded: whether that is padded by 1, as torchvision's and the ImageNet weights', or is left as the host has it.
    """

    def __init__(self, backbone: ResNet | ResNeXt, pool: str, padded: bool):
        super().__init__()
        self.conv1, self.bn1, self.relu = backbone.conv1, backbone.bn1, backbone.relu
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if padded else getattr(backbone, pool)
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


def part_of(backbone: nn.Module, *names: str) -> nn.Sequential:
    """Some children of a backbone, one after the other, under their names."""
    return nn.Sequential(OrderedDict((name, getattr(backbone, name)) for name in names))


def last_reduction(blocks: nn.Sequential) -> int:
    """Index of the last block that reduces the resolution."""
    return max(
        index
        for index, block in enumerate(blocks)
        if any(isinstance(module, nn.Conv2d) and module.stride != (1, 1) for module in block.modules())
    )


def split_resnet(backbone: ResNet, stem: str) -> Parts:
    require_choice("MODEL.IGOAS.STEM", stem, ("torchvision", "host"))
    trunk = ResNetTrunk(backbone, "maxpool", padded=stem == "torchvision")
    return Parts(trunk, backbone.layer4, backbone.layer4[-1])  # the host has no IBN and no non-local block there


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
    return Parts(trunk, part_of(backbone, "s6", "s7", "head"))  # the host's LAST_STRIDE is that of s6


def split_repvgg(backbone: RepVGG, stem: str) -> Parts:
    trunk = part_of(backbone, "stage0", "stage1", "stage2", "stage3")
    return Parts(trunk, backbone.stage4, backbone.stage4[-1])


def split_mobilenet(backbone: MobileNetV2 | MobileNetV3, stem: str) -> Parts:
    return split_features(backbone, (), "conv")


def split_shufflenet(backbone: ShuffleNetV2, stem: str) -> Parts:
    return split_features(backbone, ("first_conv", "maxpool"), "conv_last")


def split_features(backbone: nn.Module, first: tuple[str, ...], last: str) -> Parts:
    """Of the families whose blocks are one sequence `features`; slices of it keep their indices as names."""
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
}
