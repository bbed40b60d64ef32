"""What the tensors of a file must be before anything copies them, which torch.load() does not ask."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .errors import InputError

ADVICE = "save the state_dict() of a model"


def require_plain(path: str, content, size: int) -> None:
    """Looks at every tensor that was read from a file.

    Args:
        path: of the file, for messages.
        content: tensors in dicts, lists and tuples.
        size: bytes of the file.

    Raises:
        InputError: a tensor is not dense, not real, without values, or larger than the file, as one that is expanded.
    """
    for name, tensor in tensors_in(content):
        if oddity := oddity_of(tensor, size):
            raise InputError(f"checkpoint {path} is refused: {name} {oddity}; save dense tensors of real numbers")


def tensors_in(content) -> Iterator[tuple[object, Tensor]]:
    """The tensors in dicts, lists and tuples, each with its key; every container once, for one can hold itself."""
    waiting, seen = [("its content", content)], set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.items() if isinstance(value, dict) else enumerate(value)


def oddity_of(tensor: Tensor, most: int) -> str:
    """What is wrong with a tensor, that may have so many bytes; "" where nothing is."""
    if tensor.is_nested:
        return "is a nested tensor"
    if tensor.layout != torch.strided:
        return f"is a sparse tensor ({tensor.layout})"
    if tensor.is_quantized:
        return "is a quantised tensor"
    if tensor.is_meta:
        return "is a tensor without values (meta)"
    if tensor.is_complex():
        return "is a tensor of complex numbers"
    size = tensor.numel() * tensor.element_size()
    return f"has {size:,} bytes, more than the file with {most:,}" if size > most else ""


def require_named_tensors(path: str, weights: dict) -> None:
    """Raises InputError where the weights of a file are anything but tensors by name."""
    for name, value in weights.items():
        if not isinstance(name, str):
            raise InputError(f"checkpoint {path} is refused: the name {name!r} of a weight is no text; {ADVICE}")
        if not isinstance(value, Tensor):
            raise InputError(
                f"checkpoint {path} is refused: {name} is of the type {type(value).__name__}, not a tensor; {ADVICE}"
            )
