"""Where every number of the drawing comes from: sources that depend on nothing but what they are asked for."""

from numpy.random import RandomState

VERSION = 1  # raise it with any change that alters a pixel

PURPOSES = ("scene", "colours", "outfit", "shot", "clutter")


def source(purpose: str, *numbers: int) -> RandomState:
    """A random source for one purpose: equal arguments give equal draws, and no global generator is touched.

    RandomState, unlike numpy's newer Generator, promises the same stream in every version of numpy.

    Args:
        purpose: one of PURPOSES.
        numbers: not negative, as many as the purpose needs: an identity, a camera, an index.
    """
    return RandomState([VERSION, PURPOSES.index(purpose), *numbers])
