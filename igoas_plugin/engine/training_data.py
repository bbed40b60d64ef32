"""Training data of a run.

Its random numbers depend on the seed and on the position in the run alone. Images that cannot be read are skipped with
DATALOADER.ON_ERROR skip.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from fastreid.data.common import CommDataset
from fastreid.utils import comm
from torch.utils.data import Dataset, Sampler

from igoas_plugin.core.errors import UnreadableImage
from igoas_plugin.core.randomness import OwnGenerators

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of fast-reid's logger, so that it has the same handlers

CHUNK = 256  # indices that are drawn each time OwnGenerators is entered


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
        with OwnGenerators(*self.key, number):
            return self.data_set[index]


class SkippingDataset(WrappedDataset):
    """Training set that replaces an image that cannot be read by another one, and counts.

    The replacement is the next readable image of the same identity, or the next readable image of any identity. So
    batches keep their size, and with an identity sampler as far as possible their composition.
    """

    def __init__(self, data_set: CommDataset):
        super().__init__(data_set)
        self.skipped = torch.zeros(len(self), dtype=torch.bool).share_memory_()  # the loader's workers write to it
        self.reported = torch.zeros_like(self.skipped)

    def __getitem__(self, index: int) -> dict:
        error = None
        for candidate in self._candidates(index):
            try:
                return self.data_set[candidate]
            except UnreadableImage as unreadable:
                self.skipped[candidate] = True
                error = error or unreadable
        raise error

    def _candidates(self, index: int) -> Iterator[int]:
        yield index
        others = [*range(index + 1, len(self)), *range(index)]
        yield from sorted(others, key=lambda other: self.img_items[other][1] != self.img_items[index][1])

    def report_skipped(self) -> None:
        """Logs the images that were skipped since the last call, and the number of all skipped images."""
        for index in (self.skipped & ~self.reported).nonzero().flatten().tolist():
            self.reported[index] = True
            logger.warning(
                f"{os.path.abspath(self.img_items[index][0])} cannot be read; another image is taken in its place "
                f"({self.reported.sum()} skipped by this process so far, of {len(self)})"
            )
