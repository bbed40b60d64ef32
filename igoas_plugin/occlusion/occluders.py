import numpy as np
import torch
from fastreid.config import configurable
from fastreid.utils import comm
from torch import Tensor, nn

from igoas_plugin.errors import InputError, require_choice
from igoas_plugin.run_progress import RunProgress, current_storage, run_progress

from .build import OCCLUSION_REGISTRY
from .rectangles import Rectangle, draw_rectangle
from .schedule import PaperSchedule, ReleasedSchedule, build_schedule


@OCCLUSION_REGISTRY.register()
class IncrementalErasing(nn.Module):
    """The paper's IGO block: one rectangle for the whole batch, larger as training goes on, each channel one value.

    What is drawn depends on seed, iteration and rank alone (no global generator): the same run draws the same
    rectangles, a resumed run goes on with them, and processes differ. Where no event storage is open the calls are
    counted instead of the iterations, and it is epoch 0.

    Source: IGOAS (TIP 2021), section III-B; BatchIncErasing of the released code.

    Args:
        schedule: share of the image by progress of the run.
        aspect_min: smallest height / width of a rectangle that is narrower than the image, in (0, 1].
        fill: "normalised" (U(0, 1) on the normalised image) or "pixel" (U(0, 255), then normalised).
        prob: probability that a batch is occluded, in [0, 1].
        pixel_mean, pixel_std: of the normalisation, in [0, 255], for "pixel".
        seed: not negative.

    Raises:
        InputError: a value leaves its range.
    """

    @configurable
    def __init__(
        self,
        *,
        schedule: ReleasedSchedule | PaperSchedule,
        aspect_min: float = 0.5,
        fill: str = "normalised",
        prob: float = 1.0,
        pixel_mean: list[float] = (0.0, 0.0, 0.0),
        pixel_std: list[float] = (1.0, 1.0, 1.0),
        seed: int = 0,
    ):
        super().__init__()
        if not 0 < aspect_min <= 1:
            raise InputError(f"MODEL.OCCLUSION.ASPECT_MIN must stay in (0, 1], got {aspect_min}")
        if not 0 <= prob <= 1:
            raise InputError(f"MODEL.OCCLUSION.PROB must stay in [0, 1], got {prob}")
        require_choice("MODEL.OCCLUSION.FILL", fill, ("normalised", "pixel"))
        if seed < 0:
            raise InputError(f"the seed of an occlusion block must not be negative, got {seed}")
        self.schedule, self.aspect_min, self.fill, self.prob, self.seed = schedule, aspect_min, fill, prob, seed
        self.pixel_mean, self.pixel_std = np.asarray(pixel_mean), np.asarray(pixel_std)
        self.calls = 0

    @classmethod
    def from_config(cls, cfg) -> dict:
        keys = cfg.MODEL.OCCLUSION
        return {
            "schedule": build_schedule(cfg),
            "aspect_min": keys.ASPECT_MIN,
            "fill": keys.FILL,
            "prob": keys.PROB,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            # built without a trainer: torch's own seed is looked up, nothing is drawn from it
            "seed": cfg.SEED if cfg.SEED >= 0 else torch.initial_seed(),
        }

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Occludes a batch.

        Args:
            images: normalised, shape (B, 3, H, W); not modified.

        Returns:
            The occluded images, same shape, and what is visible of them, shape (B, 1, H, W): 1 kept, 0 occluded.
        """
        progress = run_progress() or RunProgress(epoch=0, iteration=self.calls, iters_per_epoch=None)
        self.calls += 1
        rng = np.random.default_rng([self.seed, progress.iteration, comm.get_rank()])
        visible = images.new_ones(1, 1, *images.shape[2:])
        if rng.random() >= self.prob:
            self.log(Rectangle(0, 0, 0, 0), images)
            return images.clone(), visible.expand(len(images), -1, -1, -1)

        box = draw_rectangle(rng, *images.shape[2:], self.schedule(progress), self.aspect_min)
        rows, columns = box.slices
        visible[..., rows, columns] = 0
        occluded = images.clone()
        occluded[..., rows, columns] = images.new_tensor(self.draw_fill(rng)).view(3, 1, 1)
        self.log(box, images)
        return occluded, visible.expand(len(images), -1, -1, -1)

    def draw_fill(self, rng: np.random.Generator) -> np.ndarray:
        """One value a channel, on the scale of the normalised image."""
        drawn = rng.uniform(size=3)
        return drawn if self.fill == "normalised" else (255 * drawn - self.pixel_mean) / self.pixel_std

    def log(self, box: Rectangle, images: Tensor) -> None:
        """Puts the rectangle, and the share of the image that it covers in fact, into the event storage."""
        storage = current_storage()
        if storage is not None:
            share = box.height * box.width / (images.shape[2] * images.shape[3])
            for name, value in {"share": share, **box._asdict()}.items():
                storage.put_scalar(f"occlusion/{name}", value, smoothing_hint=False)
