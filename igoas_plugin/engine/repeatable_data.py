"""Training data whose order and augmentation depend on the seed and on the position in the run alone."""

from collections.abc import Iterable, Iterator
from itertools import islice

from fastreid.utils import comm
from torch.utils.data import Dataset, Sampler, get_worker_info

from igoas_plugin.core.randomness import OwnGenerators, seed_generators


class WrappedDataset(Dataset):
    """A data set around another one, whose attributes are its own too.

    Args:
        data_set: the host's or a user's.
    """

    def __init__(self, data_set: Dataset):
        self.data_set = data_set

    def __getattr__(self, name: str):
        if name == "data_set":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.data_set, name)

    def __len__(self) -> int:
        return len(self.data_set)


AT_ONCE = 256  # indices that are drawn before the global generators are given back


class Draw(int):
    """An index into a training set that knows how many were drawn before it in this process, since the run began."""

    number: int

    def __new__(cls, index: int, number: int):
        draw = super().__new__(cls, index)
        draw.number = number
        return draw

    def __getnewargs__(self) -> tuple[int, int]:  # it goes to the loader's workers
        return int(self), self.number


class NumberedSampler(Sampler):
    """A sampler whose indices are of type Draw; it can begin in the middle of its stream, and draws from no generator
    that anything else draws from.

    Args:
        sampler: of the host or of a user; may draw from the global generators.
        seed: of what it draws, the same in all processes.
    """

    def __init__(self, sampler: Iterable[int], seed: int):
        self.sampler, self.seed = sampler, seed
        self.first = 0  # number of the first draw that is handed out; the run was resumed there

    def __iter__(self) -> Iterator[Draw]:
        generators, stream, number = OwnGenerators(self.seed), iter(self.sampler), 0
        while True:
            with generators:
                indices = list(islice(stream, AT_ONCE))
            if not indices:
                return
            for index in indices:
                if number >= self.first:
                    yield Draw(index, number)
                number += 1

    def __len__(self) -> int:
        return len(self.sampler)


class RepeatableDataset(WrappedDataset):
    """A training set that augments an image by generators which depend on seed, rank and number of the draw alone.

    A run augments in the same way with any number of workers, and goes on in the same way after a resume.

    Args:
        data_set: the host's or a user's.
        seed: not negative.
    """

    def __init__(self, data_set: Dataset, seed: int):
        super().__init__(data_set)
        self.key = seed, comm.get_rank()

    def __getitem__(self, index: int) -> dict:
        if not isinstance(index, Draw):
            return self.data_set[index]
        if get_worker_info() is not None:  # nothing else draws in a loader's worker: nothing to give back
            seed_generators(*self.key, index.number)
            return self.data_set[index]
        with OwnGenerators(*self.key, index.number):
            return self.data_set[index]
