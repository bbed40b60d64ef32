"""Modules of users that register components: named by the key IMPORTS, or installed as extensions."""

import contextlib
import importlib
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points

from .errors import InputError, PluginError, one_line

logger = logging.getLogger("fastreid.igoas_plugin")

GROUP = "igoas_plugin.extensions"  # of entry points, by which an installed package names its modules
IMPORTED: dict[str, str] = {}  # {module of a user that was imported in this process: its file}


def import_modules(names: Iterable[str], source: str = "IMPORTS") -> None:
    """Imports modules by their names, and logs the file of each new one.

    The working directory is searched after everything that Python searches, so that no file in it hides a library.

    Args:
        names: names of modules, such as "my_data" or "my_package.data"; those that are imported already do no harm.
        source: key of the config or environment variable that holds the names; an error begins with it.

    Raises:
        InputError: a name is no name of a module, there is no such module, or it raises an error. An error of the
            plugin that the module raises, such as one about a name that is registered twice, is not changed.
    """
    for name in names:
        if not is_name_of_module(name):
            raise InputError(
                f"{source} takes names of Python modules, got {name!r}: for the file my_data.py write my_data, and "
                "start in its folder"
            )
        search_working_directory()
        try:
            module = importlib.import_module(name)
        except PluginError:
            raise
        except (Exception, SystemExit) as error:
            raise InputError(f"{source}: {reason(name, error)}") from error
        note(name, module)


def note(name: str, module) -> None:
    """Adds a module to IMPORTED, and logs its file if it is new there."""
    if name not in IMPORTED:
        # without a file: a folder without __init__.py, or a part of Python itself
        IMPORTED[name] = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "Python")
        logger.info(f"Imported {name} from {IMPORTED[name]}")


def is_name_of_module(name) -> bool:
    """Returns whether a value is words of letters, digits and underscores, joined by dots, and no file name."""
    return isinstance(name, str) and all(part.isidentifier() for part in name.split(".")) and not name.endswith(".py")


def search_working_directory() -> None:
    """Adds the working directory to the places that Python searches; spawned processes get the same places."""
    with contextlib.suppress(FileNotFoundError):  # the directory was removed
        if (folder := os.getcwd()) not in sys.path:
            sys.path.append(folder)


def reason(name: str, error: BaseException) -> str:
    """Returns why a module cannot be imported, with the line that raised the error, as the rest of a message."""
    if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
        return (
            f"there is no module {name}: start in the folder of {name.split('.')[0]}.py, or install it, or add its "
            "folder to PYTHONPATH"
        )
    place = traceback.extract_tb(error.__traceback__)[-1]
    file, line = (error.filename, error.lineno) if isinstance(error, SyntaxError) else (place.filename, place.lineno)
    return f"{name} cannot be imported: {type(error).__name__}: {one_line(error)} ({file}, line {line})"


def load_extensions() -> None:
    """Imports the modules that installed packages name in the entry point group GROUP, and logs their files.

    Raises:
        ImportError: a module cannot be imported.
    """
    for module, package in sorted({(entry.module, entry.dist.name) for entry in entry_points(group=GROUP)}):
        try:
            note(module, importlib.import_module(module))
        except Exception as error:
            raise ImportError(
                f"extension of igoas_plugin in the package {package}: {reason(module, error)}; correct it, "
                f"or run pip uninstall {package}"
            ) from error


OWN = ("fastreid", "igoas_plugin", "torch")  # packages whose code calls a constructor of a user


@contextlib.contextmanager
def constructing(key: str, registered: Callable, arguments: str) -> Iterator[None]:
    """Context in which a registered class or function is called, so that a wrong signature ends in one line.

    Args:
        key: config key that names it.
        registered: the class or function.
        arguments: arguments of the call, as a text, such as "cfg".

    Raises:
        InputError: the call does not fit a signature of a user. An error inside the code of a user stays as it is.
    """
    try:
        yield
    except TypeError as error:
        modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        if package_of(registered.__module__) in OWN or not all(package_of(module) in OWN for module in modules):
            raise
        name = registered.__name__
        kind = "class" if inspect.isclass(registered) else "function"
        raise InputError(
            f"{key}: the {kind} {name} of {registered.__module__} is called as {name}({arguments}), which "
            f"fails: {one_line(error)}; docs/extending.md has an example"
        ) from error


def package_of(module: str) -> str:
    """Returns the first word of a module's name."""
    return module.split(".")[0]
