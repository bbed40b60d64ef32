import collections
import collections.abc
import importlib
import sys
import types
import warnings

from .fix import fix

MODULES = ("fastreid.engine", "fastreid.evaluation.rank", "fastreid.evaluation.roc")


@fix
def import_host_with_names_that_left_python_and_torch() -> str | None:
    """ImportError: the host imports collections.Mapping (gone in Python 3.10) and torch._six (gone in torch 2.0).

    Both names stand in only while the host's modules load, so that no other library sees them. Loading everything here
    lets the other fixes find every module that holds a name. Two import warnings of the host about its Cython ranking
    are silenced: the ranking is built, or one warning given, when the evaluator is made.
    Upstream: fast-reid PRs #713 and #747, open.
    """
    lent = []
    if not hasattr(collections, "Mapping"):
        collections.Mapping = collections.abc.Mapping
        lent.append("collections.Mapping")
    try:
        importlib.import_module("torch._six")
    except ModuleNotFoundError:
        sys.modules["torch._six"] = types.SimpleNamespace(string_classes=(str, bytes))
        lent.append("torch._six")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Cython .* evaluation")
            for name in MODULES:
                importlib.import_module(name)
    finally:
        if "collections.Mapping" in lent:
            del collections.Mapping
        if "torch._six" in lent:
            del sys.modules["torch._six"]
    return None if lent else "this Python and torch still have both names"
