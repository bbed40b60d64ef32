import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .errors import InputError
from .fingerprint import Fingerprint
from .host.images import read_image

Picture = str | os.PathLike | np.ndarray
READERS = 4  # threads that decode pictures: Pillow lets go of Python's lock while it does


class Describer(ABC):
    """Pictures of persons in, descriptors out; what runs the model is left to the subclass.

    The more alike two persons look to the model, the larger the dot product of their descriptors, which is the cosine.

    Attributes:
        width: D, values of a descriptor.
        size: (height, width) that pictures are resized to.
        batch: images that are described at once.
        fingerprint: which descriptors these can be compared with.
        transform: what an evaluation does to an RGB image of Pillow.
    """

    width: int
    size: tuple[int, int]
    batch: int
    fingerprint: Fingerprint
    transform: Callable[[Image.Image], Tensor]

    def __call__(self, pictures: Iterable[Picture]) -> np.ndarray:
        """Descriptors of pictures, in their order.

        Args:
            pictures: paths, or RGB arrays of shape (H, W, 3) and type uint8, of any size, mixed as you like.

        Returns:
            Shape (N, D), float32, rows of length 1.

        Raises:
            InputError: a file cannot be read, an array has another shape or type, or it is one picture and no list.
        """
        if isinstance(pictures, str | os.PathLike) or (isinstance(pictures, np.ndarray) and pictures.ndim == 3):
            raise InputError("give the predictor a list of pictures: [picture] where it is one")
        pictures, rows = list(pictures), [np.empty((0, self.width), np.float32)]
        with ThreadPoolExecutor(READERS) as readers:
            for start in range(0, len(pictures), self.batch):
                images = readers.map(self.read, pictures[start : start + self.batch])
                rows.append(self.describe(torch.stack(list(images))))
        return np.concatenate(rows)

    def read(self, picture: Picture) -> Tensor:
        """A picture as the model takes it: (3, height, width) of ``size``, RGB in [0, 255].

        Raises:
            InputError: as __call__().
        """
        return self.transform(opened(picture))

    @abstractmethod
    def describe(self, images: Tensor) -> np.ndarray:
        """Descriptors of a batch that read() made.

        Args:
            images: (B, 3, height, width), RGB in [0, 255].

        Returns:
            Shape (B, D), float32, rows of length 1.
        """


def opened(picture: Picture) -> Image.Image:
    """A picture as an RGB image of Pillow; raises InputError where it is none."""
    if isinstance(picture, str | os.PathLike):
        return read_image(os.fspath(picture))
    if not isinstance(picture, np.ndarray):
        raise InputError(f"a picture must be a path or an RGB array of NumPy, got {type(picture).__name__}")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise InputError(
            f"a picture must be an RGB array of shape (H, W, 3) and type uint8, got {picture.shape}, {picture.dtype}"
        )
    return Image.fromarray(picture)
