"""Files of data alone: a pipe or a device in place of one is refused, where a read of it would never end."""

import errno
import os
import stat
from typing import IO


def open_regular(path: str | os.PathLike, mode: str = "rb", **options) -> IO:
    """open() of a regular file.

    Args:
        path: of the file.
        mode, options: as open() takes them.

    Raises:
        OSError: as open(); or there is a pipe, a device or a socket, or the path holds a null character.
    """
    if "\0" in os.fspath(path):
        raise OSError(errno.EINVAL, "its path holds a null character", path)
    return open(path, mode, opener=regular_alone, **options)


def regular_alone(path: str | os.PathLike, flags: int) -> int:
    """An opener for open(), which refuses folders itself; it does not wait for whoever writes into a pipe."""
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    kind = os.fstat(handle).st_mode
    if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
        return handle
    os.close(handle)
    raise OSError(errno.EINVAL, "it is no regular file", path)
