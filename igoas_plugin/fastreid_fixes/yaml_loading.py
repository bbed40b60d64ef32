"""Safe reading of configs."""

from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import distiller

from igoas_plugin.config import get_cfg
from igoas_plugin.core.yaml_file import read_config

from .fix import fix


def load_yaml_with_base(filename: str, allow_unsafe: bool = False) -> dict:
    """CfgNode.load_yaml_with_base, by read_config(); what asks for an unsafe loader does not get it."""
    return read_config(filename)


@fix
def read_configs_safely() -> None:
    """A config is executed with allow_unsafe, fetches a _BASE_ that is an address, and fills the memory by aliases.

    The host falls back to yaml.unsafe_load, opens whatever a _BASE_ names (a loop of them ends in RecursionError), and
    copies each alias. Also: KeyError "Non-existent config key: ...True", as YAML takes a bare ON
    (MODEL.IGOAS.MASK_LOSS.ON) for a boolean.
    """
    CfgNode.load_yaml_with_base = staticmethod(load_yaml_with_base)


@fix
def know_the_plugin_s_keys_in_a_teacher_s_config() -> None:
    """KeyError "Non-existent config key" where KD.MODEL_CONFIG names a config that was written with the plugin.

    The host's Distiller reads its teachers' files into the host's own keys.
    """
    distiller.get_cfg = get_cfg
