"""Script that runs the faults of fast-reid without the plugin, and prints what happened as JSON.

Only two names that Python and torch have removed are restored, because fast-reid cannot be imported without them. The
fixture ``raw_host`` runs the script once a test session. Each ``faults_*.py`` beside it registers functions by
``@fault``.
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
    """Registers a function that returns what fast-reid does, as a JSON value; an exception is recorded as text."""
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
        except BaseException as error:  # SystemExit too is a fault
            seen[name] = f"{type(error).__name__}: {error}"
    print("\n" + json.dumps(seen))


if __name__ == "__main__":
    main()
