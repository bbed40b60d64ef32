"""Reading of configs by fast-reid's CfgNode."""

from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import distiller

from igoas_plugin.config import get_cfg
from igoas_plugin.core.yaml_file import read_config

from .fix import fix


def load_yaml_with_base(filename: str, allow_unsafe: bool = False) -> dict:
    """Reads a config and its bases by read_config(), in place of CfgNode.load_yaml_with_base; never unsafely."""
    return read_config(filename)


@fix
def read_configs_safely() -> None:
    """A config with allow_unsafe runs code, a _BASE_ that is an address is downloaded, and a loop of them never ends.

    fast-reid falls back to yaml.unsafe_load and opens whatever a _BASE_ names. Also: KeyError "Non-existent config key:
    ...True", because YAML reads a bare ON (MODEL.IGOAS.MASK_LOSS.ON) as a boolean.
    """
    CfgNode.load_yaml_with_base = staticmethod(load_yaml_with_base)


@fix
def know_the_plugin_s_keys_in_a_teacher_s_config() -> None:
    """KeyError "Non-existent config key" if KD.MODEL_CONFIG names a config that was written with the plugin.

    fast-reid's Distiller merges the files of its teachers into fast-reid's own keys.
    """
    distiller.get_cfg = get_cfg
