"""Warning of an epoch whose suppression loss was 0 because no cell of the feature map saw an occlusion."""

import logging

import torch
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from torch import Tensor, nn

from .losses import RESIZES

logger = logging.getLogger("fastreid.igoas_plugin")
WHOLE = 0.999  # a cell that sees no occlusion: resizing rounds sums of weights that are 1


class UnseenOcclusions:
    """Record of the occlusions of an epoch, and of those that a cell of the feature map saw.

    The record stays on the device of the masks, so that no step waits for a GPU.

    Attributes:
        sizes: (height, width) of the last mask and of its feature map; None before the first step.
    """

    def __init__(self):
        self.sizes: tuple[tuple[int, int], tuple[int, int]] | None = None
        self.record: Tensor | None = None

    @torch.no_grad()
    def add(self, visible: Tensor, feature_map: Tensor, resize: str) -> None:
        """Adds a step.

        Args:
            visible: 1 on kept pixels, 0 on occluded ones, shape (B, 1, h, w).
            feature_map: shape (B, C, H, W).
            resize: as of suppression_loss().
        """
        visible = visible.float()
        self.sizes = tuple(visible.shape[2:]), tuple(feature_map.shape[2:])
        seen = RESIZES[resize](visible, self.sizes[1])
        step = torch.stack([visible.amin() < WHOLE, seen.amin() < WHOLE])
        self.record = step if self.record is None else self.record | step

    def read(self) -> bool:
        """Returns whether images were occluded since the last call and no cell saw it; waits for the GPU."""
        record, self.record = self.record, None
        occluded, seen = (False, False) if record is None else record.tolist()
        return occluded and not seen


class WarnOfUnseenOcclusions(HookBase):
    """Hook that logs one warning after the first epoch whose occlusions no cell of the feature map saw.

    Every process reads its own record, and the main process logs.

    Args:
        model: model of the trainer, in which an IGOAS may be wrapped.
    """

    def __init__(self, model: nn.Module):
        records = (getattr(module, "unseen_occlusions", None) for module in model.modules())
        self.records = [record for record in records if isinstance(record, UnseenOcclusions)]
        self.warned = False

    def after_epoch(self):
        for record in () if self.warned else self.records:
            if record.read() and comm.is_main_process():
                self.warned = True
                (height, width), (rows, columns) = record.sizes
                logger.warning(
                    f"The suppression loss was 0 in epoch {self.trainer.epoch + 1}: images were occluded, but no cell "
                    f"of the {rows}x{columns} feature map saw it, because MODEL.IGOAS.MASK_LOSS.RESIZE bilinear reads "
                    f"the {height}x{width} mask at one point for each cell; set it to area, as igoas_plus does"
                )
