from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import distiller

from igoas_plugin.config import get_cfg

from .fix import fix

load_yaml_with_base = CfgNode.load_yaml_with_base


def named(node):
    """The same tree with the key True called "ON", in a file that names a base too, where it must win."""
    if not isinstance(node, dict):
        return node
    return {("ON" if key is True else key): named(value) for key, value in node.items()}


def load_named_yaml(filename: str, allow_unsafe: bool = False) -> dict:
    """CfgNode.load_yaml_with_base, with a bare ON read as the key of that name."""
    return named(load_yaml_with_base(filename, allow_unsafe))


@fix
def read_ON_as_a_key() -> None:
    """KeyError "Non-existent config key: ...True": YAML takes a bare ON (MODEL.IGOAS.MASK_LOSS.ON) for a boolean."""
    CfgNode.load_yaml_with_base = staticmethod(load_named_yaml)


@fix
def know_the_plugin_s_keys_in_a_teacher_s_config() -> None:
    """KeyError "Non-existent config key" where KD.MODEL_CONFIG names a config that was written with the plugin.

    The host's Distiller reads its teachers' files into the host's own keys.
    """
    distiller.get_cfg = get_cfg
