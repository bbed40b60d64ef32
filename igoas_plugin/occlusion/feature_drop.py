"""BatchDropBlock: what is hidden is a part of the feature map."""

import numpy as np
from torch import Tensor

from igoas_plugin.run_progress import RunProgress

from .block import OcclusionBlock, block_settings, log
from .build import OCCLUSION_REGISTRY
from .rectangles import Band


@OCCLUSION_REGISTRY.register()
class BatchDropBlock(OcclusionBlock):
    """A block of zeros on the suppression branch's last feature map, one for the whole batch; the images stay clean.

    30 % of the height over the full width, before the pooling. IGOAS asks it for that by ``drop(feature_map)``.

    Source: Dai et al., *Batch DropBlock Network*, ICCV 2019; IGOAS (TIP 2021), table VII (BDB), and Batch_DropBlock of
    the released code, which has the block but no line that shows where the paper's row used it.
    """

    def __init__(self, cfg):
        super().__init__(**block_settings(cfg))
        self.rectangle = Band()

    def occlude(self, rng: np.random.Generator, progress: RunProgress, images: Tensor) -> tuple[Tensor, Tensor, float]:
        return images.clone(), images.new_ones(1, 1, *images.shape[2:]).expand(len(images), -1, -1, -1), 0.0

    def drop(self, feature_map: Tensor) -> tuple[Tensor, Tensor]:
        """Drops a block.

        Args:
            feature_map: shape (B, C, h, w); not modified.

        Returns:
            The map with zeros in the block, and what is visible of it, shape (B, 1, h, w).
        """
        rng, progress = self.randomness()
        visible = feature_map.new_ones(1, 1, *feature_map.shape[2:])
        if rng.random() < self.prob:
            box = self.rectangle(rng, progress, *feature_map.shape[2:])
            rows, columns = box.slices
            visible[..., rows, columns].zero_()
            log(share=box.height * box.width / visible.numel(), **box._asdict())
        everything = feature_map.new_ones(1, 1, *feature_map.shape[2:])
        told = visible if self.mask == "occluded" else everything
        return feature_map * visible, told.expand(len(feature_map), -1, -1, -1)
