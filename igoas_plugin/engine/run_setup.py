"""Start of a run: earlier files in OUTPUT_DIR are moved, everything is seeded, and the config is written."""

import contextlib
import copy
import logging
import os

import fastreid.engine.defaults
from fastreid.config import CfgNode
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng

from igoas_plugin.core.files import write_atomically
from igoas_plugin.fastreid_fixes.fix import fix, replace_everywhere

from .earlier_run import move_earlier_run, moved_path
from .seeds import run_seed

host_default_setup = fastreid.engine.defaults.default_setup
logger = logging.getLogger("fastreid.igoas_plugin")


def default_setup(cfg, args) -> None:
    """Replaces fast-reid's function: also moves an earlier run's files and seeds everything with SEED + rank.

    Args:
        cfg: config of the run; gets the SEED that is used, and new paths of weights that were moved.
        args: command line. Files are moved only if it has `resume`, and neither `resume` nor `eval_only` is set.
    """
    eval_only = getattr(args, "eval_only", False)
    comm.synchronize()  # every process has read its config file, which may be moved now
    previous = None
    if not getattr(args, "resume", True) and not eval_only:
        previous = comm.all_gather(move_earlier_run(cfg.OUTPUT_DIR) if comm.is_main_process() else None)[0]
    if previous:
        args = copy.copy(args)
        args.config_file = moved_path(getattr(args, "config_file", ""), cfg.OUTPUT_DIR, previous)
    with defrosted(cfg):
        if previous:
            cfg.MODEL.WEIGHTS = moved_path(cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR, previous)
            cfg.MODEL.BACKBONE.PRETRAIN_PATH = moved_path(cfg.MODEL.BACKBONE.PRETRAIN_PATH, cfg.OUTPUT_DIR, previous)
        if "SEED" in cfg:
            cfg.SEED = run_seed(cfg, args)
    training_config = read_training_config(cfg.OUTPUT_DIR) if eval_only else None
    host_default_setup(cfg, args)
    if training_config is not None and comm.is_main_process():
        write_atomically(os.path.join(cfg.OUTPUT_DIR, "config.yaml"), lambda file: file.write(training_config))
    if previous:
        logger.warning(f"Files of an earlier run were moved to {previous}; to continue a run, start it with --resume")
    if "SEED" in cfg:
        # all processes of an evaluation build the same model, which nothing synchronises
        seed_all_rng(cfg.SEED + (0 if eval_only else comm.get_rank()))
        logger.info(f"Seeded with SEED {cfg.SEED}")


@contextlib.contextmanager
def defrosted(cfg: CfgNode):
    """Makes a config writable while the context runs."""
    frozen = cfg.is_frozen()
    cfg.defrost()
    yield
    if frozen:
        cfg.freeze()


def read_training_config(folder: str) -> bytes | None:
    """Returns the config.yaml of a training in a folder, which an evaluation must leave as it is, or None."""
    config = os.path.join(folder, "config.yaml")
    if not all(os.path.isfile(path) for path in (config, os.path.join(folder, "last_checkpoint"))):
        return None
    with open(config, "rb") as file:
        return file.read()


@fix
def set_up_runs() -> None:
    """No run can be repeated: fast-reid seeds everything with a random number, whatever the config says.

    A training that starts anew in the folder of an earlier one also mixes its files with the earlier ones.
    """
    replace_everywhere(host_default_setup, default_setup)
