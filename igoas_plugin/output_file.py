import os
from collections.abc import Callable
from typing import BinaryIO

from .atomic_file import cannot_write, write_atomically
from .check import check_output
from .errors import InputError


def check_output_file(path: str, option: str = "--output") -> None:
    """Raises InputError, naming the option, where a path is a folder, or lies in one that cannot be made."""
    if os.path.isdir(path):
        raise InputError(f"{option} {path} is a folder: name a file in it")
    check_output(os.path.dirname(os.path.abspath(path)), f"the folder of {option}")


def write_output(path: str, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file as a whole or not at all, and makes its folder.

    Args:
        path: of the file; one that is there is replaced.
        write: is called with a new file.

    Raises:
        OutputError: it cannot be written.
    """
    make_folder(os.path.dirname(os.path.abspath(path)))
    write_atomically(path, write)


def make_folder(path: str) -> None:
    """Makes a folder, and those around it, where it is missing; raises OutputError where it cannot be made."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None
