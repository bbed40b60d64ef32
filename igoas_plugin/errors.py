from collections.abc import Sequence


class InputError(ValueError):
    """Something that the user gave is wrong: a config key, a path, a checkpoint, a data set.

    Its text is one line: what is wrong, where, what to do. The command-line tools print that line and exit with 2.
    """


def require_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Raises InputError where the value of a config key is none of the choices."""
    if value not in choices:
        *most, last = choices
        raise InputError(f"{key} must be {', '.join(most)}{' or ' if most else ''}{last}, got {value}")
