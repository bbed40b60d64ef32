"""Names that people type in any case, with or without dashes and underscores."""

import re
from collections.abc import Collection

from .errors import InputError


def plain(name: str) -> str:
    """Returns a name without case and punctuation.

    Example:
        >>> plain("P-DukeMTMC_reID")
        'pdukemtmcreid'
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def spelled(key: str, name: str, choices: Collection[str]) -> str:
    """Returns the choice that a name means: itself, or the one that differs in case and punctuation alone.

    Args:
        key: what takes the name, for the message.
        name: name as it was typed.
        choices: known names.

    Returns:
        The choice; `name` if there is none.

    Raises:
        InputError: several choices differ from the name in case and punctuation alone.

    Example:
        >>> spelled("NAME", "occluded-duke", ["OccludedDuke", "Market1501"])
        'OccludedDuke'
    """
    if name in choices:
        return name
    found = sorted(each for each in choices if plain(each) == plain(name))
    if len(found) > 1:
        raise InputError(f"{key}: {name} can be {' or '.join(found)}: write one of them exactly")
    return found[0] if found else name
