import os

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.data.transforms import build_transforms
from torch import Tensor, nn
from torch.nn.functional import normalize

from .config import load_cfg
from .describer import Describer
from .fingerprint import fingerprint
from .modeling.fast_inference import for_evaluation
from .trained import build_trained, check_trained


class Predictor(Describer):
    """A trained model as a function: pictures of persons in, descriptors out.

    The more alike two persons look to the model, the larger the dot product of their descriptors, which is the cosine.
    Pictures are read, resized and normalised as in an evaluation; TEST.FLIP, TEST.FAST, TEST.IMS_PER_BATCH and
    MODEL.DEVICE of the config hold.

    Args:
        config: path of a YAML file, or a config that igoas_plugin.get_cfg() or load_cfg() made.
        weights: checkpoint of a training; None: MODEL.WEIGHTS of the config.

    Attributes:
        width: D, values of a descriptor.
        size: (height, width) that pictures are resized to.
        fingerprint: which descriptors these can be compared with.

    Raises:
        InputError: the config or the weights are missing, damaged, or do not fit.

    Example:
        >>> import igoas_plugin, numpy, tempfile, torch
        >>> from fastreid.modeling import build_model
        >>> cfg = igoas_plugin.get_cfg()
        >>> cfg.merge_from_file("configs/Toy/igoas_R18.yml")
        >>> cfg.MODEL.DEVICE, cfg.MODEL.HEADS.NUM_CLASSES = "cpu", 64
        >>> with tempfile.NamedTemporaryFile(suffix=".pth") as file:  # in its place: the checkpoint of a training
        ...     torch.save({"model": build_model(cfg).state_dict()}, file.name)
        ...     predictor = igoas_plugin.Predictor("configs/Toy/igoas_R18.yml", file.name)
        >>> pictures = numpy.random.default_rng(0).integers(0, 256, (3, 128, 64, 3), dtype=numpy.uint8)
        >>> descriptors = predictor([pictures[0], pictures[1]])
        >>> descriptors.shape, descriptors.dtype
        ((2, 1024), dtype('float32'))
        >>> similarities = descriptors @ predictor(pictures).T
        >>> similarities.argmax(1)
        array([0, 1])
    """

    def __init__(self, config: str | os.PathLike | CfgNode, weights: str | os.PathLike | None = None):
        cfg = config.clone() if isinstance(config, CfgNode) else load_cfg(os.fspath(config))
        cfg.defrost()
        if weights is not None:
            cfg.MODEL.WEIGHTS = os.fspath(weights)
        check_trained(cfg)
        model = build_trained(cfg)
        self.fingerprint = fingerprint(cfg, model)
        self.flip, self.batch = cfg.TEST.FLIP.ENABLED, cfg.TEST.IMS_PER_BATCH
        self.model = for_evaluation(cfg, model).eval()
        self.transform = build_transforms(cfg, is_train=False)
        blank = self.read(np.zeros((1, 1, 3), np.uint8))
        self.size, self.width = tuple(blank.shape[1:]), self.describe(blank[None]).shape[1]

    @torch.no_grad()
    def describe(self, images: Tensor) -> np.ndarray:
        return descriptors_of(images.to(self.model.device), self.model, self.flip).cpu().numpy()


def descriptors_of(images: Tensor, model: nn.Module, flip: bool) -> Tensor:
    """Descriptors of length 1.

    Args:
        images: (B, 3, H, W), RGB in [0, 255].
        model: in evaluation mode.
        flip: whether those of the mirrored images are added, TEST.FLIP of the config.

    Returns:
        Shape (B, D), float32.
    """
    descriptors = model({"images": images}).float()
    if flip:
        descriptors = descriptors + model({"images": images.flip(3)}).float()
    return normalize(descriptors)
