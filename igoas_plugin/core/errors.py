"""Errors that tell a user in one line what is wrong, each with the exit code of the process that it ends."""

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec


def printable(text: str) -> str:
    r"""Returns a text as one line that any terminal and any page can show.

    Unprintable characters (line ends, bytes that are not UTF-8, marks that change the direction of writing) become
    escape sequences.

    Example:
        >>> printable("crops/a\nb é.jpg")
        'crops/a\\nb é.jpg'
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def one_line(error: BaseException) -> str:
    """Returns the message of an exception without newlines, or its type if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


class PluginError(Exception):
    """Error of the plugin. Its text is one line: what is wrong, where, what to do.

    The command-line tools print that line and exit with `exit_code`. Unprintable characters of file names come as
    escape sequences.
    """

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(PluginError, ValueError):
    """A mistake of the user, found before anything is written: a config key, a path, a checkpoint, a data set."""

    exit_code = 2


class UnreadableImage(InputError, OSError):
    """A file of a data set is missing, empty, cut off, or no image; an OSError too, as fast-reid raises there."""


class DamagedCheckpoint(InputError):
    """A file is no checkpoint, or it is torn, truncated or altered."""


class RunError(PluginError):
    """A failure of a run or a tool after its start, when files may have been written."""


class LostProcess(RunError, RuntimeError):
    """A process of a run has died or does not answer, and the others cannot go on without it."""


class LostWorker(RunError):
    """A worker of a data loader has died, or has no memory for a batch."""


class NotFinite(RunError, FloatingPointError):
    """A loss or a gradient of a training is NaN or infinite; a FloatingPointError too, as fast-reid raises there."""


class OutputError(RunError):
    """A file cannot be written: the disk is full, a quota is used up, a folder is read-only."""


@contextmanager
def failing_run() -> Iterator[None]:
    """Turns an InputError of a run that has already written files, such as a damaged image, into a RunError."""
    try:
        yield
    except InputError as error:
        raise RunError(str(error)) from error


def error_in_traceback(text: str) -> PluginError | None:
    r"""Returns the error of this module with which a traceback ends, or None.

    Args:
        text: traceback of a loader's worker or a launched process.

    Example:
        >>> error_in_traceback("Traceback ...\n  line 3\nigoas_plugin.core.errors.UnreadableImage: a.jpg is empty\n")
        UnreadableImage('a.jpg is empty')
    """
    match = re.search(rf"^{re.escape(__name__)}\.(\w+): (.*)$", text.strip().rsplit("\n", 1)[-1])
    return globals()[match[1]](match[2]) if match else None


def require_choice(key: str, value: str, choices: Sequence[str], registered: bool = False) -> None:
    """Raises InputError if the value of a config key is not one of the choices; of more than six it names the nearest.

    Args:
        registered: whether the choices are names of a registry, which a module in IMPORTS can extend.
    """
    if value in choices:
        return
    own = "; a module in IMPORTS can register another (docs/extending.md)" if registered else ""
    if len(choices) > 6:
        names = nearest(str(value), choices)
        raise InputError(f"{key} must be a known name (the nearest: {', '.join(names)}), got {value}{own}")
    *most, last = choices
    raise InputError(f"{key} must be {', '.join(most)}{' or ' if most else ''}{last}, got {value}{own}")


def nearest(word: str, known: Sequence[str], count: int = 3) -> list[str]:
    """Returns the known words that are most like a word, whatever their case, the nearest first.

    Example:
        >>> nearest("sdg", ["Adam", "AdamW", "SGD"], count=1)
        ['SGD']
    """
    ratio = {each: difflib.SequenceMatcher(None, word.lower(), each.lower()).ratio() for each in known}
    return sorted(known, key=lambda each: -ratio[each])[:count]


def require_packages(*names: str) -> None:
    """Raises InputError, with the command that installs them, if optional packages are missing."""
    if missing := [name for name in names if find_spec(name) is None]:
        raise InputError(f"{' and '.join(missing)} must be installed for this: pip install {' '.join(missing)}")
