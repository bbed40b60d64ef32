"""Error of fast-reid's registries that names both modules if two register one name."""

from fastreid.utils.registry import Registry

from igoas_plugin.core.errors import InputError

from .fix import fix


def register_once(self, name: str, registered) -> None:
    """Replaces Registry._do_register.

    Raises:
        InputError: the name is registered already.
    """
    other = self._obj_map.get(name)
    if other is not None:
        raise InputError(
            f"two modules register {name} in the registry {self._name}: {other.__module__}, and now "
            f"{registered.__module__}; import one of them only, or rename yours"
        )
    self._obj_map[name] = registered


@fix
def name_both_modules_of_a_collision() -> None:
    """If two modules register one name, the error does not say which modules.

    fast-reid's project PartialReID registers PartialREID, PartialiLIDS and OccludedREID, as the plugin does.
    """
    Registry._do_register = register_once
