"""How much a run has to do, and how long that takes."""

from typing import NamedTuple

from igoas_plugin.datasets.reading import open_data
from igoas_plugin.preflight import check_test_data, check_training_data


class Workload(NamedTuple):
    """Of one run.

    Args:
        epochs: of training.
        iterations: of one epoch.
        evaluations: how often all test sets are evaluated.
        test_batches: batches of one such evaluation.
        images: of every split, and the identities that are trained on.
    """

    epochs: int
    iterations: int
    evaluations: int
    test_batches: int
    images: dict[str, int]

    def seconds(self, step: float, test_batch: float) -> float:
        """Time of the run from the seconds of a training step and of a test batch."""
        return self.epochs * self.iterations * step + self.evaluations * self.test_batches * test_batch


def workload_of(cfg) -> Workload:
    """Counts the images of a config's data sets.

    Raises:
        InputError: one of them is missing or cannot be used.
    """
    identities, images = check_training_data(cfg)
    batches, last, counts = 0, None, {"training identities": identities, "training images": images}
    for name in cfg.DATASETS.TESTS:
        check_test_data(name)
        data = open_data(name)
        counts |= {f"{name} queries": len(data.query), f"{name} gallery": len(data.gallery)}
        described = len(data.query) + (0 if data.gallery == last else len(data.gallery))  # see gallery_cache.py
        batches, last = batches - -described // cfg.TEST.IMS_PER_BATCH, data.gallery
    epochs, period = cfg.SOLVER.MAX_EPOCH, cfg.TEST.EVAL_PERIOD
    evaluations = sum(1 for done in range(1, epochs + 1) if done == epochs or (period > 0 and done % period == 0))
    return Workload(epochs, images // cfg.SOLVER.IMS_PER_BATCH, evaluations, batches, counts)
