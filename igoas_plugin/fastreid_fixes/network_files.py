"""Paths that name a local file."""

import re

from fastreid.utils.file_io import PathHandler, PathManager

from igoas_plugin.core.errors import InputError

from .fix import fix

NETWORK = re.compile(r"(https?|ftps?|s3|gs|hdfs)://", re.IGNORECASE)

handler_of_host = PathManager._PathManager__get_path_handler


def local_handler(path: str) -> PathHandler:
    """What opens a path; raises InputError where it is an address on a network."""
    if NETWORK.match(path):
        raise InputError(f"{path} is no local file, and nothing is fetched unchecked: download it and give its path")
    return handler_of_host(path)


@fix
def open_local_files_only() -> None:
    """A run fetches whatever address MODEL.WEIGHTS holds, unchecked, where any library has registered a handler for it.

    The host's PathManager hands a path to the handler of its beginning. What a program registers for names of its own,
    such as zoo://, still serves.
    """
    PathManager._PathManager__get_path_handler = staticmethod(local_handler)
