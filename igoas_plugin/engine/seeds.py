"""Seeds of a run."""

import logging
import os
import random

import fastreid.engine.defaults
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.files import write_atomically
from igoas_plugin.core.randomness import seed_generators
from igoas_plugin.core.yaml_file import read_yaml
from igoas_plugin.fastreid_fixes.fix import fix, replace_everywhere

default_host_setup = fastreid.engine.defaults.default_setup
logger = logging.getLogger("fastreid.igoas_plugin")


def run_seed(cfg, args) -> int:
    """SEED; where it is negative that of the run to be resumed, else one drawn now; the same in all processes."""
    seed = cfg.SEED
    if seed < 0 and getattr(args, "resume", False):
        saved = os.path.join(cfg.OUTPUT_DIR, "config.yaml")
        if os.path.isfile(saved):
            seed = saved_seed(saved)
            if seed < 0:  # cut off, damaged, or written without the plugin
                logger.warning(f"{saved} holds no SEED: a new one is drawn")
    if seed < 0:
        seed = random.SystemRandom().randrange(2**31)
    return comm.all_gather(seed)[0]


def saved_seed(path: str) -> int:
    """SEED in the config.yaml of a run; -1 where it holds none."""
    try:
        seed = read_yaml(path).get("SEED")
    except InputError:
        return -1
    return seed if type(seed) is int and 0 <= seed < 2**31 else -1


def default_setup(cfg, args):
    """The host's function of this name; then everything is seeded with SEED + rank, and cfg.SEED is that SEED."""
    if "SEED" not in cfg:
        return default_host_setup(cfg, args)
    config, kept = os.path.join(cfg.OUTPUT_DIR, "config.yaml"), None
    trained_here = all(
        os.path.isfile(os.path.join(cfg.OUTPUT_DIR, name)) for name in ("last_checkpoint", "config.yaml")
    )
    if getattr(args, "eval_only", False) and trained_here:
        with open(config, "rb") as file:  # an evaluation in the folder of a training leaves its record alone
            kept = file.read()
    comm.synchronize()
    frozen = cfg.is_frozen()
    cfg.defrost()
    cfg.SEED = run_seed(cfg, args)
    if frozen:
        cfg.freeze()
    default_host_setup(cfg, args)
    if kept is not None and comm.is_main_process():
        write_atomically(config, lambda file: file.write(kept))
    # one model in all processes of an evaluation, where nothing makes them equal afterwards
    seed_all_rng(cfg.SEED + (0 if getattr(args, "eval_only", False) else comm.get_rank()))
    logger.info(f"Seeded with SEED {cfg.SEED}")


@fix
def seed_runs() -> None:
    """No run can be repeated: the host seeds everything with a random number, whatever the config says."""
    replace_everywhere(default_host_setup, default_setup)


class SeedSteps(HookBase):
    """Seeds the global generators in each step: what a model draws, by dropout say, depends on seed and iteration.

    Generators are not part of a checkpoint: a resumed run would draw other numbers.

    Args:
        seed: SEED of the run, not negative.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def before_step(self):
        seed_generators(self.seed, comm.get_rank(), self.trainer.iter)
