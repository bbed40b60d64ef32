"""The registered occlusion blocks: where a rectangle lies, and what fills it."""

from collections.abc import Callable

import numpy as np
from fastreid.config import configurable
from torch import Tensor

from igoas_plugin.core.run_progress import RunProgress

from .block import OCCLUSION_REGISTRY, OcclusionBlock, block_settings, log
from .fills import ERASING_MEAN, Constant, OtherImages, RandomColour
from .rectangles import Band, RandomRectangle, Rectangle, ScheduledRectangle
from .schedule import build_schedule

DROP = Constant(0, 0, 0)


class RectangleOcclusion(OcclusionBlock):
    """An occlusion by rectangles.

    Args:
        rectangle: draws where it lies: ``rectangle(rng, progress, height, width)``.
        fill: what it holds: ``fill(rng, images, part, rows, columns)``.
        per_image: each image gets a rectangle of its own; else there is one for the whole batch.
        settings: of OcclusionBlock.
    """

    @configurable
    def __init__(
        self,
        *,
        rectangle: Callable[..., Rectangle],
        fill: Callable[..., Tensor],
        per_image: bool = False,
        **settings,
    ):
        super().__init__(**settings)
        self.rectangle, self.fill, self.per_image = rectangle, fill, per_image

    def occlude(self, rng: np.random.Generator, progress: RunProgress, images: Tensor) -> tuple[Tensor, Tensor, float]:
        count, _, height, width = images.shape
        occluded, visible = images.clone(), images.new_ones(count if self.per_image else 1, 1, height, width)
        parts = [slice(index, index + 1) for index in range(count)] if self.per_image else [slice(None)]
        covered = 0
        for part in parts:
            box = self.rectangle(rng, progress, height, width)
            rows, columns = box.slices
            occluded[part, :, rows, columns] = self.fill(rng, images, part, rows, columns)
            visible[part, :, rows, columns].zero_()
            covered += box.height * box.width
        if not self.per_image:
            log(**box._asdict())
        return occluded, visible.expand(count, -1, -1, -1), covered / (len(parts) * height * width)


@OCCLUSION_REGISTRY.register()
class IncrementalErasing(RectangleOcclusion):
    """The paper's IGO block: one rectangle for the whole batch, larger as training goes on, each channel one value.

    Source: IGOAS (TIP 2021), section III-B; BatchIncErasing of the released code.
    """

    @classmethod
    def from_config(cls, cfg) -> dict:
        fill = RandomColour(cfg.MODEL.OCCLUSION.FILL, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
        return {"rectangle": scheduled(cfg), "fill": fill, **block_settings(cfg)}


@OCCLUSION_REGISTRY.register()
class IncrementalDrop(RectangleOcclusion):
    """IncrementalErasing with zeros on the normalised images (table VII: batch incremental drop).

    Source: IGOAS (TIP 2021), table VII; BatchDrop of the released code.
    """

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {"rectangle": scheduled(cfg), "fill": DROP, **block_settings(cfg)}


@OCCLUSION_REGISTRY.register()
class PatchOcclusion(RectangleOcclusion):
    """Each image has a rectangle of its own, as large as IncrementalErasing's, filled from another image of the batch.

    The occlusion looks like what occludes people in photographs, people and background, and not like one colour. The
    released code of IGOAS has an unused block of this kind (BatchPatch): one rectangle for the batch, and an image may
    take from itself.
    """

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {"rectangle": scheduled(cfg), "fill": OtherImages(), "per_image": True, **block_settings(cfg)}


@OCCLUSION_REGISTRY.register()
class BatchRandomErasing(RectangleOcclusion):
    """Random erasing with one rectangle for the whole batch: 25 to 50 % of the image, height / width 1/4 to 4.

    Source: IGOAS (TIP 2021), tables VII and VIII (BRE); the class of this name in the released code.
    """

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {"rectangle": RandomRectangle(aspect_min=0.25), "fill": Constant(*ERASING_MEAN), **block_settings(cfg)}


@OCCLUSION_REGISTRY.register()
class SlowDropBlock(RectangleOcclusion):
    """A block of zeros on the image, 30 % of its height over the full width, one for the whole batch.

    Source: IGOAS (TIP 2021), table VII (SDB); the class of this name in the released code.
    """

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {"rectangle": Band(), "fill": DROP, **block_settings(cfg)}


@OCCLUSION_REGISTRY.register()
class RandomErasing(RectangleOcclusion):
    """Random erasing with a rectangle of each image's own: 25 to 50 % of the image, height / width 1/2 to 2.

    Source: IGOAS (TIP 2021), table VII (per-image random erasing); the class of this name in the released code, whose
    mask is all ones: MODEL.OCCLUSION.MASK.
    """

    @classmethod
    def from_config(cls, cfg) -> dict:
        fill = Constant(*ERASING_MEAN)
        return {"rectangle": RandomRectangle(), "fill": fill, "per_image": True, **block_settings(cfg)}


@OCCLUSION_REGISTRY.register()
class RandomDrop(RectangleOcclusion):
    """RandomErasing with zeros on the normalised images.

    Source: IGOAS (TIP 2021), table VII (per-image random dropping); the class of this name in the released code.
    """

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {"rectangle": RandomRectangle(), "fill": DROP, "per_image": True, **block_settings(cfg)}


@OCCLUSION_REGISTRY.register()
class NoOcclusion(OcclusionBlock):
    """Nothing is occluded: the row without occlusion of table VII."""

    def __init__(self, cfg):
        super().__init__(**block_settings(cfg))

    def occlude(self, rng: np.random.Generator, progress: RunProgress, images: Tensor) -> tuple[Tensor, Tensor, float]:
        return images.clone(), images.new_ones(1, 1, *images.shape[2:]).expand(len(images), -1, -1, -1), 0.0


def scheduled(cfg) -> ScheduledRectangle:
    """The rectangle that grows by MODEL.OCCLUSION.SCHEDULE."""
    return ScheduledRectangle(build_schedule(cfg), cfg.MODEL.OCCLUSION.ASPECT_MIN)


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
