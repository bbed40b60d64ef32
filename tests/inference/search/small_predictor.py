"""Fast predictor without a model, and crops for it."""

import numpy as np
import torch
from PIL import Image

from igoas_plugin.inference.fingerprint import Fingerprint
from igoas_plugin.inference.predictor import opened, reference_pictures


class SmallPredictor:
    """Predictor whose descriptor is the picture itself, resized to 8 x 4 pixels.

    Args:
        altered: whether it stands for an ONNX file that was changed after its export.
        noise: length of what is added to the descriptors of the reference pictures.

    Attributes:
        described: number of pictures so far, without the reference pictures.
    """

    width, size, batch = 96, (8, 4), 4

    def __init__(self, weights="1f", size_of_config=(8, 4), altered=False, noise=0.0):
        self.fingerprint = Fingerprint(weights, {"INPUT.SIZE_TEST": [*size_of_config]}, altered)
        self.described, self.noise = 0, noise

    def read(self, picture):
        image = opened(picture).resize((4, 8))
        return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).astype(np.float32))

    def describe(self, images):
        self.described += len(images)
        return self.rows(images)

    def rows(self, images):
        rows = images.flatten(1) - 128
        return (rows / rows.norm(dim=1, keepdim=True)).numpy()

    def references(self):
        rows = self.rows(torch.stack([self.read(picture) for picture in reference_pictures()]))
        rows[2, 0] += self.noise
        return rows

    def __call__(self, pictures):
        return self.describe(torch.stack([self.read(picture) for picture in pictures]))


def picture(seed) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 8, 3), dtype=np.uint8))


def draw(folder, names, seed=0) -> None:
    """Draws a picture for each name below a folder; another seed draws others."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture([seed, number]).save(path)


def names(count) -> list[str]:
    return [f"{number % 3}/{number:04d}.png" for number in range(count)]
