"""Where every number of an occlusion comes from: the version, the image's name, and what it is for."""

import hashlib

import numpy as np
from numpy.random import RandomState

VERSION = 1  # raise it with any change that alters a pixel


def source(purpose: str, name: str) -> RandomState:
    """A random source of one image for one purpose: equal arguments give equal draws on every machine.

    RandomState, unlike numpy's newer Generator, promises the same stream in every version of numpy.

    Args:
        purpose: what is drawn.
        name: of the image, as Market-1501 has it, without the suffix.
    """
    digest = hashlib.sha256(f"{VERSION}/{purpose}/{name}".encode()).digest()
    return RandomState(np.frombuffer(digest, dtype="<u4"))
