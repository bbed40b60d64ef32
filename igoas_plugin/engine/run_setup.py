"""Start of a run: earlier files in OUTPUT_DIR are moved, everything is seeded, and the config is written."""

import copy
import itertools
import logging
import os
import platform
import random
from fnmatch import fnmatch

import fastreid.engine.defaults
import torch
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng

from igoas_plugin.config import spell_data_sets
from igoas_plugin.core.command_line import escape_what_cannot_be_encoded
from igoas_plugin.core.console_log import row
from igoas_plugin.core.errors import InputError
from igoas_plugin.core.extensions import IMPORTED, import_modules
from igoas_plugin.core.files import cannot_write, write_atomically
from igoas_plugin.core.processor import processor
from igoas_plugin.core.randomness import seed_generators
from igoas_plugin.core.version import __version__
from igoas_plugin.core.yaml_file import read_yaml
from igoas_plugin.fastreid_fixes.device import usable_device
from igoas_plugin.fastreid_fixes.fix import fix, replace_everywhere

from .console import show_once

host_default_setup = fastreid.engine.defaults.default_setup
logger = logging.getLogger("fastreid.igoas_plugin")

CHECKPOINTS = ("last_checkpoint", "model_*.pth")
# Files that a run, an evaluation of it, and the tools that describe it leave in OUTPUT_DIR
RUN_FILES = (
    *CHECKPOINTS,
    "config.yaml",
    "log.txt*",
    "metrics.json",
    "events.out.tfevents.*",
    "results*.json",
    "report.html",
    "occlusion_curve.*",
)


def default_setup(cfg, args) -> None:
    """Replaces fast-reid's function: also moves an earlier run's files and seeds everything with SEED + rank.

    The modules in IMPORTS are imported first, and named in the log. Data sets get their registered names.

    Args:
        cfg: config of the run; gets the SEED that is used, and new paths of weights that were moved.
        args: command line. Files are moved only if it has `resume`, and neither `resume` nor `eval_only` is set.
    """
    folder, eval_only = cfg.OUTPUT_DIR, getattr(args, "eval_only", False)
    import_modules(cfg.get("IMPORTS", ()))
    comm.synchronize()  # every process has read its config file, which may be moved now
    previous = None
    if not getattr(args, "resume", True) and not eval_only:
        previous = comm.all_gather(move_earlier_run(folder) if comm.is_main_process() else None)[0]
    frozen = cfg.is_frozen()
    cfg.defrost()
    spell_data_sets(cfg)
    if previous:
        args = copy.copy(args)
        args.config_file = moved_path(getattr(args, "config_file", ""), folder, previous)
        for node, key in ((cfg.MODEL, "WEIGHTS"), (cfg.MODEL.BACKBONE, "PRETRAIN_PATH")):
            node[key] = moved_path(node[key], folder, previous)
    if "SEED" in cfg:
        cfg.SEED = run_seed(cfg, args)
    if frozen:
        cfg.freeze()
    training_config = read_training_config(folder) if eval_only else None
    escape_what_cannot_be_encoded()  # a log line with such a character would be lost
    # without a seed it draws and logs one, which would have no effect before that of the run
    fastreid.engine.defaults.seed_all_rng = leave_generators if "SEED" in cfg else seed_all_rng
    show_once.cache_clear()
    host_default_setup(cfg, args)
    seed = f", seed {cfg.SEED}" if "SEED" in cfg else ""
    for name, text in (("versions", versions()), ("device", device_of(cfg)), ("folder", f"{folder}{seed}")):
        logger.info(row(name, text))
    if training_config is not None and comm.is_main_process():
        write_atomically(os.path.join(folder, "config.yaml"), lambda file: file.write(training_config))
    for name, file in IMPORTED.items():
        logger.info(f"Imported {name} from {file}")
    if previous:
        logger.warning(f"Files of an earlier run were moved to {previous}; to continue a run, start it with --resume")
    if "SEED" in cfg:
        # all processes of an evaluation build the same model, which nothing synchronises
        seed_all_rng(cfg.SEED + (0 if eval_only else comm.get_rank()))


def leave_generators() -> None:
    """Replaces fast-reid's seed_all_rng() in a run that default_setup() seeds."""


def versions() -> str:
    """Returns the versions that a run depends on."""
    return (
        f"igoas_plugin {__version__}, fast-reid {fastreid.__version__}, PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def device_of(cfg) -> str:
    """Returns the name of the device on which a run computes, and the number of processes if there are several."""
    device = usable_device(cfg.MODEL.DEVICE)
    if device == "cpu":
        threads = torch.get_num_threads()
        text = f"CPU ({processor()}), {threads} thread{'s' if threads > 1 else ''}"
    else:
        text = f"GPU ({torch.cuda.get_device_name(device)})"
    processes = comm.get_world_size()
    return f"{text} in each of {processes} processes" if processes > 1 else text


def move_earlier_run(folder: str, patterns: tuple[str, ...] = RUN_FILES) -> str | None:
    """Moves the files of an earlier run in `folder` (it may not exist) into its subfolder `previous`, `previous-2`, ...

    Returns:
        Path of the subfolder, or None if there was nothing to move.

    Raises:
        OutputError: a file cannot be moved.
    """
    files = [entry.name for entry in os.scandir(folder) if entry.is_file()] if os.path.isdir(folder) else []
    names = [name for name in files if any(fnmatch(name, pattern) for pattern in patterns)]
    if not names:
        return None
    candidates = (os.path.join(folder, f"previous-{n}" if n > 1 else "previous") for n in itertools.count(1))
    previous = next(path for path in candidates if not os.path.lexists(path))
    try:
        os.mkdir(previous)
        for name in names:
            os.rename(os.path.join(folder, name), os.path.join(previous, name))
    except OSError as error:
        raise cannot_write(previous, error) from error
    return previous


def moved_path(path: str, folder: str, previous: str) -> str:
    """Returns the path of a file after move_earlier_run() has moved `folder` to `previous`; "" stays ""."""
    path_now = os.path.join(previous, os.path.basename(path))
    in_folder = os.path.dirname(os.path.realpath(path)) == os.path.realpath(folder)
    return path_now if path and in_folder and os.path.isfile(path_now) else path


def run_seed(cfg, args) -> int:
    """Returns the seed of a run, the same in all processes.

    It is SEED, or if SEED is negative the seed of the run to be resumed, or a random one.
    """
    seed, saved = cfg.SEED, os.path.join(cfg.OUTPUT_DIR, "config.yaml")
    if seed < 0 and getattr(args, "resume", False) and os.path.isfile(saved):
        seed = saved_seed(saved)
        if seed < 0:  # the file is damaged, or was written without the plugin
            logger.warning(f"{saved} holds no SEED: a new one is drawn")
    if seed < 0:
        seed = random.SystemRandom().randrange(2**31)
    return comm.all_gather(seed)[0]


def saved_seed(path: str) -> int:
    """Returns the SEED in a run's config.yaml; -1 if there is none."""
    try:
        seed = read_yaml(path).get("SEED")
    except InputError:
        return -1
    return seed if type(seed) is int and 0 <= seed < 2**31 else -1


class SeedSteps(HookBase):
    """Hook that seeds the global generators before each step with seed, rank and iteration.

    A checkpoint does not store the generators, so a resumed run would draw other numbers, for dropout for example.

    Args:
        seed: SEED of the run, not negative.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def before_step(self):
        seed_generators(self.seed, comm.get_rank(), self.trainer.iter)


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
