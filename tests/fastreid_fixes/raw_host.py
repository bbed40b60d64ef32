"""The published host as it is, without the plugin: runs every registered fault and prints what it did, as JSON.

Only the two imports that have left Python and torch are put back, for without them nothing of the host can be loaded.
Run once a test session by the fixture ``raw_host``; each ``faults_*.py`` beside this file adds functions by ``@fault``.
"""

import collections
import collections.abc
import importlib
import json
import sys
import types
import warnings
from pathlib import Path

FAULTS = {}


def fault(function):
    """Registers a function that returns what the unmended host does (a JSON value); an exception becomes its text."""
    FAULTS[function.__name__] = function
    return function


def main():
    sys.modules["raw_host"] = sys.modules["__main__"]
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(2)
    collections.Mapping = collections.abc.Mapping
    sys.modules["torch._six"] = types.SimpleNamespace(string_classes=(str, bytes))
    for path in sorted(Path(__file__).parent.glob("faults_*.py")):
        importlib.import_module(path.stem)
    seen = {}
    for name, function in FAULTS.items():
        try:
            seen[name] = function()
        except BaseException as error:  # what the host does wrong is what is recorded, SystemExit included
            seen[name] = f"{type(error).__name__}: {error}"
    print("\n" + json.dumps(seen))


if __name__ == "__main__":
    main()
