"""IGOAS for fast-reid: importing this package patches fast-reid and registers every component of the plugin.

Extensions, which are installed packages with an entry point in the group igoas_plugin.extensions, are imported last.
"""

import os

from .core.command_line import end_at_ctrl_c
from .fastreid_fixes import patch_fastreid

end_at_ctrl_c()

# The folders above fastreid_fixes patch fast-reid too, each in the module that holds the replacement. This list is the
# only place that applies them, in this order.
patch_fastreid(
    "igoas_plugin.datasets.fastreid_readers",
    "igoas_plugin.checkpoint.imagenet",  # before modeling, which imports build_backbone by its name
    "igoas_plugin.evaluation.evaluator",
    "igoas_plugin.engine.loader",
    "igoas_plugin.engine.distributed",
    "igoas_plugin.engine.log_files",
    "igoas_plugin.engine.run_setup",
    "igoas_plugin.engine.console",
    "igoas_plugin.engine.checkpoints",
    "igoas_plugin.engine.trainer",
)

from . import checkpoint, datasets, modeling, occlusion  # noqa: E402, F401  (they register their components)
from .config import add_igoas_config, get_cfg  # noqa: E402
from .core.extensions import import_modules, load_extensions  # noqa: E402
from .core.version import __version__  # noqa: E402
from .engine.trainer import Trainer  # noqa: E402
from .inference.predictor import Predictor  # noqa: E402
from .reports.figures.tensorboard import occluded_images  # noqa: E402

Trainer.more_hooks.append(occluded_images)
load_extensions()
# older than the key IMPORTS, which replaces it
import_modules(os.environ.get("IGOAS_PLUGIN_IMPORT", "").split(), source="IGOAS_PLUGIN_IMPORT")

__all__ = ["Predictor", "__version__", "add_igoas_config", "get_cfg"]
