"""Paths of fast-reid that must name a local file."""

import re

from fastreid.utils.file_io import PathHandler, PathManager

from igoas_plugin.core.errors import InputError

from .fix import fix

NETWORK = re.compile(r"(https?|ftps?|s3|gs|hdfs)://", re.IGNORECASE)

handler_of_fastreid = PathManager._PathManager__get_path_handler


def local_handler(path: str) -> PathHandler:
    """Returns fast-reid's handler of a path; raises InputError if the path is an address on a network."""
    if NETWORK.match(path):
        raise InputError(f"{path} is no local file, and nothing is downloaded unchecked: download it and give its path")
    return handler_of_fastreid(path)


@fix
def open_local_files_only() -> None:
    """A run downloads any address in MODEL.WEIGHTS unchecked, if a library has registered a handler for addresses.

    fast-reid's PathManager chooses a handler by the beginning of a path. Handlers that a program registers for names of
    its own, such as zoo://, still work.
    """
    PathManager._PathManager__get_path_handler = staticmethod(local_handler)
