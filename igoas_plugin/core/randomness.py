"""The global generators: seeded from a key, or borrowed and given back."""

import random

import numpy as np
import torch


def seed_generators(*key: int) -> None:
    """Seeds random, numpy, and torch on the CPU and on the GPUs in use; what follows depends on the key alone.

    Args:
        key: numbers that are not negative, such as a seed, a rank and an iteration; other numbers, other randomness.
    """
    for_python, for_numpy, for_torch = (int(word) for word in np.random.SeedSequence(key).generate_state(3))
    random.seed(for_python)
    np.random.seed(for_numpy)
    torch.default_generator.manual_seed(for_torch)  # torch.manual_seed asks for GPUs, which takes a millisecond
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(for_torch)


class GivenBack:
    """A context after which the global generators of the CPU are as they were before it."""

    def __enter__(self) -> None:
        self._outside = states()

    def __exit__(self, *_) -> None:
        set_states(*self._outside)


class OwnGenerators(GivenBack):
    """A context with generators of its own: code in it may draw from the global ones, and nobody outside notices.

    Entered again, it goes on where it was left. Generators of GPUs are not part of it.

    Args:
        key: as of seed_generators().

    Example:
        >>> own = OwnGenerators(1)
        >>> random.seed(0)
        >>> with own:
        ...     first = random.random()
        >>> with own:
        ...     second = random.random()
        >>> outside = random.random()
        >>> random.seed(0)
        >>> outside == random.random(), first == second
        (True, False)
    """

    def __init__(self, *key: int):
        self._key = key
        self._own = None

    def __enter__(self) -> None:
        super().__enter__()
        if self._own is None:
            seed_generators(*self._key)
        else:
            set_states(*self._own)

    def __exit__(self, *_) -> None:
        self._own = states()
        super().__exit__()


def states() -> tuple:
    return random.getstate(), np.random.get_state(), torch.default_generator.get_state()


def set_states(of_python, of_numpy, of_torch) -> None:
    random.setstate(of_python)
    np.random.set_state(of_numpy)
    torch.default_generator.set_state(of_torch)
