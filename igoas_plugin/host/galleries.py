import logging
from contextvars import ContextVar
from dataclasses import dataclass, field

from fastreid.data import build_reid_test_loader
from fastreid.data.common import CommDataset
from fastreid.engine.defaults import DefaultTrainer
from fastreid.evaluation import ReidEvaluator
from fastreid.utils import comm
from torch import Tensor

from .evaluator import gathered
from .fix import fix

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


@classmethod
def build_evaluator(cls, cfg, dataset_name, output_dir=None):
    """The host's method; a loader of the queries alone where the gallery is the last one."""
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
        loader, _ = build_reid_test_loader(cfg, test_set=queries, num_query=num_query)
    return loader, GalleryEvaluator(images, last, cfg, num_query, output_dir)


@fix
def describe_shared_galleries_once() -> None:
    """Test sets that share their gallery describe it again each: six times Market-1501's for OccludedMarket1501.

    Now the last gallery of an evaluation is kept until it ends, and a test set that follows with the same images only
    describes its queries. With several processes all is as it was.
    """
    test = DefaultTrainer.test.__func__

    def test_with_galleries(cls, cfg, model):
        token = LAST.set(Gallery() if len(cfg.DATASETS.TESTS) > 1 else None)
        try:
            return test(cls, cfg, model)
        finally:
            LAST.reset(token)

    DefaultTrainer.build_evaluator = build_evaluator
    DefaultTrainer.test = classmethod(test_with_galleries)
