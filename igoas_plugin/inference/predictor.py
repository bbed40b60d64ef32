"""Predictor: trained model as a function from pictures to descriptors."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.data.transforms import build_transforms
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from igoas_plugin.config import load_cfg
from igoas_plugin.core.errors import InputError
from igoas_plugin.fastreid_fixes.images import read_image
from igoas_plugin.modeling.fast_inference import for_evaluation

from .fingerprint import Fingerprint, fingerprint
from .trained import build_trained, check_trained

Picture = str | os.PathLike | np.ndarray
READERS = 4  # threads that decode pictures; Pillow releases the GIL while it decodes


class FeatureExtractor(ABC):
    """Function from pictures of persons to descriptors; a subclass runs the model.

    The dot product of two descriptors is their cosine similarity: the larger, the more alike the two persons look.

    Attributes:
        width: number D of values in a descriptor.
        size: (height, width) to which pictures are resized.
        batch: number of images that the model takes at once.
        fingerprint: identity of the model; descriptors of equal fingerprints can be compared.
        transform: transform of an evaluation, from an RGB image of Pillow to a tensor.
    """

    width: int
    size: tuple[int, int]
    batch: int
    fingerprint: Fingerprint
    transform: Callable[[Image.Image], Tensor]

    def __call__(self, pictures: Iterable[Picture]) -> np.ndarray:
        """Returns the descriptors of pictures, in their order.

        Args:
            pictures: paths, or RGB arrays of shape (H, W, 3) and dtype uint8; sizes and kinds may be mixed.

        Returns:
            Shape (N, D), float32, rows of length 1.

        Raises:
            InputError: a file cannot be read; an array is empty, or has another shape or dtype, with its position in
                the list; or `pictures` is a single picture.
        """
        if isinstance(pictures, str | os.PathLike) or (isinstance(pictures, np.ndarray) and pictures.ndim == 3):
            raise InputError("give the predictor a list of pictures: [picture] where it is one")
        pictures, rows = list(pictures), [np.empty((0, self.width), np.float32)]
        for position, picture in enumerate(pictures):  # before the model has worked for those in front of it
            require_picture(picture, f"pictures[{position}]")
        with ThreadPoolExecutor(READERS) as readers:
            for start in range(0, len(pictures), self.batch):
                images = readers.map(self.read, pictures[start : start + self.batch])
                rows.append(self.describe(torch.stack(list(images))))
        return np.concatenate(rows)

    def read(self, picture: Picture) -> Tensor:
        """Reads and resizes a picture: shape (3, height, width), RGB in [0, 255].

        Raises:
            InputError: as __call__().
        """
        return self.transform(opened(picture))

    def references(self) -> np.ndarray:
        """Returns the descriptors of reference_pictures(), shape (3, D), by which two models can be compared."""
        return self(reference_pictures())

    @abstractmethod
    def describe(self, images: Tensor) -> np.ndarray:
        """Returns the descriptors of a batch of images from read().

        Args:
            images: shape (B, 3, height, width), RGB in [0, 255].

        Returns:
            Shape (B, D), float32, rows of length 1.
        """


def reference_pictures() -> list[np.ndarray]:
    """Returns three pictures that are the same on every machine: a colour gradient, blocks, and fine waves."""
    rows, columns, colours = np.ogrid[:128, :64, :3]
    values = (
        rows + 2 * columns + 85 * colours,
        255 * ((rows // 16 + columns // 8 + colours) % 2),
        rows**2 + 3 * rows * columns + 7 * columns**2 + 31 * colours * rows,
    )
    return [(each % 256).astype(np.uint8) for each in values]


def opened(picture: Picture) -> Image.Image:
    """Opens a path or an array as an RGB image of Pillow; raises InputError if that is impossible."""
    require_picture(picture)
    return Image.fromarray(picture) if isinstance(picture, np.ndarray) else read_image(os.fspath(picture))


def require_picture(picture: Picture, name: str = "a picture") -> None:
    """Raises InputError, which begins with `name`, if a value is neither a path nor an RGB array with pixels."""
    if isinstance(picture, str | os.PathLike):
        return
    if not isinstance(picture, np.ndarray):
        raise InputError(f"{name} must be a path or an RGB array of NumPy, got {type(picture).__name__}")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(
            f"{name} must be an RGB array of shape (H, W, 3) and type uint8, got {picture.shape}, {picture.dtype}"
        )
    if not picture.size:
        raise InputError(f"{name} is empty: an array of shape {picture.shape}; leave it out")


class Predictor(FeatureExtractor):
    """Trained model as a function from pictures of persons to descriptors; see FeatureExtractor for its attributes.

    Pictures are read, resized and normalised as in an evaluation, with TEST.FLIP, TEST.FAST, TEST.IMS_PER_BATCH and
    MODEL.DEVICE of the config.

    Args:
        config: path of a YAML file, or a config from igoas_plugin.get_cfg() or load_cfg().
        weights: path of a checkpoint; None takes MODEL.WEIGHTS of the config.

    Raises:
        InputError: the config or the weights are missing, damaged, or do not fit each other.

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
        """Returns the descriptors of a batch of images from read(); see FeatureExtractor."""
        return descriptors_of(images.to(self.model.device), self.model, self.flip).cpu().numpy()


def descriptors_of(images: Tensor, model: nn.Module, flip: bool) -> Tensor:
    """Returns descriptors of length 1.

    Args:
        images: shape (B, 3, H, W), RGB in [0, 255].
        model: model in evaluation mode.
        flip: whether the descriptors of the mirrored images are added (TEST.FLIP).

    Returns:
        Shape (B, D), float32.
    """
    descriptors = model({"images": images}).float()
    if flip:
        descriptors = descriptors + model({"images": images.flip(3)}).float()
    return normalize(descriptors)
