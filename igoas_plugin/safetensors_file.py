"""Weights as a .safetensors file: tensors by name and a JSON text, in a format that has no place for code."""

import os
import zlib

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .errors import InputError
from .plain_tensors import require_plain
from .regular_file import open_regular

SUFFIX = ".safetensors"


def is_safetensors(path: str) -> bool:
    return path.lower().endswith(SUFFIX)


def as_safetensors(weights: dict[str, Tensor], settings: str | None = None) -> bytes:
    """The content of a file that read_safetensors() gives back.

    Args:
        weights: tensors by name, of any strides; two that share memory are stored twice.
        settings: the config that a checkpoint carries, as a JSON text.
    """
    weights = {name: each.detach().cpu().clone(memory_format=torch.contiguous_format) for name, each in weights.items()}
    metadata = {"format": "pt"} | ({} if settings is None else {"settings": settings})
    # the format has no checksum of its own
    return save(weights, {**metadata, "crc32": f"{checksum(weights, settings):08x}"})


def read_safetensors(path: str) -> tuple[dict[str, Tensor], str | None]:
    """Tensors by name, and the settings, None where the file carries none.

    A file of another program has no checksum, and is read without one.

    Raises:
        InputError: the file is missing, damaged, or none of the format, or holds a tensor that require_plain() refuses.
    """
    try:
        with open_regular(path), safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise InputError(f"checkpoint {path} does not exist") from None
    except OSError as error:
        raise InputError(f"checkpoint {path} cannot be read: {error.strerror or error}") from None
    except (SafetensorError, ValueError, RuntimeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"checkpoint {path} cannot be read ({reason}): it is damaged or no {SUFFIX}") from error
    require_plain(path, weights, os.path.getsize(path))
    settings = metadata.get("settings")
    if "crc32" in metadata and metadata["crc32"] != f"{checksum(weights, settings):08x}":
        raise InputError(f"checkpoint {path} is damaged: it has another CRC-32 than when it was written; get it anew")
    return weights, settings


def checksum(weights: dict[str, Tensor], settings: str | None) -> int:
    """CRC-32 of the settings and of names, types, shapes and values of contiguous tensors, in the order of names."""
    crc = zlib.crc32((settings or "").encode())
    for name in sorted(weights):
        each = weights[name]
        crc = zlib.crc32(f"{name} {each.dtype} {tuple(each.shape)}".encode(), crc)
        crc = zlib.crc32(each.reshape(-1).view(torch.uint8).numpy(), crc)
    return crc
