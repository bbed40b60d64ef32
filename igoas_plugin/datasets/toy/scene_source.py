"""Random numbers of the drawing."""

from numpy.random import RandomState

VERSION = 1  # raise it with any change that alters a pixel

PURPOSES = ("scene", "colours", "outfit", "shot", "clutter")


def source(purpose: str, *numbers: int) -> RandomState:
    """Returns a random source that depends on its arguments alone and touches no global generator.

    RandomState, unlike numpy's newer Generator, promises the same numbers in every version of numpy.

    Args:
        purpose: one of PURPOSES.
        numbers: whole numbers, not negative, as many as the purpose needs: an identity, a camera, an index.
    """
    return RandomState([VERSION, PURPOSES.index(purpose), *numbers])
