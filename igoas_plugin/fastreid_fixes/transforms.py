"""Fixes of fast-reid's transforms: random affine, and conversion of images to tensors."""

import copy
import types

import numpy as np
import torch
import torchvision.transforms
from fastreid.data.common import CommDataset
from fastreid.data.transforms import ToTensor, build, functional

from .fix import fix, replace_everywhere


class RandomAffine(torchvision.transforms.RandomAffine):
    """torchvision's RandomAffine with its former argument names, which fast-reid uses.

    Args:
        resample: interpolation mode as Pillow's number; False is 0, nearest neighbour.
        fillcolor: colour of the area outside the image.
    """

    def __init__(self, degrees, translate=None, scale=None, shear=None, resample=False, fillcolor=0):
        super().__init__(degrees, translate, scale, shear, interpolation=int(resample), fill=fillcolor)


@fix
def build_affine_with_new_argument_names() -> None:
    """TypeError with INPUT.AFFINE.ENABLED on today's torchvision.

    Cause: RandomAffine's arguments resample and fillcolor are called interpolation and fill now. Only the name that
    fast-reid's build_transforms uses is replaced.
    """
    build.T = types.SimpleNamespace(**{**vars(torchvision.transforms), "RandomAffine": RandomAffine})


def pixels_of(pic) -> torch.Tensor:
    """Converts an image to a tensor (C, H, W) in [0, 255], in the type of its pixels.

    Args:
        pic: a Pillow image, or an array of shape (H, W) or (H, W, C).
    """
    array = np.array(pic)
    if getattr(pic, "mode", None) == "1":
        array = 255 * array.astype(np.uint8)
    elif getattr(pic, "mode", None) == "I;16":
        array = array.astype(np.int16)  # as in fast-reid
    assert array.ndim in (2, 3)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1).contiguous()


def to_tensor(pic) -> torch.Tensor:
    """Replaces fast-reid's function of this name: pixels_of(), with bytes as float32."""
    tensor = pixels_of(pic)
    return tensor.float() if tensor.dtype == torch.uint8 else tensor


@fix
def convert_images_without_typed_storage() -> None:
    """Every loader worker warns of TypedStorage, and black-and-white images raise a ValueError with numpy 2.

    Cause: fast-reid reads pixels by torch.ByteStorage and by ``np.array(..., copy=False)``, which numpy 2 refuses if a
    copy is needed. The values are the same.
    """
    replace_everywhere(functional.to_tensor, to_tensor)


class ToPixels(ToTensor):
    """fast-reid's ToTensor, except that bytes stay bytes."""

    def __call__(self, pic) -> torch.Tensor:
        return pixels_of(pic)


def with_bytes(data_set: CommDataset) -> CommDataset:
    """Returns the data set with images as bytes, or unchanged if a transform after ToTensor() computes with them."""
    steps = getattr(data_set.transform, "transforms", None) if type(data_set) is CommDataset else None
    if not steps or type(steps[-1]) is not ToTensor:
        return data_set
    data_set = copy.copy(data_set)
    data_set.transform = torchvision.transforms.Compose([*steps[:-1], ToPixels()])
    return data_set
