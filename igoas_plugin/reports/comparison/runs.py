"""Runs of a comparison: every config with every seed, each in its own folder."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass

import yaml
from fastreid.config import CfgNode

from igoas_plugin.config import flat_keys, get_cfg, load_cfg, value_of
from igoas_plugin.core.errors import InputError
from igoas_plugin.core.files import write_atomically
from igoas_plugin.evaluation.results import TRAINED

INPUTS = "inputs.json"  # file in the folder of a run
COUNTED = ("MODEL.HEADS.NUM_CLASSES",)  # 0 in a config: fast-reid counts the identities and writes their number
NO_RESULT = ("OUTPUT_DIR", "DATALOADER.NUM_WORKERS", "TENSORBOARD.IMAGES_PERIOD")  # keys without influence on training


@dataclass(frozen=True)
class Run:
    """One training with its final evaluation.

    Args:
        name: name of the config in the table.
        opts: KEY VALUE ... for tools/train_net.py, with SEED and OUTPUT_DIR.
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
        """Whether the results of the final evaluation are written."""
        return os.path.isfile(os.path.join(self.folder, TRAINED))

    @property
    def begun(self) -> bool:
        return os.path.isfile(os.path.join(self.folder, "config.yaml"))


def plan(config_files: Iterable[str], seeds: int, output: str, opts: Iterable[str]) -> list[Run]:
    """Returns the runs of a comparison: all configs with seed 0 first, so that each has a result early.

    Args:
        config_files: paths of YAML files.
        seeds: number of seeds: 0, 1, ...
        output: folder of the comparison. A run has the folder ``<output>/<folder of the config>/<config>/seed<seed>``,
            whatever else is compared.
        opts: KEY VALUE ... for every config.

    Raises:
        InputError: a config cannot be read, `opts` sets SEED or OUTPUT_DIR, two configs have the same folder, or a
            folder holds a run of another config.
    """
    config_files, opts = list(config_files), list(opts)
    for key in ("SEED", "OUTPUT_DIR"):
        if key in opts[::2]:
            raise InputError(f"{key} is set for each run: take --seeds and --output")
    for config_file in config_files:
        load_cfg(config_file, opts)  # reports a mistake in the user's own words, without the keys that are added below
    folders, runs = [folder_of(each) for each in config_files], []
    if len(set(folders)) < len(folders):
        raise InputError(
            f"a config is given twice, or two configs would write into one folder of {output}: "
            f"{', '.join(sorted(config_files))}"
        )
    for seed in range(seeds):
        for config_file, name, folder in zip(config_files, names_of(folders), folders, strict=True):
            own = (*opts, "SEED", str(seed), "OUTPUT_DIR", os.path.join(output, folder, f"seed{seed}"))
            run = Run(name, config_file, own, seed, load_cfg(config_file, own))
            refuse_other_config(run)
            runs.append(run)
    return runs


def folder_of(config_file: str) -> str:
    """Returns the folder of a config's runs: "<folder of the config>/<config>"."""
    path, _ = os.path.splitext(os.path.abspath(config_file))
    return os.path.join(*path.split(os.sep)[-2:])


def names_of(folders: list[str]) -> list[str]:
    """Returns the names of the configs in the table: the last part of each folder, or all of it if names repeat.

    Example:
        >>> names_of(["Market1501/igoas_R50", "OccDuke/igoas_R50"])
        ['Market1501-igoas_R50', 'OccDuke-igoas_R50']
    """
    names = [os.path.basename(folder) for folder in folders]
    return names if len(set(names)) == len(names) else [folder.replace(os.sep, "-") for folder in folders]


def refuse_other_config(run: Run) -> None:
    """Raises InputError if the folder of a run holds a run of another config."""
    if not run.begun:
        return
    path = os.path.join(run.folder, "config.yaml")
    try:
        with open(path, encoding="utf-8") as file:
            earlier = CfgNode(yaml.safe_load(file))
        wanted, default = (CfgNode(yaml.safe_load(cfg.dump())) for cfg in (run.cfg, get_cfg()))
    except (yaml.YAMLError, AttributeError, TypeError):
        raise InputError(f"{path} is damaged: remove {run.folder}") from None
    known = set(flat_keys(earlier))
    for key in flat_keys(wanted):
        now, then = value_of(wanted, key), value_of(earlier if key in known else default, key)  # a newer key: default
        if now == then or key in NO_RESULT or (key in COUNTED and not now):
            continue
        raise InputError(
            f"{run.folder} holds a run of another config ({key} is {then}, not {now}): remove that folder, or "
            "choose another --output"
        )


def inputs_of(run: Run, images: dict[str, int]) -> dict[str, int | str]:
    """Returns the inputs that a run depends on besides its config.

    Args:
        images: number of images in every split, as a Workload has it.

    Returns:
        `images`, and the SHA-256 of each file of weights that the config names.
    """
    inputs, model = dict(images), run.cfg.MODEL
    files = {"MODEL.WEIGHTS": model.WEIGHTS, "MODEL.BACKBONE.PRETRAIN_PATH": model.BACKBONE.PRETRAIN_PATH}
    for key, path in files.items():
        if os.path.isfile(path):
            with open(path, "rb") as file:
                inputs[key] = hashlib.sha256(file.read()).hexdigest()
    return inputs


def refuse_other_inputs(run: Run, inputs: dict[str, int | str]) -> None:
    """Raises InputError if the folder of a run holds a run that started from other inputs."""
    path = os.path.join(run.folder, INPUTS)
    if not (run.begun and os.path.isfile(path)):
        return
    try:
        with open(path, encoding="utf-8") as file:
            earlier = dict(json.load(file))
    except (ValueError, TypeError):
        raise InputError(f"{path} is damaged: remove {run.folder}") from None
    for name in {**earlier, **inputs}:
        if earlier.get(name) != inputs.get(name):
            raise InputError(
                f"{run.folder} holds a run on other data or weights ({name}: {earlier.get(name)} then, "
                f"{inputs.get(name)} now): remove that folder, or choose another --output"
            )


def write_inputs(run: Run, inputs: dict[str, int | str]) -> None:
    """Writes the inputs of a new run into its folder; checks those of a run that goes on, see refuse_other_inputs()."""
    refuse_other_inputs(run, inputs)
    if not run.begun:
        text = json.dumps(inputs, indent=1)
        write_atomically(os.path.join(run.folder, INPUTS), lambda file: file.write(text.encode()))
