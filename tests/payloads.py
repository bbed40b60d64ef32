"""Files with a payload that creates another file when it is executed."""

import os
import pickle
import zipfile
from pathlib import Path

import torch


class Creates:
    """Object that creates a file when it is unpickled.

    Args:
        path: path of that file.
        call: function that creates it, one of CALLS.
    """

    def __init__(self, path, call):
        self.path, self.call = path, call

    def __reduce__(self):
        return CALLS[self.call](self.path)


CALLS = {
    "os.system": lambda path: (os.system, (f"touch {path}",)),
    "exec": lambda path: (exec, (f"open({str(path)!r}, 'w')",)),
    "getattr": lambda path: (Path.touch, (path,)),  # pickle finds a method of a class by getattr
}


def save_zip(path, content) -> None:
    torch.save(content, path)


def save_legacy(path, content) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_pickle(path, content) -> None:
    path.write_bytes(pickle.dumps(content))


FORMATS = {"zip": save_zip, "legacy": save_legacy, "pickle": save_pickle}


def executed(path: Path) -> None:
    """Loads a file as torch before 2.6 did by default, to show that the payload works."""
    torch.load(path, weights_only=False)


def wheel_with(path: Path, content: bytes, name: str) -> None:
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(name, content)
