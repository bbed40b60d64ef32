"""Training data and steps whose random numbers depend on the seed and on the position in the run alone."""

from collections.abc import Iterable, Iterator
from itertools import islice

from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from torch.utils.data import Dataset, Sampler, get_worker_info

from igoas_plugin.core.randomness import OwnGenerators, seed_generators

CHUNK = 256  # indices that are drawn each time OwnGenerators is entered


class SeedSteps(HookBase):
    """Hook that seeds the global generators before each step with seed, rank and iteration.

    A checkpoint does not store the generators, so a resumed run would draw other numbers, for dropout for example.

    Args:
        seed: SEED of the run, not negative.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def before_step(self):
        seed_generators(self.seed, comm.get_rank(), self.trainer.iter)


class NumberedSampler(Sampler):
    """Sampler that yields (index, number of the draw in the run) and leaves the global generators alone.

    Args:
        sampler: sampler of fast-reid or of a user; it may use the global generators.
        seed: seed of the sampler, the same in all processes.

    Attributes:
        first: number of the first draw that is yielded; not 0 in a resumed run.
    """

    def __init__(self, sampler: Iterable[int], seed: int):
        self.sampler, self.seed = sampler, seed
        self.first = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generators, stream, number = OwnGenerators(self.seed), iter(self.sampler), 0
        while True:
            with generators:
                indices = list(islice(stream, CHUNK))
            if not indices:
                return
            for index in indices:
                if number >= self.first:
                    yield index, number
                number += 1

    def __len__(self) -> int:
        return len(self.sampler)


class WrappedDataset(Dataset):
    """Data set around one of fast-reid or of a user, which provides every other attribute."""

    def __init__(self, data_set: Dataset):
        self.data_set = data_set

    def __getattr__(self, name: str):
        if name in ("data_set", "__getitems__"):  # during unpickling; torch would read batches past __getitem__()
            raise AttributeError(name)
        return getattr(self.data_set, name)

    def __len__(self) -> int:
        return len(self.data_set)


class RepeatableDataset(WrappedDataset):
    """Training set whose augmentation of an image depends on seed, rank and number of the draw alone.

    The augmentation is the same with any number of workers, and after a resume.

    Args:
        data_set: data set that reads and augments an image.
        seed: seed, not negative.
    """

    def __init__(self, data_set: Dataset, seed: int):
        super().__init__(data_set)
        self.key = seed, comm.get_rank()

    def __getitem__(self, drawn: int | tuple[int, int]) -> dict:
        if not isinstance(drawn, tuple):
            return self.data_set[drawn]
        index, number = drawn
        if get_worker_info() is not None:  # nothing else in a loader's worker uses the generators
            seed_generators(*self.key, number)
            return self.data_set[index]
        with OwnGenerators(*self.key, number):
            return self.data_set[index]
