"""Files that fast-reid reads: local ones only, and YAML without running code."""

import functools
import importlib
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
from igoas_plugin.core.extensions import import_modules
from igoas_plugin.core.yaml_file import read_config

from .fix import fix

# Modules of fast-reid that call open() for text
OPENING = (
    *("fastreid.utils.file_io", "fastreid.config.config", "fastreid.engine.hooks"),
    *("fastreid.data.datasets.AirportALERT", "fastreid.data.datasets.msmt17", "fastreid.data.datasets.vehicleid"),
    *("fastreid.data.datasets.veriwild", "fastreid.modeling.backbones.regnet.config"),
)
NETWORK = re.compile(r"(https?|ftps?|s3|gs|hdfs)://", re.IGNORECASE)

host_merge_from_file = CfgNode.merge_from_file
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


def open_as_utf8(file, mode: str = "r", buffering: int = -1, encoding: str | None = None, *args, **kwargs):
    """Replaces open() in modules of fast-reid: text is UTF-8 unless another encoding is asked for."""
    return open(file, mode, buffering, encoding or (None if "b" in mode else "utf-8"), *args, **kwargs)


@fix
def read_and_write_text_as_utf8() -> None:
    """UnicodeDecodeError: a config with a Chinese comment ends a run at its start if the locale is not UTF-8.

    fast-reid opens text files in the encoding of the locale: GBK on a Chinese Windows, ASCII in a container without a
    locale. The same holds for lists of images, and characters of a log that the encoding lacks are lost.
    """
    for name in OPENING:
        vars(importlib.import_module(name))["open"] = open_as_utf8


@fix
def read_configs_safely() -> None:
    """A config with allow_unsafe runs code, a _BASE_ that is an address is downloaded, and a loop of them never ends.

    fast-reid falls back to yaml.unsafe_load and opens whatever a _BASE_ names. Also: KeyError "Non-existent config key:
    ...True", because YAML reads a bare ON (MODEL.IGOAS.MASK_LOSS.ON) as a boolean.
    """
    CfgNode.load_yaml_with_base = staticmethod(lambda filename, allow_unsafe=False: read_config(filename))


def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = False) -> None:
    """Replaces CfgNode.merge_from_file: also imports the modules in IMPORTS."""
    host_merge_from_file(self, cfg_filename, allow_unsafe)
    import_modules(self.get("IMPORTS", ()))


@fix
def import_what_a_config_names() -> None:
    """KeyError "No object named 'MyData' found in 'DATASET' registry!": a config cannot name the module of its classes.

    Only a training script of one's own could import it, so that fast-reid's demo, the teacher of a distillation and all
    tools of the plugin failed on such a run.
    """
    CfgNode.merge_from_file = merge_from_file


@fix
def know_the_plugin_s_keys_in_a_teacher_s_config() -> None:
    """KeyError "Non-existent config key" if KD.MODEL_CONFIG names a config that was written with the plugin.

    fast-reid's Distiller merges the files of its teachers into fast-reid's own keys.
    """
    distiller.get_cfg = get_cfg


def require_teacher(path: str) -> None:
    """Raises InputError if the config of a teacher is missing, or of a model with other parameters than a Baseline."""
    cfg = get_cfg()
    try:
        cfg.merge_from_file(path)
    except FileNotFoundError:
        raise InputError(f"KD.MODEL_CONFIG: there is no file {path}") from None
    name = cfg.MODEL.META_ARCHITECTURE
    name = cfg.MODEL.OCCLUSION.WRAPS if name == "OcclusionWrapper" else name
    architecture = distiller.META_ARCH_REGISTRY._obj_map.get(name)
    known = isinstance(architecture, type) and architecture.__module__.split(".")[0] in ("fastreid", "igoas_plugin")
    if known and not issubclass(architecture, distiller.Baseline):
        raise InputError(
            f"KD.MODEL_CONFIG {path}: a Distiller builds every teacher as a Baseline, and this one is {name}, with "
            "other parameters: take a teacher whose MODEL.META_ARCHITECTURE is Baseline"
        )


@fix
def name_what_cannot_be_a_teacher() -> None:
    """A teacher that is an IGOAS or an MGN ends in a list of missing tensors, or in a traceback in the first step.

    Cause: fast-reid's Distiller replaces the MODEL.META_ARCHITECTURE of a teacher by Baseline.
    """
    build = distiller.Distiller.__init__

    @functools.wraps(build)
    def build_with_teachers(self, cfg):
        teachers, weights = cfg.KD.MODEL_CONFIG, cfg.KD.MODEL_WEIGHTS
        if len(weights) < len(teachers):
            plurals = ["s" * (len(each) != 1) for each in (teachers, weights)]
            raise InputError(
                f"KD.MODEL_CONFIG names {len(teachers)} teacher{plurals[0]} and KD.MODEL_WEIGHTS {len(weights)} "
                f"file{plurals[1]}: give one file for each teacher"
            )
        for path in teachers:
            require_teacher(path)
        build(self, cfg)

    distiller.Distiller.__init__ = build_with_teachers


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
