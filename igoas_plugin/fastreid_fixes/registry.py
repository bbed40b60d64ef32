"""Registry that names both modules where two register one name."""

from fastreid.utils.registry import Registry

from igoas_plugin.core.errors import InputError

from .fix import fix


def register_once(self, name: str, registered) -> None:
    """Part of the host's Registry.

    Raises:
        InputError: something else has the name.
    """
    other = self._obj_map.get(name)
    if other is not None:
        raise InputError(
            f"two modules register {name} in the registry {self._name}: {other.__module__}, and now "
            f"{registered.__module__}; import one of them only, or rename yours"
        )
    self._obj_map[name] = registered


@fix
def name_both_modules_where_two_register_one_name() -> None:
    """AssertionError without a word of who has the name, where a project registers a name that is taken.

    The host's in-tree project PartialReID registers PartialREID, PartialiLIDS and OccludedREID as the plugin does.
    """
    Registry._do_register = register_once
