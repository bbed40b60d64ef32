"""Random numbers of the drawing."""

from numpy.random import RandomState

SEED = 1
PURPOSES = ("scene", "colours", "outfit", "shot", "clutter")


def source(purpose: str, *numbers: int) -> RandomState:
    """Returns a random source that depends on its arguments alone and touches no global generator.

    RandomState, unlike numpy's newer Generator, promises the same numbers in every version of numpy.

    Args:
        purpose: one of PURPOSES.
        numbers: whole numbers, not negative, as many as the purpose needs: an identity, a camera, an index.
    """
    return RandomState([SEED, PURPOSES.index(purpose), *numbers])
