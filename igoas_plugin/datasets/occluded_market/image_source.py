"""Random numbers of the occlusions."""

import hashlib

import numpy as np
from numpy.random import RandomState

VERSION = 1  # raise it with any change that alters a pixel


def source(purpose: str, name: str) -> RandomState:
    """Returns the random source of one image for one purpose, the same on every machine.

    RandomState, unlike numpy's newer Generator, promises the same numbers in every version of numpy.

    Args:
        purpose: word for what is drawn.
        name: file name of the image in Market-1501, without the suffix.
    """
    digest = hashlib.sha256(f"{VERSION}/{purpose}/{name}".encode()).digest()
    return RandomState(np.frombuffer(digest, dtype="<u4"))
