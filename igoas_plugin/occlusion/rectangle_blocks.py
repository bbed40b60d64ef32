"""The registered occlusion blocks that place rectangles: each is a way to draw a rectangle and a fill."""

from collections.abc import Callable

import numpy as np
from fastreid.config import configurable
from torch import Tensor, nn

from igoas_plugin.core.run_progress import RunProgress

from .block import OCCLUSION_REGISTRY, Draws, OcclusionBlock, all_visible, log
from .fills import ERASING_MEAN, Constant, OtherImages, RandomColour
from .rectangles import RandomRectangle, Rectangle, ScheduledRectangle, band
from .schedule import build_schedule

DROP = Constant(0, 0, 0)


class RectangleOcclusion(OcclusionBlock):
    """Occlusion block that fills rectangles.

    Args:
        rectangle: draws a rectangle, ``rectangle(rng, progress, height, width)``.
        fill: gives its pixels, ``fill(rng, images, part, rows, columns)``.
        per_image: whether each image gets its own rectangle; otherwise one rectangle serves the whole batch.
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
    """IGO block of the paper: a rectangle that is larger as training goes on, with one value a channel.

    The whole batch has the same one, or with MODEL.OCCLUSION.PER_IMAGE, which is not in the paper, each image its own.

    Source: IGOAS (TIP 2021), section III-B; BatchIncErasing of the released code.
    """

    @classmethod
    def from_config(cls, cfg) -> dict:
        keys = cfg.MODEL.OCCLUSION
        fill = RandomColour(keys.FILL, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
        return {
            "rectangle": scheduled(cfg),
            "fill": fill,
            "per_image": keys.PER_IMAGE,
            **super().from_config(cfg),
        }


@OCCLUSION_REGISTRY.register()
class IncrementalDrop(RectangleOcclusion):
    """IncrementalErasing that fills zeros into the normalised images (table VII: batch incremental drop).

    Source: IGOAS (TIP 2021), table VII; BatchDrop of the released code.
    """

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {
            "rectangle": scheduled(cfg),
            "fill": DROP,
            "per_image": cfg.MODEL.OCCLUSION.PER_IMAGE,
            **super().from_config(cfg),
        }


@OCCLUSION_REGISTRY.register()
class PatchOcclusion(RectangleOcclusion):
    """Block that gives each image its own rectangle, as large as IncrementalErasing's, filled from another image.

    The fill shows people and background, as real occlusions do, and not one colour. The released code of IGOAS has an
    unused block of this kind (BatchPatch), with one rectangle for the batch, in which an image can take from itself.
    """

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {"rectangle": scheduled(cfg), "fill": OtherImages(), "per_image": True, **super().from_config(cfg)}


@OCCLUSION_REGISTRY.register()
class BatchRandomErasing(RectangleOcclusion):
    """Random erasing with one rectangle for the whole batch, 25 to 50 % of the image, height / width 1/4 to 4.

    Source: IGOAS (TIP 2021), tables VII and VIII (BRE); the class of this name in the released code.
    """

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {
            "rectangle": RandomRectangle(aspect_min=0.25),
            "fill": Constant(*ERASING_MEAN),
            **super().from_config(cfg),
        }


@OCCLUSION_REGISTRY.register()
class SlowDropBlock(RectangleOcclusion):
    """Band of zeros over the full width and 30 % of the height of the images, one for the whole batch.

    Source: IGOAS (TIP 2021), table VII (SDB); the class of this name in the released code.
    """

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {"rectangle": band, "fill": DROP, **super().from_config(cfg)}


@OCCLUSION_REGISTRY.register()
class RandomErasing(RectangleOcclusion):
    """Random erasing with a rectangle for each image, 25 to 50 % of the image, height / width 1/2 to 2.

    Source: IGOAS (TIP 2021), table VII (per-image random erasing); the class of this name in the released code, which
    returns a mask of ones (MODEL.OCCLUSION.MASK ones).
    """

    @classmethod
    def from_config(cls, cfg) -> dict:
        fill = Constant(*ERASING_MEAN)
        return {"rectangle": RandomRectangle(), "fill": fill, "per_image": True, **super().from_config(cfg)}


@OCCLUSION_REGISTRY.register()
class RandomDrop(RectangleOcclusion):
    """RandomErasing that fills zeros into the normalised images.

    Source: IGOAS (TIP 2021), table VII (per-image random dropping); the class of this name in the released code.
    """

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {"rectangle": RandomRectangle(), "fill": DROP, "per_image": True, **super().from_config(cfg)}


@OCCLUSION_REGISTRY.register()
class NoOcclusion(OcclusionBlock):
    """Block that occludes nothing (table VII, row without occlusion)."""

    def occlude(self, rng: np.random.Generator, progress: RunProgress, images: Tensor) -> tuple[Tensor, Tensor, float]:
        return images.clone(), all_visible(images), 0.0


@OCCLUSION_REGISTRY.register()
class BatchDropBlock(NoOcclusion):
    """Band of zeros on the last feature map of the suppression branch, one for the whole batch; images stay clean.

    The band covers 30 % of the height over the full width. IGOAS calls ``drop(feature_map)`` before the pooling.

    Source: Dai et al., *Batch DropBlock Network*, ICCV 2019; IGOAS (TIP 2021), table VII (BDB). The released code has
    the block (Batch_DropBlock) but no line that shows where the paper used it.
    """

    def drop(self, feature_map: Tensor) -> tuple[Tensor, Tensor]:
        """Drops a band.

        Args:
            feature_map: shape (B, C, h, w); not modified.

        Returns:
            The map with zeros in the band, and its mask, shape (B, 1, h, w).
        """
        rng, progress = self.draws()
        if rng.random() >= self.prob:
            return feature_map, all_visible(feature_map)
        dropped, visible, box = drop_band(rng, progress, feature_map)
        log(share=box.height / feature_map.shape[2], **box._asdict())
        return dropped, visible if self.mask == "occluded" else all_visible(feature_map)


class DropStripe(nn.Module):
    """Drops one band of 30 % of the height from the feature maps of the whole batch, as BatchDropBlock does, unlogged.

    Args:
        seed: not negative. An occlusion block of the same seed draws other numbers.
    """

    def __init__(self, seed: int):
        super().__init__()
        self.draws = Draws(seed, 1)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Returns feature maps with zeros in the band, (B, C, h, w) -> (B, C, h, w)."""
        return drop_band(*self.draws(), feature_map)[0]


def drop_band(rng: np.random.Generator, progress: RunProgress, feature_map: Tensor) -> tuple[Tensor, Tensor, Rectangle]:
    """Returns a feature map (B, C, h, w) with zeros in a band, its mask (B, 1, h, w), and the band."""
    box = band(rng, progress, *feature_map.shape[2:])
    rows, columns = box.slices
    visible = all_visible(feature_map).clone()
    visible[..., rows, columns].zero_()  # an assigned 0 would be copied from the CPU
    return feature_map * visible, visible, box


def scheduled(cfg) -> ScheduledRectangle:
    """Returns the rectangle that grows by MODEL.OCCLUSION.SCHEDULE."""
    return ScheduledRectangle(build_schedule(cfg), cfg.MODEL.OCCLUSION.ASPECT_MIN)
