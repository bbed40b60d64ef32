"""Backbones of the package timm, such as RegNetY, ConvNeXt and ResNet, in a row of layers that IGOAS can split."""

from collections import OrderedDict

from fastreid.config import CfgNode
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from torch import nn

from igoas_plugin.core.errors import InputError, nearest, require_packages

TAKEN = {"NORM": "BN", "WITH_IBN": False, "WITH_SE": False, "WITH_NL": False}  # keys that do not act on timm's layers


class TimmBackbone(nn.Sequential):
    """Layers of a timm model up to its last feature map: images (B, 3, H, W) -> feature map (B, C, h, w).

    Args:
        layers: {name: layer}, in the order in which they run.
        shared: number of layers before the last stage.
    """

    def __init__(self, layers: dict[str, nn.Module], shared: int):
        super().__init__(OrderedDict(layers))
        self.shared = shared

    def split_last_stage(self) -> tuple[nn.Sequential, nn.Sequential]:
        """Returns the layers that IGOAS shares, and those of the last stage, under their names."""
        layers = list(self.named_children())
        return nn.Sequential(OrderedDict(layers[: self.shared])), nn.Sequential(OrderedDict(layers[self.shared :]))


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode) -> TimmBackbone:
    """Builds the timm model that MODEL.BACKBONE.DEPTH names, such as regnety_008, with random weights.

    checkpoint/imagenet.py loads the file in MODEL.BACKBONE.PRETRAIN_PATH. Nothing is downloaded. With
    MODEL.BACKBONE.LAST_STRIDE 1 the last stage keeps the resolution by timm's output_stride: its convolutions are
    dilated, so that each sees as much of the image as in pretraining. In fast-reid's backbones they are not dilated.

    Raises:
        InputError: timm is not installed or has no such model, the model is no row of stages, it cannot keep the
            resolution, or a key is set that does not act on timm's layers.
    """
    require_packages("timm")
    options = cfg.MODEL.BACKBONE
    for key, taken in TAKEN.items():
        if options[key] != taken:
            raise InputError(
                f"MODEL.BACKBONE.{key} {options[key]} does not act on a model of timm, which has its own layers: set "
                f"it to {taken}"
            )
    net = features_of(options.DEPTH, options.LAST_STRIDE)
    layers = layers_of(net, options.DEPTH)
    before_last = net.feature_info.module_name()[-2].replace(".", "_")
    return TimmBackbone(layers, shared=1 + list(layers).index(before_last))


def features_of(name: str, last_stride: int) -> nn.Module:
    """Returns timm's model that gives feature maps; raises InputError if there is none, or none with that stride."""
    import timm

    def created(**settings) -> nn.Module:
        try:
            return timm.create_model(name, features_only=True, **settings)
        except RuntimeError as error:  # an unknown tag behind the name
            raise InputError(f"MODEL.BACKBONE.DEPTH {name}: {error}") from error

    if not timm.is_model(name):
        names = ", ".join(nearest(name, timm.list_models()))
        raise InputError(
            f"MODEL.BACKBONE.DEPTH: timm {timm.__version__} has no model {name} (the nearest: {names}); "
            "timm.list_models() has all names"
        )
    if last_stride != 1:
        return created()
    try:
        net = created(output_stride=16)
        keeps = net.feature_info.reduction()[-1] == net.feature_info.reduction()[-2]
    except (TypeError, AssertionError):  # timm has no other sign of it
        keeps = False
    if not keeps:
        raise InputError(
            f"MODEL.BACKBONE.LAST_STRIDE 1: the last stage of timm's {name} cannot keep the resolution: set it to 2"
        )
    return net


def layers_of(net: nn.Module, name: str) -> dict[str, nn.Module]:
    """Returns the layers of a model of timm by name, in the order in which they run.

    Raises:
        InputError: the model does not run one layer after the other on feature maps (B, C, H, W).
    """
    from timm.models import FeatureListNet
    from timm.models.efficientnet import EfficientNetFeatures
    from timm.models.mobilenetv3 import MobileNetV3Features

    layers = dict(net.named_children())
    if isinstance(net, (EfficientNetFeatures, MobileNetV3Features)):  # in FeatureListNet stages stand side by side
        layers |= {f"blocks_{index}": stage for index, stage in enumerate(layers.pop("blocks"))}
    elif type(net) is not FeatureListNet or net.output_fmt != "NCHW":
        raise InputError(
            f"MODEL.BACKBONE.DEPTH {name}: this model of timm is no row of stages that give feature maps (B, C, H, W): "
            "take another one, such as a RegNet, ConvNeXt or ResNet"
        )
    return layers
