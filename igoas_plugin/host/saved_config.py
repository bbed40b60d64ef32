"""The record of a run, config.yaml."""

import io

import fastreid.engine.defaults
from fastreid.utils.file_io import PathManager

from igoas_plugin.atomic_file import write_atomically

from .fix import fix


class WholeFile(io.StringIO):
    """A text that becomes a file where its ``with`` block ends well.

    Args:
        path: of the file; one that is there is replaced as a whole.
    """

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def __exit__(self, kind, *rest):
        if kind is None:
            write_atomically(self.path, lambda file: file.write(self.getvalue().encode()))
        super().__exit__(kind, *rest)


class WholeFiles:
    """The host's PathManager, with text files that are written as a whole or not at all."""

    def __getattr__(self, name: str):
        return getattr(PathManager, name)

    def open(self, path: str, mode: str = "r"):
        return WholeFile(path) if mode == "w" else PathManager.open(path, mode)


@fix
def write_the_config_atomically() -> None:
    """A kill at the start of a run, or a full disk, leaves half a config.yaml, or an empty one in place of the old.

    default_setup and auto_scale_hyperparams write it in place; a resume takes its seed from there.
    """
    fastreid.engine.defaults.PathManager = WholeFiles()
