"""What an occlusion block does and what a model responds to, in tensorboard, as training goes on."""

import logging
from contextlib import contextmanager

import torch
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of the host's logger: shown where the host's lines are

BATCH, RESPONSES = "occlusion/batch", "occlusion/responses"  # names in tensorboard
SHOWN, RESPONDED = 8, 3  # images of a batch


class OccludedImages(HookBase):
    """Every so many epochs puts the last batch, clean and occluded, and the responses to it into the event storage.

    The batch is the one that the last step of the epoch was trained on: nothing is drawn again. Weights, statistics,
    modes, gradients and generators stay what they are.

    Args:
        model: with an occlusion block ``occlusion`` for images.
        period: in epochs, at least 1.
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
        some = slice(0, None, max(len(inputs[0]) // SHOWN, 1))  # neighbours may be of one identity
        self.seen = [each.detach()[some][:SHOWN].clone() for each in (inputs[0], *output)]

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
            logger.warning("TENSORBOARD.IMAGES_PERIOD: no images of epoch %d: %r", self.trainer.epoch, error)

    def put(self, clean: Tensor, occluded: Tensor, visible: Tensor) -> None:
        """The two images of an epoch.

        Args:
            clean, occluded: normalised, (B, 3, H, W).
            visible: 1 on kept pixels, 0 on occluded ones, (B, 1, H, W).
        """
        from .activation_figure import responses_of
        from .figure_file import pixels_of  # matplotlib is for runs that want images
        from .pixel_images import PixelScale, grid_of

        storage, scale = self.trainer.storage, PixelScale(self.model.pixel_mean, self.model.pixel_std)
        clean, occluded = scale.pixels(clean), scale.pixels(occluded)
        storage.put_image(BATCH, grid_of(torch.cat([clean, occluded]), len(clean)))
        with in_evaluation(self.model):
            few = (each[:RESPONDED] for each in (clean, occluded, visible))
            figure = responses_of(self.model, *few, f"channel means of feature maps, epoch {self.trainer.epoch}")
        storage.put_image(RESPONSES, pixels_of(figure).transpose(2, 0, 1))


@contextmanager
def in_evaluation(model: nn.Module):
    """A context in which a model is in evaluation mode; then each module is in its own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def occluded_images(trainer) -> OccludedImages | None:
    """Returns the hook of a trainer's main process where TENSORBOARD.IMAGES_PERIOD asks for it."""
    period = trainer.cfg.get("TENSORBOARD", {}).get("IMAGES_PERIOD", 0)
    if not period or not comm.is_main_process():
        return None
    model = trainer.model.module if isinstance(trainer.model, DistributedDataParallel) else trainer.model
    block = getattr(model, "occlusion", None)
    if block is None or hasattr(block, "drop"):
        logger.warning("TENSORBOARD.IMAGES_PERIOD: nothing is shown, this model has no block that occludes images")
        return None
    return OccludedImages(model, period)
