"""Files of weights that the checks before a run have read and that the run takes over, so that each is read once."""

import copy
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")

_kept: dict[tuple, object] = {}  # (function, path, size, time of change) -> what was read
_keeping = False


@contextmanager
def reading_ahead() -> Iterator[None]:
    """Context in which every file that is read is kept for its next reader, who takes it out of the memory.

    A file that has changed in between is read again. Nothing is kept if the context ends with an error.
    """
    global _keeping
    _kept.clear()
    _keeping = True
    try:
        yield
    except BaseException:
        _kept.clear()
        raise
    finally:
        _keeping = False


def kept_for_the_next_reader(read: Callable[[str], T]) -> Callable[[str], T]:
    """Decorates a function that reads the file of a path; see reading_ahead()."""

    @functools.wraps(read)
    def read_or_take(path: str) -> T:
        try:
            status = os.stat(path)
        except OSError:
            return read(path)  # raises the error that fits
        key = (read, os.path.abspath(path), status.st_size, status.st_mtime_ns)
        with torch.device("cpu"):  # the checks build models under torch.device("meta")
            content = _kept.pop(key) if key in _kept else read(path)
        if not _keeping:
            return content
        _kept[key] = content
        return copied(content)

    return read_or_take


def copied(content: T) -> T:
    """Copies dicts and the dicts in them, from which Checkpointer.load() removes what it has loaded; shares tensors."""
    if not isinstance(content, dict):
        return content
    outer = copy.copy(content)
    outer.update({key: copy.copy(value) for key, value in content.items() if isinstance(value, dict)})
    return outer
