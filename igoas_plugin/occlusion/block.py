"""Registry and base class of the occlusion blocks: seeds, probability, mask, log."""

from collections.abc import Callable

import numpy as np
import torch
from fastreid.config import configurable
from fastreid.utils import comm
from fastreid.utils.registry import Registry
from torch import Tensor, nn

from igoas_plugin.core.errors import InputError, RunError, require_choice
from igoas_plugin.core.extensions import constructing
from igoas_plugin.core.run_progress import RunProgress, current_storage, run_progress

from .schedule import build_schedule
from .truncation import Truncation

OCCLUSION_REGISTRY = Registry("OCCLUSION")
OCCLUSION_REGISTRY.__doc__ = """
Registry of occlusion blocks. An entry is called with the config and returns an nn.Module that is called as

    occluded, visible = block(images)

images: normalised, (B, 3, H, W), not modified. occluded: the same shape. visible: (B, 1, H, W), 1 kept, 0 occluded.
OcclusionBlock is a base class with seed, probability and mask. fast-reid has no registry for augmentations of a batch,
so the plugin makes one with fast-reid's class.
"""


def build_occlusion(cfg) -> nn.Module:
    """Builds the block MODEL.OCCLUSION.NAME.

    Raises:
        InputError: the block cannot be called with the config, or refuses a value of it.
    """
    registered = OCCLUSION_REGISTRY.get(cfg.MODEL.OCCLUSION.NAME)
    with constructing("MODEL.OCCLUSION.NAME", registered, "cfg"):
        return registered(cfg)


def occlude(block: Callable[[Tensor], tuple[Tensor, Tensor]], images: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the occluded images and their mask from a block, which may be one of a user.

    Args:
        block: called as ``occluded, visible = block(images)``.
        images: normalised, shape (B, 3, H, W).

    Raises:
        RunError: the block does not return two tensors of the right shapes, or images of another dtype or device.
    """
    result = block(images)
    shapes = tuple(images.shape), (len(images), 1, *images.shape[2:])
    right = isinstance(result, tuple | list) and [tuple(getattr(each, "shape", ())) for each in result] == [*shapes]
    if right and result[0].dtype == images.dtype and {each.device for each in result} == {images.device}:
        return tuple(result)
    raise RunError(
        f"the occlusion block {getattr(block, '__name__', type(block).__name__)} must return (occluded, visible): "
        f"{described(images)}, and a mask {shapes[1]}, got {described(result)}"
    )


def described(result) -> str:
    """Returns what a block has returned in a few words: dtype, shape and device of tensors."""
    if isinstance(result, tuple | list):
        return f"({', '.join(map(described, result))})"
    if not isinstance(result, Tensor):
        return type(result).__name__
    return f"{str(result.dtype).removeprefix('torch.')} {tuple(result.shape)} on {result.device}"


class Draws:
    """Random generators that seed, iteration and rank alone decide; without an event storage calls are counted.

    Args:
        seed: not negative.
        stream: a number for all but the occlusion block, so that it draws other numbers from the same seed.
    """

    def __init__(self, seed: int, *stream: int):
        self.seed, self.stream, self.calls = seed, stream, 0

    def __call__(self) -> tuple[np.random.Generator, RunProgress]:
        """Returns the random generator of this call and the progress of the run."""
        progress = run_progress() or RunProgress(epoch=0, iteration=self.calls, iters_per_epoch=None)
        self.calls += 1
        return np.random.default_rng([self.seed, progress.iteration, comm.get_rank(), *self.stream]), progress


def seed_of(cfg) -> int:
    """Returns SEED, or torch's own seed where it is -1, as without a trainer; nothing is drawn from it."""
    return cfg.SEED if cfg.SEED >= 0 else torch.initial_seed()


class OcclusionBlock(nn.Module):
    """Base class of occlusion blocks; a subclass draws in ``occlude(rng, progress, images)``.

    Seed, iteration and rank alone decide what is drawn, without a global generator. The same run draws the same
    occlusions, a resumed run continues them, and two ranks draw different ones. Without an event storage the block
    counts its calls instead of iterations, and the epoch is 0.

    Args:
        prob: probability that a batch is occluded, in [0, 1].
        mask: "occluded" (0 inside the occlusion) or "ones" (1 everywhere, so that nothing is suppressed).
        seed: not negative.
        truncation: cuts a side off some of the occluded images.

    Raises:
        InputError: a value is outside its range.
    """

    @configurable
    def __init__(
        self, *, prob: float = 1.0, mask: str = "occluded", seed: int = 0, truncation: Truncation | None = None
    ):
        super().__init__()
        if not 0 <= prob <= 1:
            raise InputError(f"MODEL.OCCLUSION.PROB must be in [0, 1], got {prob}")
        require_choice("MODEL.OCCLUSION.MASK", mask, ("occluded", "ones"))
        if seed < 0:
            raise InputError(f"the seed of an occlusion block must not be negative, got {seed}")
        self.prob, self.mask, self.truncation = prob, mask, truncation
        self.draws = Draws(seed)

    @classmethod
    def from_config(cls, cfg) -> dict:
        keys = cfg.MODEL.OCCLUSION
        truncation = Truncation(build_schedule(cfg), keys.TRUNCATION) if keys.TRUNCATION else None
        return {"prob": keys.PROB, "mask": keys.MASK, "seed": seed_of(cfg), "truncation": truncation}

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Occludes a batch.

        Args:
            images: normalised, shape (B, 3, H, W); not modified.

        Returns:
            The occluded images, same shape, and their mask, shape (B, 1, H, W): 1 kept, 0 occluded.
        """
        rng, progress = self.draws()
        if rng.random() >= self.prob:
            log(share=0.0)
            return images.clone(), all_visible(images)
        occluded, visible, share = self.occlude(rng, progress, images)
        log(share=share)
        if self.truncation is not None:
            occluded, visible = self.truncation(rng, progress, occluded, visible)
        return occluded, visible if self.mask == "occluded" else all_visible(images)

    def occlude(self, rng: np.random.Generator, progress: RunProgress, images: Tensor) -> tuple[Tensor, Tensor, float]:
        """Returns occluded images, their mask, and the occluded share of the batch as a Python float.

        The share is computed without reading a tensor of the GPU, which would synchronise.

        Args:
            rng: the only source of randomness.
            progress: of the run.
            images: normalised, shape (B, 3, H, W); not modified.
        """
        raise NotImplementedError


def all_visible(images: Tensor) -> Tensor:
    """Returns the mask of a batch, or of its feature maps, without an occlusion: ones, (B, C, H, W) -> (B, 1, H, W)."""
    return images.new_ones(1, 1, *images.shape[2:]).expand(len(images), -1, -1, -1)


def log(**values: float) -> None:
    """Writes numbers of the occlusion to the event storage, if one is open."""
    if (storage := current_storage()) is not None:
        for name, value in values.items():
            storage.put_scalar(f"occlusion/{name}", value, smoothing_hint=False)
