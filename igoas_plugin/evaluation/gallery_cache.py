"""Cache of the gallery's descriptors, for test sets that share one gallery."""

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from fastreid import data as fastreid_data
from fastreid.data.common import CommDataset
from fastreid.engine.defaults import DefaultTrainer
from fastreid.evaluation import ReidEvaluator
from fastreid.utils import comm
from torch import Tensor

from .evaluator import gather

logger = logging.getLogger(f"fastreid.{__name__}")


@dataclass
class CachedGallery:
    """Gallery of the last test set: its images, and their predictions as fast-reid's evaluator keeps them."""

    images: tuple = ()
    predictions: dict[str, Tensor] = field(default_factory=dict)


ORIGINAL_TEST_LOADER = DefaultTrainer.build_test_loader.__func__
CACHE: ContextVar[CachedGallery | None] = ContextVar("gallery cache", default=None)  # None: nothing is cached


class GalleryEvaluator(ReidEvaluator):
    """Evaluator that takes the gallery's descriptors from the cache, or puts them there.

    Args:
        images: those of the gallery.
        cache: of the running evaluation.
        args: of ReidEvaluator.
    """

    def __init__(self, images: tuple, cache: CachedGallery, *args):
        super().__init__(*args)
        self.images, self.cache = images, cache

    def evaluate(self) -> dict:
        if self.images == self.cache.images:
            self._predictions.append(self.cache.predictions)
        else:
            predictions = gather(self._predictions, self.cfg.OUTPUT_DIR)
            self._predictions = [predictions]
            self.cache.predictions = {name: values[self._num_query :] for name, values in predictions.items()}
            self.cache.images = self.images
        return super().evaluate()


def build_evaluator(cls, cfg, dataset_name, output_dir=None):
    """Builds loader and evaluator as DefaultTrainer.build_evaluator; without the gallery if it is in the cache."""
    loader, num_query = cls.build_test_loader(cfg, dataset_name)
    data, cache = getattr(loader, "dataset", None), CACHE.get()
    # a trainer's own loader may transform the images of each test set in another way
    own_loader = cls.build_test_loader.__func__ is not ORIGINAL_TEST_LOADER
    # of several processes, none has the whole gallery
    if cache is None or own_loader or type(data) is not CommDataset or comm.get_world_size() > 1:
        return loader, ReidEvaluator(cfg, num_query, output_dir)
    images = tuple(data.img_items[num_query:])
    if images == cache.images:
        logger.info("%s has the gallery of the test set before it, whose descriptors are used again", dataset_name)
        queries = CommDataset(data.img_items[:num_query], data.transform, relabel=False)
        loader, _ = fastreid_data.build_reid_test_loader(cfg, test_set=queries, num_query=num_query)
    return loader, GalleryEvaluator(images, cache, cfg, num_query, output_dir)


@contextlib.contextmanager
def shared_galleries(cfg) -> Iterator[None]:
    """Opens a context in which consecutive test sets with one gallery compute its descriptors once.

    Without it, OccludedMarket1501 would compute those of Market-1501's gallery six times. One gallery is kept until the
    context ends. With several processes nothing is cached.
    """
    token = CACHE.set(CachedGallery() if len(cfg.DATASETS.TESTS) > 1 else None)
    try:
        yield
    finally:
        CACHE.reset(token)
