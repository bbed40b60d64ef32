"""What a model makes of a data set, by the host's loader and its loop, without a ranking."""

import torch
from fastreid import data as host_data
from fastreid import evaluation as host_evaluation
from fastreid.data.common import CommDataset
from fastreid.evaluation import ReidEvaluator
from torch import nn

from igoas_plugin.core.allocator import keep_on_cpu

from .evaluator import gathered


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
    keep_on_cpu(model)
    loader, images = host_data.build_reid_test_loader(cfg, test_set=data, num_query=len(data))
    evaluator = Descriptors(cfg, images)
    return host_evaluation.inference_on_dataset(model, loader, evaluator, flip_test=cfg.TEST.FLIP.ENABLED)
