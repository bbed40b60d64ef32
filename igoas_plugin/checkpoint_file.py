"""What lies in a checkpoint is read, and nothing of it is executed."""

import codecs
from typing import BinaryIO

import numpy as np
import torch

from .errors import DamagedCheckpoint, InputError


def numpy_scalar(module: str):
    """What a pickle means by "scalar" of this module: numpy 1 and 2 call it differently, and either reads both."""

    def scalar(dtype, value):
        return np.float64(0).__reduce__()[0](dtype, value)

    scalar.__module__, scalar.__qualname__ = module, "scalar"
    return scalar


NUMPY_SCALARS = [
    codecs.encode,  # how pickle's protocol 2 holds the bytes of a scalar; torch 2.4 does not know it
    numpy_scalar("numpy.core.multiarray"),
    numpy_scalar("numpy._core.multiarray"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")),
]


def read_file(path: str, file: BinaryIO | None = None):
    """Reads a file of torch.save(); nothing in it is executed.

    Args:
        path: of the file.
        file: the file itself where it lies in an archive, and `path` is for messages alone.

    Raises:
        DamagedCheckpoint: it is damaged, or holds other things than tensors, plain values and numpy scalars.
        InputError: it is missing.
    """
    try:
        return torch.load(file or path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"checkpoint {path} does not exist") from None
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()
        reason = next((line.strip() for line in reason if "WeightsUnpickler error" in line), reason[0])
        raise DamagedCheckpoint(
            f"checkpoint {path} cannot be read ({reason}): it is damaged or no checkpoint"
        ) from error


def load_file(path: str) -> dict:
    """Reads a checkpoint of a training.

    Raises:
        InputError: as read_file(); or it has no weights under the key "model".
    """
    checkpoint = read_file(path)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model"), dict):
        raise InputError(
            f"checkpoint {path} has no weights under the key 'model'; a file of the original IGOAS is converted by "
            "tools/convert_checkpoint.py"
        )
    return checkpoint
