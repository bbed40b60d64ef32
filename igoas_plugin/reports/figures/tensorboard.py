"""Images in tensorboard during a training: what an occlusion block does, and what a model responds to."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of fast-reid's logger, so it has the same handlers

BATCH, ACTIVATIONS = "occlusion/clean_above_occluded", "occlusion/activation_maps"  # names in tensorboard
BATCH_IMAGES, ACTIVATION_IMAGES = 8, 3  # images of a batch that are shown


class OccludedImages(HookBase):
    """Hook that logs the last batch of an epoch, clean and occluded, and the activation maps of some of its images.

    It keeps the batch that the last step was trained on, and draws no random number. Weights, statistics, modes and
    gradients of the model stay the same.

    Args:
        model: model with an occlusion block ``occlusion`` for images.
        period: number of epochs between two logs, at least 1.
    """

    def __init__(self, model: nn.Module, period: int):
        self.model, self.period = model, period
        self.listening, self.seen = None, None

    def before_step(self):
        trainer = self.trainer
        last_step = (trainer.iter + 1) % trainer.iters_per_epoch == 0
        if last_step and (trainer.epoch + 1) % self.period == 0:
            self.listening = self.model.occlusion.register_forward_hook(self.listen)

    def listen(self, block: nn.Module, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        some = slice(0, None, max(len(inputs[0]) // BATCH_IMAGES, 1))  # neighbours may have one identity
        self.seen = [each.detach()[some][:BATCH_IMAGES].clone() for each in (inputs[0], *output)]

    def after_step(self):
        if self.listening is not None:
            self.listening.remove()
            self.listening = None

    def after_epoch(self):
        if self.seen is None:
            return
        seen, self.seen = self.seen, None
        try:
            self.put(*seen)
        except Exception as error:  # a picture is no reason to end a training
            logger.warning("TENSORBOARD.IMAGES_PERIOD: no images of epoch %d: %r", self.trainer.epoch + 1, error)

    def put(self, clean: Tensor, occluded: Tensor, visible: Tensor) -> None:
        """Draws the two images of an epoch and puts them into the event storage.

        Args:
            clean, occluded: normalised images, (B, 3, H, W).
            visible: 1 on kept pixels, 0 on occluded ones, (B, 1, H, W).
        """
        from torchvision.utils import make_grid

        from .activation_figure import ImagePair, draw_activations
        from .figure_file import pixels_of  # imports matplotlib, which other runs do not need
        from .pixel_images import PixelScale

        storage, scale = self.trainer.storage, PixelScale(self.model.pixel_mean, self.model.pixel_std)
        clean, occluded = scale.pixels(clean), scale.pixels(occluded)
        batch = torch.cat([clean, occluded]).round().clamp(0, 255).to(torch.uint8).cpu()
        storage.put_image(BATCH, make_grid(batch, nrow=len(clean), pad_value=255))
        with in_evaluation(self.model):
            some = ImagePair(*(each[:ACTIVATION_IMAGES] for each in (clean, occluded, visible.float().cpu())))
            title = f"channel means of feature maps, epoch {self.trainer.epoch + 1}"
            storage.put_image(ACTIVATIONS, pixels_of(draw_activations(self.model, some, title)).transpose(2, 0, 1))


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """Sets a model to evaluation mode, and each of its modules back to its own mode at the end."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def occluded_images(trainer) -> OccludedImages | None:
    """Returns the hook for the main process if TENSORBOARD.IMAGES_PERIOD is set, else None."""
    period = trainer.cfg.get("TENSORBOARD", {}).get("IMAGES_PERIOD", 0)
    if not period or not comm.is_main_process():
        return None
    model = trainer.model.module if isinstance(trainer.model, DistributedDataParallel) else trainer.model
    block = getattr(model, "occlusion", None)
    if block is None or hasattr(block, "drop"):
        logger.warning("TENSORBOARD.IMAGES_PERIOD: nothing is shown, this model has no block that occludes images")
        return None
    return OccludedImages(model, period)
