"""Checkpoint files (.pth and .safetensors), read without executing anything in them."""

import codecs
import pickle
import re
import zipfile
import zlib
from typing import BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from igoas_plugin.core.errors import DamagedCheckpoint, InputError, one_line

from .read_ahead import kept_for_the_next_reader
from .released_igoas import is_released

SUFFIX = ".safetensors"
NESTED = ("model", "model_state", "state_dict")  # keys under which files hold their weights
ADVICE = "save the state_dict() of a model"
FOLDER = 0x10  # zip attribute; torch reads nothing from such an entry and leaves the memory of its tensor as it is
CHANGED = "it differs from what was written (CRC-32); copy or download the file again"


def numpy_scalar(module: str):
    """Returns a function that unpickles a numpy scalar, under the module name that numpy 1 or numpy 2 writes."""

    def scalar(dtype, value):
        return np.float64(0).__reduce__()[0](dtype, value)

    scalar.__module__, scalar.__qualname__ = module, "scalar"
    return scalar


# fast-reid saves the best metric as a numpy scalar
torch.serialization.add_safe_globals(
    [
        codecs.encode,  # pickle protocol 2 stores bytes through it; torch 2.4 does not allow it by itself
        numpy_scalar("numpy.core.multiarray"),
        numpy_scalar("numpy._core.multiarray"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")),
    ]
)


def load_file(path: str) -> dict:
    """Reads a checkpoint as read_file() does, and checks its weights.

    Returns:
        {"model": tensors by name, ...}. For weights without a training state the dict holds nothing else.

    Raises:
        DamagedCheckpoint: the file is damaged or no checkpoint.
        InputError: the file is missing, would execute code, has no tensors by name, or is of the original IGOAS.
    """
    checkpoint = read_file(path)
    weights = weights_in(path, checkpoint)
    if is_released(weights):
        raise InputError(f"checkpoint {path} is of the original IGOAS: convert it by tools/convert_checkpoint.py")
    return checkpoint if weights is checkpoint.get("model") else {"model": weights}


def weights_in(path: str, content) -> dict[str, Tensor]:
    """Returns the tensors by name in the content of a file: those under a key of NESTED, or else the content itself.

    Raises:
        InputError: there are none, or something else is among them.
    """
    held = [content[key] for key in NESTED if isinstance(content.get(key), dict)] if isinstance(content, dict) else []
    weights = next(filter(None, held), held[0] if held else content)
    if not isinstance(weights, dict) or not (held or weights):
        raise InputError(f"checkpoint {path} holds no weights by name; {ADVICE}")
    require_named_tensors(path, weights)
    return weights


def read_file(path: str):
    """Reads whatever torch.save() wrote to a .pth file, or a .safetensors file in the form of a checkpoint.

    Returns:
        For a checkpoint {"model": tensors by name, ...}, where "settings" is the JSON text of the config keys that the
        model depends on, if the file has it.

    Raises:
        DamagedCheckpoint: the file is damaged or no checkpoint.
        InputError: the file is missing or would execute code.
    """
    return read_safetensors(path) if is_safetensors(path) else read_pth(path)


def require_named_tensors(path: str, weights: dict) -> None:
    """Raises InputError, naming the file and the key, if weights are not tensors by name."""
    for name, value in weights.items():
        if not isinstance(name, str):
            problem = f"the name {name!r} of a weight is no text"
        elif not isinstance(value, Tensor):
            problem = f"{name} is of the type {type(value).__name__}, not a tensor"
        else:
            continue
        raise InputError(f"checkpoint {path} is refused: {problem}; {ADVICE}")


def cannot_read(path: str, error: OSError) -> InputError:
    """Returns the error for a file that is missing or that the system cannot open."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"checkpoint {path} does not exist")
    return InputError(f"checkpoint {path} cannot be read: {error.strerror or error}")


# .pth


@kept_for_the_next_reader
def read_pth(path: str):
    """Reads a file of torch.save(); see read_file()."""
    try:
        with open(path, "rb") as file:
            return unpickled(path, file)
    except OSError as error:
        raise cannot_read(path, error) from None


def unpickled(path: str, file: BinaryIO):
    """Returns the content of an open file of torch.save(); `path` is for messages. Raises as read_file()."""
    try:
        require_intact(path, file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:
        # torch wraps the message of its unpickler in advice to load the file without weights_only
        cause = error.__context__ if isinstance(error.__context__, pickle.UnpicklingError) else error
        reason = one_line(cause)
        if found := re.search(r"unsupported (?:global: )?(?:GLOBAL|class) (\S+)", reason, re.IGNORECASE):
            raise would_execute(path, f"it holds {found[1]}, which is neither a tensor nor a plain value") from error
        raise DamagedCheckpoint(
            f"checkpoint {path} cannot be read ({reason}): it is damaged or no checkpoint"
        ) from error


def would_execute(path: str, reason: str) -> InputError:
    return InputError(
        f"checkpoint {path} cannot be read, and nothing in it was executed: {reason}; ask its author to save a "
        "state_dict() alone"
    )


def require_intact(path: str, file: BinaryIO) -> None:
    """Checks what torch.load() does not check: the CRC-32 of each zip entry, and the formats that run code before 2.6.

    Files without a zip archive, and those of torch.serialization.set_crc32_options(False), carry no CRC-32.

    Raises:
        DamagedCheckpoint: an entry has another CRC-32 than its header, or is marked as a folder.
        InputError: the file is a TorchScript program or a tar archive.
        zipfile.BadZipFile: the archive is damaged.
    """
    start = file.read(512)  # the length of a tar header
    if start.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(entry.filename.endswith("/constants.pkl") for entry in entries):
                raise would_execute(path, "it is a TorchScript program")
            folders = [entry.filename for entry in entries if entry.external_attr & FOLDER]
            damaged = archive.testzip() if any(entry.CRC for entry in entries) else None
            if folders or damaged:
                raise DamagedCheckpoint(f"checkpoint {path} is damaged in {damaged or folders[0]}: {CHANGED}")
    elif start[257:262] == b"ustar":
        raise would_execute(path, "it is a tar archive of an old torch")
    file.seek(0)


# .safetensors


def is_safetensors(path: str) -> bool:
    """Returns whether a path ends in .safetensors."""
    return path.lower().endswith(SUFFIX)


def as_safetensors(weights: dict[str, Tensor], settings: str | None = None) -> bytes:
    """Returns the bytes of a .safetensors file, with a CRC-32 in its metadata.

    Args:
        weights: tensors by name, with any strides. Tensors that share memory are stored separately.
        settings: JSON text of the config keys that the model depends on.
    """
    weights = {name: each.detach().cpu().clone(memory_format=torch.contiguous_format) for name, each in weights.items()}
    metadata = {"format": "pt"} | ({} if settings is None else {"settings": settings})
    return save(weights, {**metadata, "crc32": f"{checksum(weights, settings):08x}"})


@kept_for_the_next_reader
def read_safetensors(path: str) -> dict:
    """Reads a .safetensors file of this plugin or of any other program; see read_file().

    Raises:
        InputError: the file is missing, damaged, or not in this format. Only files of this plugin have a CRC-32.
    """
    try:
        open(path, "rb").close()  # the errors of safe_open() do not tell a missing file from a damaged one
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}
            metadata = file.metadata() or {}
    except OSError as error:
        raise cannot_read(path, error) from None
    except (SafetensorError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(
            f"checkpoint {path} cannot be read ({one_line(error)}): it is damaged or no {SUFFIX}"
        ) from error
    settings = metadata.get("settings")
    if "crc32" in metadata and metadata["crc32"] != f"{checksum(weights, settings):08x}":
        raise InputError(f"checkpoint {path} is damaged: {CHANGED}")
    return {"model": weights} | ({} if settings is None else {"settings": settings})


def checksum(weights: dict[str, Tensor], settings: str | None) -> int:
    """Returns the CRC-32 of settings and contiguous tensors: names, dtypes, shapes and values, sorted by name."""
    crc = zlib.crc32((settings or "").encode())
    for name in sorted(weights):
        each = weights[name]
        crc = zlib.crc32(f"{name} {each.dtype} {tuple(each.shape)}".encode(), crc)
        crc = zlib.crc32(each.reshape(-1).view(torch.uint8).numpy(), crc)
    return crc
