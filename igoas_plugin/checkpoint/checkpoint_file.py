"""Safe reading of checkpoints: .pth and .safetensors files, their tensors and digests."""

import codecs
import hashlib
import os
import pickle
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from igoas_plugin.core.errors import DamagedCheckpoint, InputError


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


FOLDER = 0x10  # attribute of MS-DOS in a zip archive: torch reads nothing of such an entry and leaves its tensor unset


@contextmanager
def numpy_scalars_allowed() -> Iterator[None]:
    """A context in which torch.load(weights_only=True) also takes numpy scalars; other code's loads stay as they are.

    torch.serialization.safe_globals() does this from torch 2.5 on, and then takes away what was allowed before it.
    """
    before = list(torch.serialization.get_safe_globals())
    torch.serialization.add_safe_globals(NUMPY_SCALARS)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def read_file(path: str, file: BinaryIO | None = None):
    """Reads a file of torch.save(), or the tensors of a .safetensors file; nothing in it is executed.

    Args:
        path: of the file.
        file: the file itself where it lies in an archive, and `path` is for messages alone.

    Raises:
        DamagedCheckpoint: it is damaged, or no file of torch.save().
        InputError: it is missing, or holds other things than tensors, plain values and numpy scalars, or tensors that
            require_plain() refuses.
    """
    if is_safetensors(path):
        return read_safetensors(path)[0]
    try:
        if file is None:
            with open(path, "rb") as opened:
                return read_opened(path, opened)
        return read_opened(path, file)
    except FileNotFoundError:
        raise InputError(f"checkpoint {path} does not exist") from None
    except OSError as error:
        raise InputError(f"checkpoint {path} cannot be read: {error.strerror or error}") from None


def read_opened(path: str, file: BinaryIO):
    """read_file() of an open file of torch.save()."""
    try:
        require_intact(path, file)
        with numpy_scalars_allowed():
            content = torch.load(file, map_location="cpu", weights_only=True)
        require_plain(path, content, file.seek(0, os.SEEK_END))
        return content
    except InputError:
        raise
    except Exception as error:
        # torch puts advice around what its unpickler said
        said = error.__context__ if isinstance(error.__context__, pickle.UnpicklingError) else error
        reason = " ".join(str(said).split()) or type(said).__name__
        if found := re.search(r"unsupported (?:global: )?(?:GLOBAL|class) (\S+)", reason, re.IGNORECASE):
            raise not_executed(path, f"it holds {found[1]}, which is neither a tensor nor a plain value") from error
        raise DamagedCheckpoint(
            f"checkpoint {path} cannot be read ({reason}): it is damaged or no checkpoint"
        ) from error


def not_executed(path: str, reason: str) -> InputError:
    return InputError(
        f"checkpoint {path} cannot be read, and nothing in it was executed: {reason}; have whoever made it save a "
        "state_dict() alone"
    )


def require_intact(path: str, file: BinaryIO) -> None:
    """Compares the CRC-32 of every entry of a zip archive, as torch.save() writes it; torch.load() does not.

    What an older torch wrote without a zip archive has no checksums, nor has what was written after
    torch.serialization.set_crc32_options(False), which leaves every one of them 0: both pass.

    Raises:
        DamagedCheckpoint: an entry is damaged or marked as a folder, or the entries are larger than the file, as those
            of a bomb are.
        InputError: it is a program of TorchScript, of which torch.load() itself warns twice, or a tar archive, which
            torch.load() unpacks into a temporary folder or refuses, as its version is.
        zipfile.BadZipFile: the archive itself is damaged.
    """
    start = file.read(tarfile.BLOCKSIZE)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if start[257:262] == b"ustar":
        raise not_executed(path, "it is a tar archive of an old torch")
    if not start.startswith(b"PK\x03\x04"):
        return
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise not_executed(path, "it is a program of TorchScript")
        if sum(entry.file_size for entry in entries) > size:
            raise DamagedCheckpoint(f"checkpoint {path} is refused: unpacked it is larger than the file itself")
        if folder := next((entry.filename for entry in entries if entry.external_attr & FOLDER), None):
            raise DamagedCheckpoint(f"checkpoint {path} is damaged: {folder} is marked as a folder; get it anew")
        damaged = archive.testzip() if any(entry.CRC for entry in entries) else None
    if damaged is not None:
        raise DamagedCheckpoint(
            f"checkpoint {path} is damaged: {damaged} has another CRC-32 than when it was written; get it anew"
        )
    file.seek(0)


def load_file(path: str) -> dict:
    """Reads a checkpoint of a training, or its weights from a .safetensors file.

    Raises:
        InputError: as read_file(); or it has no weights under the key "model", or anything but tensors by name there.
    """
    if is_safetensors(path):
        weights, settings = read_safetensors(path)
        return {"model": weights} | ({} if settings is None else {"settings": settings})
    checkpoint = read_file(path)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model"), dict):
        raise InputError(
            f"checkpoint {path} has no weights under the key 'model'; a file of the original IGOAS is converted by "
            "tools/convert_checkpoint.py"
        )
    require_named_tensors(path, checkpoint["model"])
    return checkpoint


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
        with open(path, "rb"), safe_open(path, framework="pt") as file:
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


def sha256_of(path: Path) -> str:
    """64 hexadecimal digits, in lower case."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def is_digest(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def noted_digest(note: Path) -> str:
    """The digest of a note; "" where there is no note, and a text that no digest begins with where it is damaged."""
    if not note.exists():
        return ""
    word = next(iter(note.read_text(errors="replace").split()), "")
    return word if is_digest(word) else "nothing that can be read"
