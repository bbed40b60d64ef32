"""Gallery that several test sets share: described once."""

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from fastreid import data as host_data
from fastreid.data.common import CommDataset
from fastreid.engine.defaults import DefaultTrainer
from fastreid.evaluation import ReidEvaluator
from fastreid.utils import comm
from torch import Tensor

from .evaluator import gathered

logger = logging.getLogger(f"fastreid.{__name__}")


@dataclass
class Gallery:
    """The last gallery of an evaluation: its images, and what the model made of them, by the names of the evaluator."""

    images: tuple = ()
    described: dict[str, Tensor] = field(default_factory=dict)


TEST_LOADER = DefaultTrainer.build_test_loader.__func__
LAST: ContextVar[Gallery | None] = ContextVar("last gallery", default=None)  # None: no evaluation is going on


class GalleryEvaluator(ReidEvaluator):
    """The host's evaluator, which leaves what it knows of its gallery to the next one, or takes it from the last one.

    Args:
        images: those of the gallery.
        last: gallery of the evaluation that is going on.
        args: of the host's evaluator.
    """

    def __init__(self, images: tuple, last: Gallery, *args):
        super().__init__(*args)
        self.images, self.last = images, last

    def evaluate(self) -> dict:
        if self.images == self.last.images:
            self._predictions.append(self.last.described)
        else:
            whole = gathered(self._predictions, self.cfg.OUTPUT_DIR)
            self._predictions = [whole]
            self.last.described = {name: values[self._num_query :] for name, values in whole.items()}
            self.last.images = self.images
        return super().evaluate()


def build_evaluator(cls, cfg, dataset_name, output_dir=None):
    """DefaultTrainer.build_evaluator; the loader has the queries alone where the gallery is the last one."""
    loader, num_query = cls.build_test_loader(cfg, dataset_name)
    data, last = getattr(loader, "dataset", None), LAST.get()
    own_loader = cls.build_test_loader.__func__ is not TEST_LOADER  # it may see each set's images in its own way
    # several processes share out the images
    if last is None or own_loader or type(data) is not CommDataset or comm.get_world_size() > 1:
        return loader, ReidEvaluator(cfg, num_query, output_dir)
    images = tuple(data.img_items[num_query:])
    if images == last.images:
        logger.info("The gallery of %s is that of the last test set: its descriptors are there", dataset_name)
        queries = CommDataset(data.img_items[:num_query], data.transform, relabel=False)
        loader, _ = host_data.build_reid_test_loader(cfg, test_set=queries, num_query=num_query)
    return loader, GalleryEvaluator(images, last, cfg, num_query, output_dir)


@contextlib.contextmanager
def shared_galleries(cfg) -> Iterator[None]:
    """A context in which test sets that follow each other with the same gallery describe it once.

    OccludedMarket1501 would describe Market-1501's gallery six times. The last gallery is kept until the context ends.
    With several processes every test set describes its own.
    """
    token = LAST.set(Gallery() if len(cfg.DATASETS.TESTS) > 1 else None)
    try:
        yield
    finally:
        LAST.reset(token)
