"""YAML files of RegNet and EfficientNet."""

from pathlib import Path

from fastreid.modeling.backbones import build
from fastreid.modeling.backbones.regnet import config as regnet_config
from yacs.config import CfgNode

from .fix import fix

defaults = regnet_config.cfg.clone()


def merge_regnet_file(cfg_filename: str) -> None:
    """Merges one of fast-reid's files into the defaults of RegNet and EfficientNet, from any working directory."""
    installed = Path(build.__file__).parents[3] / cfg_filename  # beside the package fastreid
    regnet_config.cfg.merge_from_other_cfg(defaults)
    CfgNode.merge_from_file(regnet_config.cfg, str(installed if installed.is_file() else cfg_filename))


@fix
def find_regnet_files_in_the_package() -> None:
    """FileNotFoundError: RegNet and EfficientNet are built only if the working directory holds fast-reid's sources.

    fast-reid names their YAML files by a path that starts at its repository. Also, one object holds the settings of all
    of them: a RegNetY left squeeze-and-excitation on for every RegNetX that the same process built after it.
    """
    vars(regnet_config.cfg)["merge_from_file"] = merge_regnet_file  # setattr would make a key of it
