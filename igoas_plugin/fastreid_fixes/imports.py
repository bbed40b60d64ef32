"""Import of fast-reid, and what is said where it is missing or has another version."""

import collections
import collections.abc
import importlib
import importlib.metadata
import importlib.util
import logging
import sys
import types
import warnings

from .fix import fix

HOST_VERSION = "1.4.0"
INSTALL = f"pip install --no-deps fastreid=={HOST_VERSION}"

logger = logging.getLogger("fastreid.igoas_plugin")


def require_host() -> str:
    """Looks for the host without importing it.

    Returns:
        Its version, as its package metadata gives it ("unknown" for a checkout on the path).

    Raises:
        ImportError: fastreid or faiss is not installed; the message is the pip line that installs it.
    """
    if importlib.util.find_spec("fastreid") is None:
        raise ImportError(f"igoas_plugin needs its host fast-reid: {INSTALL}")
    if importlib.util.find_spec("faiss") is None:
        raise ImportError("fast-reid needs faiss: pip install faiss-cpu (or, with an NVIDIA GPU, faiss-gpu; not both)")
    try:
        version = importlib.metadata.version("fastreid")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    if version != HOST_VERSION:
        logger.warning(
            f"igoas_plugin mends fastreid {HOST_VERSION}, found {version}: fixes may not fit. Install: {INSTALL}"
        )
    return version


MODULES = ("fastreid.engine", "fastreid.evaluation.rank", "fastreid.evaluation.roc")


class ImportedLate(types.ModuleType):
    """Stands for a module, which is imported when something of it is asked for."""

    def __getattr__(self, name: str):
        return getattr(importlib.import_module(self.__name__), name)


@fix
def import_host_with_names_that_left_python_and_torch() -> str | None:
    """ImportError: the host imports collections.Mapping (gone in Python 3.10) and torch._six (gone in torch 2.0).

    Both names stand in only while the host's modules load, so that no other library sees them. Loading everything here
    lets the other fixes find every module that holds a name. Two import warnings of the host about its Cython ranking
    are silenced: the ranking is built, or one warning given, when the evaluator is made. And scikit-learn, a second or
    more for the ROC curve alone, waits until there is such a curve.
    Upstream: fast-reid PRs #713 and #747, open.
    """
    lent, scikit_learn = [], importlib.util.find_spec("sklearn")
    if not hasattr(collections, "Mapping"):
        collections.Mapping = collections.abc.Mapping
        lent.append("collections.Mapping")
    try:
        importlib.import_module("torch._six")
    except ModuleNotFoundError:
        sys.modules["torch._six"] = types.SimpleNamespace(string_classes=(str, bytes))
        lent.append("torch._six")
    if "sklearn" not in sys.modules:
        sys.modules["sklearn"] = types.ModuleType("sklearn")
        sys.modules["sklearn"].__spec__ = scikit_learn  # torch looks at it
        sys.modules["sklearn"].metrics = ImportedLate("sklearn.metrics")
        lent.append("sklearn")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Cython .* evaluation")
            for name in MODULES:
                importlib.import_module(name)
    finally:
        if "collections.Mapping" in lent:
            del collections.Mapping
        for name in ("torch._six", "sklearn"):
            if name in lent:
                del sys.modules[name]
    return None if lent else "this Python and torch still have both names, and scikit-learn is there already"
