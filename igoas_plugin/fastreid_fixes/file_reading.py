"""Files that fast-reid reads: local ones only, and YAML without running code."""

import re
from pathlib import Path

from fastreid.config import CfgNode
from fastreid.modeling.backbones import build
from fastreid.modeling.backbones.regnet import config as regnet_config
from fastreid.modeling.meta_arch import distiller
from fastreid.utils.file_io import PathHandler, PathManager
from yacs.config import CfgNode as PlainCfgNode

from igoas_plugin.config import get_cfg
from igoas_plugin.core.errors import InputError
from igoas_plugin.core.yaml_file import read_config

from .fix import fix

NETWORK = re.compile(r"(https?|ftps?|s3|gs|hdfs)://", re.IGNORECASE)

handler_of_fastreid = PathManager._PathManager__get_path_handler
regnet_defaults = regnet_config.cfg.clone()


def local_handler(path: str) -> PathHandler:
    """Returns fast-reid's handler of a path; raises InputError if the path is an address on a network."""
    if NETWORK.match(path):
        raise InputError(f"{path} is no local file, and nothing is downloaded unchecked: download it and give its path")
    return handler_of_fastreid(path)


@fix
def open_local_files_only() -> None:
    """A run downloads any address in MODEL.WEIGHTS unchecked, if a library has registered a handler for addresses.

    fast-reid's PathManager chooses a handler by the beginning of a path. Handlers that a program registers for names of
    its own, such as zoo://, still work.
    """
    PathManager._PathManager__get_path_handler = staticmethod(local_handler)


@fix
def read_configs_safely() -> None:
    """A config with allow_unsafe runs code, a _BASE_ that is an address is downloaded, and a loop of them never ends.

    fast-reid falls back to yaml.unsafe_load and opens whatever a _BASE_ names. Also: KeyError "Non-existent config key:
    ...True", because YAML reads a bare ON (MODEL.IGOAS.MASK_LOSS.ON) as a boolean.
    """
    CfgNode.load_yaml_with_base = staticmethod(lambda filename, allow_unsafe=False: read_config(filename))


@fix
def know_the_plugin_s_keys_in_a_teacher_s_config() -> None:
    """KeyError "Non-existent config key" if KD.MODEL_CONFIG names a config that was written with the plugin.

    fast-reid's Distiller merges the files of its teachers into fast-reid's own keys.
    """
    distiller.get_cfg = get_cfg


def merge_regnet_file(cfg_filename: str) -> None:
    """Merges one of fast-reid's files into the defaults of RegNet and EfficientNet, from any working directory."""
    installed = Path(build.__file__).parents[3] / cfg_filename  # beside the package fastreid
    regnet_config.cfg.merge_from_other_cfg(regnet_defaults)
    PlainCfgNode.merge_from_file(regnet_config.cfg, str(installed if installed.is_file() else cfg_filename))


@fix
def find_regnet_files_in_the_package() -> None:
    """FileNotFoundError: RegNet and EfficientNet are built only if the working directory holds fast-reid's sources.

    fast-reid names their YAML files by a path that starts at its repository. Also, one object holds the settings of all
    of them: a RegNetY left squeeze-and-excitation on for every RegNetX that the same process built after it.
    """
    vars(regnet_config.cfg)["merge_from_file"] = merge_regnet_file  # setattr would make a key of it
