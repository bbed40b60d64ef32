import importlib.abc
import importlib.util
import os
import pickle
import sys

import numpy as np

from igoas_plugin.errors import InputError
from igoas_plugin.regular_file import open_regular

from .fix import fix

# What numpy 1 and 2 name in the pickle of an array of numbers
ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class ArraysOnly(pickle.Unpickler):
    """An unpickler that knows arrays and plain values, and executes nothing."""

    def find_class(self, module, name):
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no array")
        return super().find_class(module, name)


def load_roc_info(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Visualizer.load_roc_info; raises InputError where the file holds anything but arrays and plain values."""
    try:
        with open_regular(path) as file:
            return ArraysOnly(file).load()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # whatever pickle meets in a file that is damaged
        raise InputError(f"{path} is no file of save_roc_info(): {' '.join(str(error).split())}") from error


class MendWhenLoaded(importlib.abc.MetaPathFinder):
    """Mends the host's visualizer when somebody loads it: with what it draws by, that takes seconds."""

    MODULE = "fastreid.utils.visualizer"

    def find_spec(self, name, path, target=None):
        if name != self.MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_mend(module):
            load(module)
            mend(module)

        spec.loader.exec_module = load_and_mend
        return spec


def mend(visualizer) -> None:
    visualizer.Visualizer.load_roc_info = staticmethod(load_roc_info)


@fix
def read_roc_files_without_executing_them() -> None:
    """Visualizer.load_roc_info executes whatever the pickle that it is given says."""
    if MendWhenLoaded.MODULE in sys.modules:
        mend(sys.modules[MendWhenLoaded.MODULE])
    else:
        sys.meta_path.insert(0, MendWhenLoaded())
