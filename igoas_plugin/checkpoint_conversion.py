"""Weights from one kind of file to another: the original's, a training's .pth, .safetensors."""

import os

import torch
from torch import Tensor

from .atomic_file import write_atomically
from .checkpoint import convert_reference_state_dict
from .checkpoint_file import load_file, read_file
from .errors import InputError
from .plain_tensors import require_named_tensors
from .safetensors_file import SUFFIX, as_safetensors, is_safetensors


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
