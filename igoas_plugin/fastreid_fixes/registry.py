"""Two modules that register one name in a registry of fast-reid."""

import logging

from fastreid.utils.registry import Registry

from igoas_plugin.core.errors import InputError

from .fix import fix

logger = logging.getLogger("fastreid.igoas_plugin")


def register_once(self, name: str, registered) -> None:
    """Replaces Registry._do_register: an object of the plugin gives way to that of another package.

    Raises:
        InputError: the name is registered already, and both objects are of the plugin or both are not.
    """
    other = self._obj_map.get(name)
    if other is None:
        self._obj_map[name] = registered
        return
    if is_of_plugin(other) == is_of_plugin(registered):
        raise InputError(
            f"two modules register {name} in the registry {self._name}: {other.__module__}, and now "
            f"{registered.__module__}; import one of them only, or rename yours"
        )
    theirs, ours = (registered, other) if is_of_plugin(other) else (other, registered)
    self._obj_map[name] = theirs
    logger.warning(
        f"{name} in the registry {self._name}: the class of {theirs.__module__} replaces that of {ours.__module__}"
    )


def is_of_plugin(registered) -> bool:
    """Returns whether a class or function is one of the plugin."""
    return registered.__module__.split(".")[0] == __name__.split(".")[0]


@fix
def give_way_to_a_project_of_the_same_names() -> None:
    """AssertionError: a project that registers a name of the plugin cannot be imported, nor does the error name both.

    fast-reid's project PartialReID registers PartialREID, PartialiLIDS and OccludedREID, as the plugin does. Its
    classes read other cameras, so that figures differ: results.json has the module of each data set's class.
    """
    Registry._do_register = register_once
