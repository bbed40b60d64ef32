"""Training data whose order and augmentation depend on the seed and on the position in the run alone."""

from collections.abc import Iterable, Iterator
from itertools import islice

from fastreid.utils import comm
from torch.utils.data import Dataset, Sampler, get_worker_info

from igoas_plugin.core.randomness import OwnGenerators, seed_generators


class WrappedDataset(Dataset):
    """Data set around another one, which provides every other attribute.

    Args:
        data_set: data set of fast-reid or of a user.
    """

    def __init__(self, data_set: Dataset):
        self.data_set = data_set

    def __getattr__(self, name: str):
        if name == "data_set":  # during unpickling
            raise AttributeError(name)
        return getattr(self.data_set, name)

    def __len__(self) -> int:
        return len(self.data_set)


class Draw(int):
    """Index into a training set with the number of indices that this process has drawn before it in the run."""

    number: int

    def __new__(cls, index: int, number: int):
        draw = super().__new__(cls, index)
        draw.number = number
        return draw

    def __getnewargs__(self) -> tuple[int, int]:  # pickled for the loader's workers
        return int(self), self.number


CHUNK = 256  # indices that are drawn each time OwnGenerators is entered


class NumberedSampler(Sampler):
    """Sampler that yields each index as a Draw, can start in the middle of the run, and leaves global generators alone.

    Args:
        sampler: sampler of fast-reid or of a user; it may use the global generators.
        seed: seed of the sampler, the same in all processes.

    Attributes:
        first: number of the first draw that is yielded; not 0 in a resumed run.
    """

    def __init__(self, sampler: Iterable[int], seed: int):
        self.sampler, self.seed = sampler, seed
        self.first = 0

    def __iter__(self) -> Iterator[Draw]:
        generators, stream, number = OwnGenerators(self.seed), iter(self.sampler), 0
        while True:
            with generators:
                indices = list(islice(stream, CHUNK))
            if not indices:
                return
            for index in indices:
                if number >= self.first:
                    yield Draw(index, number)
                number += 1

    def __len__(self) -> int:
        return len(self.sampler)


class RepeatableDataset(WrappedDataset):
    """Training set whose augmentation of an image depends on seed, rank and number of the draw alone.

    The augmentation is the same with any number of workers, and after a resume.

    Args:
        data_set: data set of fast-reid or of a user.
        seed: seed, not negative.
    """

    def __init__(self, data_set: Dataset, seed: int):
        super().__init__(data_set)
        self.key = seed, comm.get_rank()

    def __getitem__(self, index: int) -> dict:
        if not isinstance(index, Draw):
            return self.data_set[index]
        if get_worker_info() is not None:  # nothing else in a loader's worker uses the generators
            seed_generators(*self.key, index.number)
            return self.data_set[index]
        with OwnGenerators(*self.key, index.number):
            return self.data_set[index]
