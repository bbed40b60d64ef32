"""Descriptors of the images of a data set, by fast-reid's test loader and evaluation loop, without a ranking."""

import torch
from fastreid import data as fastreid_data
from fastreid import evaluation as fastreid_evaluation
from fastreid.data.common import CommDataset
from fastreid.evaluation import ReidEvaluator
from torch import nn

from igoas_plugin.core.allocator import keep_on_cpu

from .evaluator import gather


class Descriptors(ReidEvaluator):
    """Evaluator that returns the descriptors in place of metrics."""

    def evaluate(self) -> dict[str, torch.Tensor]:
        return gather(self._predictions, self.cfg.OUTPUT_DIR)


def describe(cfg, model: nn.Module, data: CommDataset) -> dict[str, torch.Tensor]:
    """Returns the descriptors of the images of a data set, in its order.

    Args:
        cfg: of the model; TEST.FLIP and TEST.IMS_PER_BATCH are read.
        model: in evaluation mode, as for_evaluation() returns it.
        data: images with the transforms of fast-reid's test loader.

    Returns:
        "feats" (N, D) in float32, "pids" and "camids" (N,), on the CPU.

    Raises:
        InputError: an image cannot be read.
    """
    keep_on_cpu(model)
    loader, images = fastreid_data.build_reid_test_loader(cfg, test_set=data, num_query=len(data))
    evaluator = Descriptors(cfg, images)
    return fastreid_evaluation.inference_on_dataset(model, loader, evaluator, flip_test=cfg.TEST.FLIP.ENABLED)
