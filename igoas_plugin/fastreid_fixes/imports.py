"""Import of fast-reid, and the messages if it is missing or of another version."""

import collections
import collections.abc
import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import io
import logging
import sys
import types
import warnings

from .fix import fix, replace_everywhere

FASTREID_VERSION = "1.4.0"
INSTALL = f"pip install --no-deps fastreid=={FASTREID_VERSION}"

logger = logging.getLogger("fastreid.igoas_plugin")


def require_fastreid() -> str:
    """Checks that fast-reid and faiss are installed, without importing them.

    Returns:
        The version in fast-reid's package metadata, "unknown" for a checkout on the path.

    Raises:
        ImportError: fastreid or faiss is not installed. The message is the pip command that installs it.
    """
    if importlib.util.find_spec("fastreid") is None:
        raise ImportError(f"igoas_plugin needs fast-reid: {INSTALL}")
    if importlib.util.find_spec("faiss") is None:
        raise ImportError("fast-reid needs faiss: pip install faiss-cpu (or, with an NVIDIA GPU, faiss-gpu; not both)")
    try:
        version = importlib.metadata.version("fastreid")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    if version != FASTREID_VERSION:
        logger.warning(
            f"igoas_plugin is made for fastreid {FASTREID_VERSION}, found {version}: its fixes may not fit. "
            f"Install: {INSTALL}"
        )
    return version


MODULES = ("fastreid.engine", "fastreid.evaluation.rank", "fastreid.evaluation.roc")


@fix
def import_fastreid_on_new_python_and_torch() -> None:
    """ImportError: fast-reid cannot be imported on Python 3.10 or newer, nor with torch 2 or newer.

    Cause: it imports collections.Mapping and torch._six, which are gone. Both names exist only while fast-reid's
    modules are imported, so that no other library sees them. All modules are imported here, so that other fixes find
    every module that holds a name. fast-reid's two warnings about its Cython ranking are silenced. scikit-learn, which
    takes a second or more, is not imported: only the ROC curve uses it, see find_genuine_pairs_by_the_roc().
    Upstream: fast-reid PRs #713 and #747, open.
    """
    collections.Mapping = collections.abc.Mapping
    stand_ins = {"torch._six": types.SimpleNamespace(string_classes=(str, bytes))}
    if "sklearn" not in sys.modules:
        stand_ins["sklearn"] = types.ModuleType("sklearn")
        stand_ins["sklearn"].__spec__ = importlib.util.find_spec("sklearn")  # torch reads it
        stand_ins["sklearn"].metrics = None
    sys.modules.update(stand_ins)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Cython .* evaluation")
        for name in MODULES:
            importlib.import_module(name)
    del collections.Mapping
    for name in stand_ins:
        del sys.modules[name]


@fix
def tell_the_version_of_the_package() -> None:
    """fast-reid 1.4.0 calls itself 1.3 in its log and in fastreid.__version__.

    A checkout on the path has no version of a package, and keeps its own.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        sys.modules["fastreid"].__version__ = importlib.metadata.version("fastreid")


@fix
def describe_the_environment_without_cuda() -> None:
    """A run on a CPU begins with the warning "No CUDA runtime is found, using CUDA_HOME".

    fast-reid imports torch.utils.cpp_extension for the description of the environment, and torch looks for CUDA then.
    """
    host_collect = importlib.import_module("fastreid.utils.collect_env").collect_env_info

    @functools.wraps(host_collect)
    def collect_env_info() -> str:
        torch_logger = logging.getLogger("torch.utils.cpp_extension")
        level = torch_logger.level
        torch_logger.setLevel(logging.ERROR)
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # older versions of torch print the warning
                importlib.import_module("torch.utils.cpp_extension")
            return host_collect()
        finally:
            torch_logger.setLevel(level)

    replace_everywhere(host_collect, collect_env_info)
