"""Errors that a user can cause, each told in one line."""

import re
from collections.abc import Sequence
from importlib.util import find_spec


def printable(text: str) -> str:
    r"""A file name, or a line with one, as one line that any terminal and any page can show.

    What is not printable (line ends, bytes that are no UTF-8, marks that turn the direction of writing) is shown by its
    escape sequence.

    Example:
        >>> printable("crops/a\nb é.jpg")
        'crops/a\\nb é.jpg'
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


class InputError(ValueError):
    """Something that the user gave is wrong: a config key, a path, a checkpoint, a data set.

    Its text is one line: what is wrong, where, what to do. The command-line tools print that line and exit with 2. Of a
    file's name, or of whatever else it quotes, line ends and all that is not printable come as escape sequences.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class LostProcess(RuntimeError):
    """A process of a run has died or does not answer, and the others cannot go on without it.

    Its text is one line, as that of an InputError; the command-line tools print that line and exit with 1.
    """


class UnreadableImage(InputError, OSError):
    """A file of a data set is missing, empty, cut off, or no image; an OSError too, as the host raises there."""


class OutputError(InputError):
    """A file cannot be written: the disk is full, a quota is used up, a folder is read-only."""


class DamagedCheckpoint(InputError):
    """A file is no checkpoint, or it is torn, truncated or altered."""


class LostWorker(InputError):
    """A worker of a data loader has died, or found no room for what it had read."""


class NotFinite(InputError, FloatingPointError):
    """A loss or a gradient of a training is NaN or infinite; a FloatingPointError too, as the host raises there."""


def raised_elsewhere(text: str) -> InputError | None:
    r"""The InputError in which the traceback of another process ends, as one line again; None where it is none.

    Args:
        text: what a loader's worker or a launched process left.

    Example:
        >>> raised_elsewhere("Traceback ...\n  line 3\nigoas_plugin.core.errors.UnreadableImage: a.jpg is empty\n")
        UnreadableImage('a.jpg is empty')
    """
    match = re.search(rf"^{re.escape(__name__)}\.(\w+): (.*)$", text.strip().rsplit("\n", 1)[-1])
    return globals()[match[1]](match[2]) if match else None


def require_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Raises InputError where the value of a config key is none of the choices."""
    if value not in choices:
        *most, last = choices
        raise InputError(f"{key} must be {', '.join(most)}{' or ' if most else ''}{last}, got {value}")


def require_packages(*names: str) -> None:
    """Raises InputError, with the line that installs them, where packages that not everyone needs are missing."""
    if missing := [name for name in names if find_spec(name) is None]:
        raise InputError(f"{' and '.join(missing)} must be installed for this: pip install {' '.join(missing)}")
