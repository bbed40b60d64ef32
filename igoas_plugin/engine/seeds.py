"""Seeds of a run."""

import logging
import os
import random

from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.randomness import seed_generators
from igoas_plugin.core.yaml_file import read_yaml

logger = logging.getLogger("fastreid.igoas_plugin")


def run_seed(cfg, args) -> int:
    """Returns the seed of a run, the same in all processes.

    It is SEED, or if SEED is negative the seed of the run to be resumed, or a random one.
    """
    seed = cfg.SEED
    if seed < 0 and getattr(args, "resume", False):
        saved = os.path.join(cfg.OUTPUT_DIR, "config.yaml")
        if os.path.isfile(saved):
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
