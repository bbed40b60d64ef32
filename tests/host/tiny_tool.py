"""tools/train_net.py with TinyReID registered, as a user's own script registers a data set: by import."""
import runpy
import sys
from pathlib import Path

import igoas_plugin  # noqa: F401

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny_data  # noqa: E402, F401

runpy.run_path(str(Path(__file__).parents[2] / "tools" / "train_net.py"), run_name="__main__")
