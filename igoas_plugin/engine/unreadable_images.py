"""Training images that cannot be read: they stop the run, or are skipped and counted (DATALOADER.ON_ERROR)."""

import logging
import os
from collections.abc import Iterator

import torch
from fastreid.data.common import CommDataset
from fastreid.engine.train_loop import HookBase
from torch.utils.data import Dataset

from igoas_plugin.core.errors import PluginError, UnreadableImage
from igoas_plugin.fastreid_fixes.fix import fix
from igoas_plugin.fastreid_fixes.images import read_image

from .repeatable_data import WrappedDataset

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of fast-reid's logger, so that it has the same handlers


class SkippingDataset(WrappedDataset):
    """Training set that replaces an image that cannot be read by another one, and counts.

    The replacement is the next readable image of the same identity, or the next readable image of any identity. So
    batches keep their size, and with an identity sampler as far as possible their composition.

    Args:
        data_set: data set of fast-reid with the images.
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

    def report(self) -> None:
        """Logs the images that were skipped since the last call, and the number of all skipped images."""
        for index in (self.skipped & ~self.reported).nonzero().flatten().tolist():
            self.reported[index] = True
            path = self.img_items[index][0]
            try:
                read_image(path)
                reason = f"{os.path.abspath(path)} could not be read"
            except UnreadableImage as error:
                reason = str(error)
            logger.warning(
                "%s; another image is taken in its place (%d skipped by this process so far, of %d)",
                reason,
                self.reported.sum(),
                len(self),
            )

    def report_total(self) -> None:
        """Logs the number of all skipped images if there are any."""
        self.report()
        if self.skipped.any():
            logger.warning(
                "%d of %d training images could not be read by this process; others were taken in their place "
                "(DATALOADER.ON_ERROR skip)",
                *(self.skipped.sum(), len(self)),
            )


def find_skipping(data_set: Dataset) -> SkippingDataset | None:
    """Returns the SkippingDataset among a loader's data set and the one that it wraps, or None."""
    wrapped = data_set.data_set if isinstance(data_set, WrappedDataset) else None  # in a RepeatableDataset
    return next((each for each in (data_set, wrapped) if isinstance(each, SkippingDataset)), None)


class ReportSkippedImages(HookBase):
    """Hook that logs the number of skipped images at the end of a training."""

    def after_train(self) -> None:
        if data_set := find_skipping(self.trainer.data_loader.dataset):
            data_set.report_total()


def has_no_plugin_error(record: logging.LogRecord) -> bool:
    """Returns whether a log record is not about a PluginError."""
    return not (record.exc_info and isinstance(record.exc_info[1], PluginError))


@fix
def end_in_one_line_where_a_user_can_mend_it() -> None:
    """A file that cannot be read ends a training with a traceback of 40 lines, a worker's within the trainer's.

    The log leaves out the traceback of a PluginError, and the tool prints the error in one line.
    """
    logging.getLogger("fastreid.engine.train_loop").addFilter(has_no_plugin_error)
