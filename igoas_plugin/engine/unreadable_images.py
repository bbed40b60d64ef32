"""Training images that cannot be read: they stop the run, or are skipped and counted (DATALOADER.ON_ERROR)."""

import logging
import os
from collections.abc import Iterator

import torch
from fastreid.data.common import CommDataset

from igoas_plugin.core.errors import UnreadableImage

from .repeatable_data import WrappedDataset

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of fast-reid's logger, so that it has the same handlers


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
