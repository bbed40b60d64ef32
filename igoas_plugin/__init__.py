"""IGOAS for fast-reid: importing this package mends the host and registers every component of the plugin."""

from .host import prepare_host

prepare_host()

from . import checkpoint, datasets, modeling, occlusion  # noqa: E402, F401  (they register themselves with the mended host)
from .config import add_igoas_config, get_cfg  # noqa: E402
from .predictor import Predictor  # noqa: E402
from .visualization import tensorboard  # noqa: E402, F401  (adds a hook to the host's trainer)

__version__ = "0.1.0"
__all__ = ["Predictor", "__version__", "add_igoas_config", "get_cfg"]
