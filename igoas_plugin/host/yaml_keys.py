from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import distiller

from igoas_plugin.config import get_cfg
from igoas_plugin.errors import InputError

from .fix import fix

load_yaml_with_base = CfgNode.load_yaml_with_base
MOST_NODES = 100_000  # of a config, with every alias of YAML written out; one of all keys has 300


def nodes_of(node, known: dict[int, float]) -> float:
    """How many nodes a tree has with every alias written out; infinite where a node is in itself.

    Args:
        known: of nodes that were counted already, by id().
    """
    if not isinstance(node, dict | list):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")  # until its own nodes are counted
        known[id(node)] = 1 + sum(nodes_of(each, known) for each in (node.values() if isinstance(node, dict) else node))
    return known[id(node)]


def named(node):
    """The same tree with the key True called "ON", in a file that names a base too, where it must win."""
    if not isinstance(node, dict):
        return node
    return {("ON" if key is True else key): named(value) for key, value in node.items()}


def load_named_yaml(filename: str, allow_unsafe: bool = False) -> dict:
    """CfgNode.load_yaml_with_base, with a bare ON read as the key of that name.

    Raises:
        InputError: its aliases, written out, would fill the memory.
    """
    given = load_yaml_with_base(filename, allow_unsafe)
    if nodes_of(given, {}) > MOST_NODES:
        raise InputError(f"its aliases stand for more than {MOST_NODES:,} values: write it without them")
    return named(given)


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
