"""Training images that cannot be read: named, or skipped and counted."""

import logging
import os

import torch
from fastreid.data.common import CommDataset
from fastreid.engine.train_loop import HookBase
from torch.utils.data import Dataset

from igoas_plugin.core.errors import PluginError, UnreadableImage
from igoas_plugin.fastreid_fixes.fix import fix
from igoas_plugin.fastreid_fixes.images import read_image

from .repeatable_data import WrappedDataset

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of the host's logger: shown where the host's lines are


class SkippingDataset(WrappedDataset):
    """A training set that puts another image in the place of one that cannot be read, and counts.

    The next one of its identity is taken, or where there is none the next one: batches keep their size, and with an
    identity sampler as far as can be their composition.

    Args:
        data_set: the host's, with the images.
    """

    def __init__(self, data_set: CommDataset):
        super().__init__(data_set)
        self.skipped = torch.zeros(len(self), dtype=torch.bool).share_memory_()  # the loader's workers write into it
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

    def _candidates(self, index: int):
        yield index
        others = [*range(index + 1, len(self)), *range(index)]
        yield from sorted(others, key=lambda other: self.img_items[other][1] != self.img_items[index][1])

    def report(self) -> None:
        """Logs the images that were skipped since the last call, and how many they are by now."""
        for index in (self.skipped & ~self.reported).nonzero().flatten().tolist():
            self.reported[index] = True
            path = self.img_items[index][0]
            try:
                read_image(path)
                why = f"{os.path.abspath(path)} could not be read"
            except UnreadableImage as error:
                why = str(error)
            logger.warning(
                "%s; another image is taken in its place (%d skipped by this process so far, of %d)",
                why,
                self.reported.sum(),
                len(self),
            )

    def report_total(self) -> None:
        """Logs how many images were skipped in all, where there were any."""
        self.report()
        if self.skipped.any():
            logger.warning(
                "%d of %d training images could not be read by this process; others were taken in their place "
                "(DATALOADER.ON_ERROR skip)",
                *(self.skipped.sum(), len(self)),
            )


def skipping(data_set: Dataset) -> SkippingDataset | None:
    """The SkippingDataset that a loader's data set is, or holds."""
    inner = data_set.data_set if isinstance(data_set, WrappedDataset) else None  # of a RepeatableDataset
    return next((each for each in (data_set, inner) if isinstance(each, SkippingDataset)), None)


class SkippedTotal(HookBase):
    """Tells at the end of a training how many images of a SkippingDataset were skipped."""

    def after_train(self) -> None:
        if data_set := skipping(self.trainer.data_loader.dataset):
            data_set.report_total()


def is_news(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], PluginError))


@fix
def end_in_one_line_where_a_user_can_mend_it() -> None:
    """A file that cannot be read ends a training with a traceback of 40 lines, of a worker within one of the trainer.

    The error goes on to the tool, which prints its one line.
    """
    logging.getLogger("fastreid.engine.train_loop").addFilter(is_news)
