"""Predictor: trained model as a function from pictures to descriptors."""

import itertools
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.data.transforms import build_transforms
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from igoas_plugin.config import load_cfg
from igoas_plugin.core.errors import InputError, UnreadableImage
from igoas_plugin.fastreid_fixes.images import read_image, reason, upright_rgb
from igoas_plugin.modeling.fast_inference import for_evaluation

from .fingerprint import Fingerprint, fingerprint
from .trained import build_trained, check_trained, config_of_run, weights_in

logger = logging.getLogger("fastreid.igoas_plugin")

Picture = str | os.PathLike | np.ndarray | Image.Image
PICTURES = "a path, an RGB array of NumPy or an image of Pillow"
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

    def __call__(self, pictures: Picture | Iterable[Picture]) -> np.ndarray:
        """Returns the descriptors of pictures, in their order.

        Args:
            pictures: one picture, a list or tuple of pictures, an array (N, H, W, 3), or any iterator of pictures. A
                picture is a path, an RGB array of shape (H, W, 3) and dtype uint8, or an image of Pillow of any mode,
                which is read as its file would be. Sizes and kinds may be mixed. An iterator is consumed in batches, so
                that only one batch of pictures is in memory.

        Returns:
            Shape (N, D), float32, rows of length 1; N is 1 for one picture.

        Raises:
            InputError: a file cannot be read; an array is empty, or has another shape or dtype, with its position; or
                `pictures` is of another type, such as a tensor or a folder. Of a list, the types and shapes of all
                pictures are checked before the model works.
        """
        rows = [self.describe(batch) for batch in self.batches(as_pictures(pictures))]
        return np.concatenate([np.empty((0, self.width), np.float32), *rows])

    def batches(self, pictures: Iterable[Picture]) -> Iterator[Tensor]:
        """Yields the images of `batch` pictures at a time, (B, 3, height, width); raises InputError as __call__()."""
        numbered = enumerate(pictures)
        with ThreadPoolExecutor(READERS) as readers:
            while batch := list(itertools.islice(numbered, self.batch)):
                for position, picture in batch:
                    require_picture(picture, f"pictures[{position}]")
                yield torch.stack(list(readers.map(lambda each: self.read(each[1]), batch)))

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


def as_pictures(given: Picture | Iterable[Picture]) -> Iterable[Picture]:
    """Returns the pictures of a call; those of an iterator are not checked yet.

    Raises:
        InputError: `given` is neither a picture nor an iterable with an order, or a sequence holds no picture at a
            position.
    """
    if is_one_picture(given):
        return [given]
    if isinstance(given, Tensor | Mapping | Set | bytes | bytearray) or not isinstance(given, Iterable):
        raise InputError(f"the predictor takes {PICTURES}, or a list or an iterator of them, got {kind_of(given)}")
    if isinstance(given, np.ndarray) and given.ndim not in (1, 4):  # one dimension: paths
        require_picture(given, "an array")
    if isinstance(given, Sequence | np.ndarray):
        for position, picture in enumerate(given):
            require_picture(picture, f"pictures[{position}]")
    return given


def is_one_picture(value) -> bool:
    """Returns whether a value is one picture by its type, and an array by its three dimensions."""
    return isinstance(value, str | os.PathLike | Image.Image) or (isinstance(value, np.ndarray) and value.ndim == 3)


def kind_of(value) -> str:
    """Returns the type of a value that is no picture, with a hint for tensors."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return "Tensor: for an RGB tensor (3, H, W) in [0, 255] give tensor.permute(1, 2, 0).byte().cpu().numpy()"


def opened(picture: Picture) -> Image.Image:
    """Opens a picture as an RGB image of Pillow; raises InputError if that is impossible."""
    require_picture(picture)
    if isinstance(picture, np.ndarray):
        return Image.fromarray(picture)
    if not isinstance(picture, Image.Image):
        if os.path.isdir(picture):  # the rows of its images would have no names
            raise InputError(
                f"{os.path.abspath(picture)} is a folder: give the paths of its images, such as "
                "sorted(pathlib.Path(folder).glob('*.jpg'))"
            )
        return read_image(os.fspath(picture))
    try:
        return upright_rgb(picture)
    except Exception as error:  # Pillow reads the pixels of an opened file here
        name = getattr(picture, "filename", "") or "an image of Pillow"
        raise UnreadableImage(f"{name} cannot be read: {reason(error, empty=False)}") from error


def require_picture(picture: Picture, name: str = "a picture") -> None:
    """Raises InputError, which begins with `name`, if a value is no path, RGB array or image of Pillow with pixels."""
    if isinstance(picture, str | os.PathLike):
        return
    if isinstance(picture, Image.Image):
        if 0 in picture.size:
            raise InputError(f"{name} is empty: an image of Pillow of width and height {picture.size}; leave it out")
        return
    if not isinstance(picture, np.ndarray):
        raise InputError(f"{name} must be {PICTURES}, got {kind_of(picture)}")
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
        config: path of a YAML file, a config from igoas_plugin.get_cfg() or load_cfg(), or the folder of a run of
            tools/train_net.py, of which config.yaml is read.
        weights: path of a checkpoint; None takes MODEL.WEIGHTS of the config. None for the folder of a run takes its
            model_final.pth, or its model_best.pth, as tools/report.py does; the log names the file.

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
        if not isinstance(config, CfgNode) and not os.path.exists(config):
            raise InputError(f"{os.fspath(config)} does not exist: give the folder of a run, or a config in YAML")
        if not isinstance(config, CfgNode) and os.path.isdir(config):
            cfg = config_of_run(os.fspath(config))
            if weights is None:
                weights, description = weights_in(os.fspath(config), cfg.MODEL.WEIGHTS)
                logger.info(f"The predictor takes {weights}: {description}")
        else:
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
