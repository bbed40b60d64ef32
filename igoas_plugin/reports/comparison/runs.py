"""The runs of a comparison: every config with every seed, in a folder of its own."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import yaml
from fastreid.config import CfgNode

from igoas_plugin.config import flat_keys, get_cfg, load_cfg, value_of
from igoas_plugin.core.errors import InputError
from igoas_plugin.evaluation.results import TRAINED

COUNTED = ("MODEL.HEADS.NUM_CLASSES",)  # 0 in a config: the host counts it and writes down what it has found
# may differ: they change nothing in what is learned
NO_RESULT = ("OUTPUT_DIR", "DATALOADER.NUM_WORKERS", "TENSORBOARD.IMAGES_PERIOD")


@dataclass(frozen=True)
class Run:
    """One training with its final evaluation.

    Args:
        name: of the config in the table.
        config_file: its path.
        opts: KEY VALUE ... for tools/train_net.py, seed and folder among them.
        seed: of the run.
        cfg: the whole config.
    """

    name: str
    config_file: str
    opts: tuple[str, ...]
    seed: int
    cfg: CfgNode

    @property
    def folder(self) -> str:
        return self.cfg.OUTPUT_DIR

    @property
    def title(self) -> str:
        return f"{self.name} seed {self.seed}"

    @property
    def done(self) -> bool:
        """Whether its final evaluation is written."""
        return os.path.isfile(os.path.join(self.folder, TRAINED))

    @property
    def begun(self) -> bool:
        return os.path.isfile(os.path.join(self.folder, "config.yaml"))


def plan(config_files: Iterable[str], seeds: int, output: str, opts: Iterable[str]) -> list[Run]:
    """The runs of a comparison, seed by seed: a comparison that is stopped has something of every config.

    Args:
        config_files: paths of YAML files.
        seeds: how many; they are 0, 1, ...
        output: folder of the comparison; a run goes into ``<output>/<folder of the config>/<config>/seed<seed>``,
            whatever else is compared.
        opts: KEY VALUE ... for every config.

    Raises:
        InputError: a config cannot be read, sets its own SEED or OUTPUT_DIR on the command line, or is given twice; two
            of them would write into one folder, or a folder holds a run of another config.
    """
    config_files, opts = list(config_files), list(opts)
    for key in ("SEED", "OUTPUT_DIR"):
        if key in opts[::2]:
            raise InputError(f"{key} is set for each run: take --seeds and --output")
    for config_file in config_files:
        load_cfg(config_file, opts)  # a mistake is told in the words of the user, without what is added below
    names, folders, runs = names_of(config_files), [os.path.join(*steps_of(each)[-2:]) for each in config_files], []
    if len(set(folders)) < len(folders):
        raise InputError(f"two configs would write into one folder of {output}: {', '.join(sorted(config_files))}")
    for seed in range(seeds):
        for config_file, name, folder in zip(config_files, names, folders, strict=True):
            own = (*opts, "SEED", str(seed), "OUTPUT_DIR", os.path.join(output, folder, f"seed{seed}"))
            run = Run(name, config_file, own, seed, load_cfg(config_file, own))
            refuse_other_config(run)
            runs.append(run)
    return runs


def names_of(config_files: list[str]) -> list[str]:
    """The shortest ends of the paths, without suffix, that tell them apart; InputError where one is given twice."""
    steps = list(map(steps_of, config_files))
    for length in range(1, max(map(len, steps), default=0) + 1):
        names = ["-".join(each[-length:]) for each in steps]
        if len(set(names)) == len(names):
            return names
    raise InputError(f"a config is given twice: {', '.join(config_files)}")


def steps_of(path: str) -> list[str]:
    """The folders of a file and its name without suffix."""
    return os.path.splitext(os.path.abspath(path))[0].split(os.sep)


def refuse_other_config(run: Run) -> None:
    """Raises InputError where the folder of a run holds one whose config differs."""
    if not run.begun:
        return
    path = os.path.join(run.folder, "config.yaml")
    try:
        with open(path) as file:
            there = CfgNode(yaml.safe_load(file))
        wanted, default = (CfgNode(yaml.safe_load(cfg.dump())) for cfg in (run.cfg, get_cfg()))
    except (yaml.YAMLError, AttributeError, TypeError):
        raise InputError(f"{path} is damaged: remove {run.folder}") from None
    known = set(flat_keys(there))  # a key that came later had its default
    was = {key: value_of(there if key in known else default, key) for key in flat_keys(wanted)}
    different = [
        key
        for key in was
        if value_of(wanted, key) != was[key]
        and key not in NO_RESULT
        and not (key in COUNTED and not value_of(wanted, key))
    ]
    if different:
        key, now = different[0], value_of(wanted, different[0])
        raise InputError(
            f"{run.folder} holds a run of another config ({key} is {was[key]}, not {now}): remove that folder, or "
            "choose another --output"
        )
