"""What a model makes of a data set, by the host's loader and its loop, without a ranking."""

import torch
from fastreid.data import build_reid_test_loader
from fastreid.data.common import CommDataset
from fastreid.evaluation import ReidEvaluator, inference_on_dataset
from torch import nn

from .host.evaluator import gathered


class Descriptors(ReidEvaluator):
    """The host's evaluator up to where it would rank: it gives what the model made of each image."""

    def evaluate(self) -> dict[str, torch.Tensor]:
        return gathered(self._predictions, self.cfg.OUTPUT_DIR)


def describe(cfg, model: nn.Module, data: CommDataset) -> dict[str, torch.Tensor]:
    """Descriptors of the images of a data set, in its order.

    Args:
        cfg: of the model; TEST.FLIP and TEST.IMS_PER_BATCH hold.
        model: as for_evaluation() gives it.
        data: images as the host's test loader takes them.

    Returns:
        "feats" (N, D), float32, "pids" and "camids" (N,): on the CPU.

    Raises:
        InputError: an image cannot be read.
    """
    loader, images = build_reid_test_loader(cfg, test_set=data, num_query=len(data))
    return inference_on_dataset(model, loader, Descriptors(cfg, images), flip_test=cfg.TEST.FLIP.ENABLED)
