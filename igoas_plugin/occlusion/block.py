"""Base and registry of occlusion blocks: seeds, probability, mask, log."""

import numpy as np
import torch
from fastreid.utils import comm
from fastreid.utils.registry import Registry
from torch import Tensor, nn

from igoas_plugin.core.errors import InputError, require_choice
from igoas_plugin.core.run_progress import RunProgress, current_storage, run_progress

from .schedule import build_schedule
from .truncation import Truncation

OCCLUSION_REGISTRY = Registry("OCCLUSION")
OCCLUSION_REGISTRY.__doc__ = """
Occlusion blocks: called with the config, they return an nn.Module that is called as

    occluded, visible = block(images)

with images normalised (B, 3, H, W), not modified; occluded of the same shape; visible (B, 1, H, W), 1 kept, 0 occluded.
OcclusionBlock is a base for them, which brings seed, probability and mask.
The host has no registry for augmentations of a batch, so this one is the plugin's, made with the host's class.
"""


def build_occlusion(cfg) -> nn.Module:
    """The block named by MODEL.OCCLUSION.NAME."""
    return OCCLUSION_REGISTRY.get(cfg.MODEL.OCCLUSION.NAME)(cfg)


class OcclusionBlock(nn.Module):
    """Base of the occlusion blocks; a subclass draws in ``occlude(rng, progress, images)``.

    What is drawn depends on seed, iteration and rank alone (no global generator): the same run draws the same
    occlusions, a resumed run goes on with them, and processes differ. Where no event storage is open the calls are
    counted instead of the iterations, and it is epoch 0.

    Args:
        prob: probability that a batch is occluded, in [0, 1].
        mask: "occluded" (0 where the image is occluded) or "ones" (what is hidden is not told: no suppression).
        seed: not negative.
        truncation: cuts a side off some of the images that are occluded.

    Raises:
        InputError: a value leaves its range.
    """

    def __init__(
        self, *, prob: float = 1.0, mask: str = "occluded", seed: int = 0, truncation: Truncation | None = None
    ):
        super().__init__()
        if not 0 <= prob <= 1:
            raise InputError(f"MODEL.OCCLUSION.PROB must stay in [0, 1], got {prob}")
        require_choice("MODEL.OCCLUSION.MASK", mask, ("occluded", "ones"))
        if seed < 0:
            raise InputError(f"the seed of an occlusion block must not be negative, got {seed}")
        self.prob, self.mask, self.seed, self.truncation = prob, mask, seed, truncation
        self.calls = 0

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Occludes a batch.

        Args:
            images: normalised, shape (B, 3, H, W); not modified.

        Returns:
            The occluded images, same shape, and what is visible of them, shape (B, 1, H, W): 1 kept, 0 occluded.
        """
        rng, progress = self.randomness()
        everything = images.new_ones(1, 1, *images.shape[2:]).expand(len(images), -1, -1, -1)
        if rng.random() >= self.prob:
            log(share=0.0)
            return images.clone(), everything
        occluded, visible, share = self.occlude(rng, progress, images)
        log(share=share)
        if self.truncation is not None:
            occluded, visible = self.truncation(rng, progress, occluded, visible)
        return occluded, visible if self.mask == "occluded" else everything

    def randomness(self) -> tuple[np.random.Generator, RunProgress]:
        """The generator of this call, and how far the run is."""
        progress = run_progress() or RunProgress(epoch=0, iteration=self.calls, iters_per_epoch=None)
        self.calls += 1
        return np.random.default_rng([self.seed, progress.iteration, comm.get_rank()]), progress

    def occlude(self, rng: np.random.Generator, progress: RunProgress, images: Tensor) -> tuple[Tensor, Tensor, float]:
        """New images, what is visible of them, and the share that is covered in fact, told without asking the device.

        Args:
            rng: the only source of randomness.
            progress: of the run.
            images: normalised, shape (B, 3, H, W); not modified.
        """
        raise NotImplementedError


def log(**values: float) -> None:
    """Puts numbers of the occlusion into the event storage, if one is open."""
    storage = current_storage()
    for name, value in values.items() if storage is not None else ():
        storage.put_scalar(f"occlusion/{name}", value, smoothing_hint=False)


def block_settings(cfg) -> dict:
    """The arguments that every OcclusionBlock takes, from a config."""
    # built without a trainer: torch's own seed is looked up, nothing is drawn from it
    seed = cfg.SEED if cfg.SEED >= 0 else torch.initial_seed()
    keys = cfg.MODEL.OCCLUSION
    truncation = Truncation(build_schedule(cfg), keys.TRUNCATION) if keys.TRUNCATION else None
    return {"prob": keys.PROB, "mask": keys.MASK, "seed": seed, "truncation": truncation}
