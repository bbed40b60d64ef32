"""Global random generators: seeding from a key, and contexts that restore their state."""

import random

import numpy as np
import torch


def seed_generators(*key: int) -> None:
    """Seeds random, numpy, and torch on the CPU and on the GPUs in use; the random numbers depend on the key alone.

    Args:
        key: numbers that are not negative, such as seed, rank and iteration.
    """
    for_python, for_numpy, for_torch = (int(word) for word in np.random.SeedSequence(key).generate_state(3))
    random.seed(for_python)
    np.random.seed(for_numpy)
    torch.default_generator.manual_seed(for_torch)  # torch.manual_seed() looks for GPUs, which takes a millisecond
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(for_torch)


class PreservedGenerators:
    """Context at whose end the global CPU generators have the state that they had at its start."""

    def __enter__(self) -> None:
        self._outer = get_states()

    def __exit__(self, *_) -> None:
        set_states(*self._outer)


class OwnGenerators(PreservedGenerators):
    """Context with its own state of the global CPU generators: random numbers drawn in it change none drawn outside.

    The context continues its own state when it is entered again. It does not cover the generators of GPUs.

    Args:
        key: seeds the state, as for seed_generators().

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
        self._own = get_states()
        super().__exit__()


def get_states() -> tuple:
    """Returns the states of the global CPU generators of random, numpy and torch."""
    return random.getstate(), np.random.get_state(), torch.default_generator.get_state()


def set_states(python_state, numpy_state, torch_state) -> None:
    """Sets the states that get_states() returned."""
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    torch.default_generator.set_state(torch_state)
