import copy
import inspect
import types

import numpy as np
import torch
import torchvision.transforms
from fastreid.data.common import CommDataset
from fastreid.data.transforms import ToTensor, build, functional

from .fix import fix, replace_everywhere


class RandomAffine(torchvision.transforms.RandomAffine):
    """torchvision's RandomAffine under its former argument names, which the host uses.

    Args:
        resample: a mode of Pillow as a number; False is 0, nearest neighbour.
        fillcolor: colour of the area outside the image.
    """

    def __init__(self, degrees, translate=None, scale=None, shear=None, resample=False, fillcolor=0):
        super().__init__(degrees, translate, scale, shear, interpolation=int(resample), fill=fillcolor)


@fix
def build_affine_with_new_argument_names() -> str | None:
    """INPUT.AFFINE.ENABLED: TypeError, torchvision no longer knows the arguments resample and fillcolor.

    They are called interpolation and fill now. Only the name that the host's build_transforms looks up is replaced.
    """
    if "resample" in inspect.signature(torchvision.transforms.RandomAffine).parameters:
        return "this torchvision still knows the arguments resample and fillcolor"
    build.T = types.SimpleNamespace(**{**vars(torchvision.transforms), "RandomAffine": RandomAffine})


def pixels_of(pic) -> torch.Tensor:
    """An image as a (C, H, W) tensor in [0, 255], of the type that its pixels have.

    Args:
        pic: a Pillow image, or an array of shape (H, W) or (H, W, C).
    """
    array = np.array(pic)
    if getattr(pic, "mode", None) == "1":
        array = 255 * array.astype(np.uint8)
    elif getattr(pic, "mode", None) == "I;16":
        array = array.astype(np.int16)  # as in the host
    assert array.ndim in (2, 3)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1).contiguous()


def to_tensor(pic) -> torch.Tensor:
    """The host's function of this name: pixels_of(), bytes as float32."""
    tensor = pixels_of(pic)
    return tensor.float() if tensor.dtype == torch.uint8 else tensor


@fix
def convert_images_without_typed_storage() -> None:
    """Every loader process warns that TypedStorage is deprecated; black-and-white images fail with numpy 2.

    The host's to_tensor reads pixels through torch.ByteStorage, and through np.array(..., copy=False), which is a
    ValueError in numpy 2 where a copy is needed. Same values, by torch.from_numpy.
    """
    replace_everywhere(functional.to_tensor, to_tensor)


class ToPixels(ToTensor):
    """The host's ToTensor, but bytes stay bytes."""

    def __call__(self, pic) -> torch.Tensor:
        return pixels_of(pic)


def with_bytes(data_set: CommDataset) -> CommDataset:
    """A data set whose images stay bytes, where nothing after ToTensor() computes with them; else the same."""
    steps = getattr(data_set.transform, "transforms", None) if type(data_set) is CommDataset else None
    if not steps or type(steps[-1]) is not ToTensor:
        return data_set
    data_set = copy.copy(data_set)
    data_set.transform = torchvision.transforms.Compose([*steps[:-1], ToPixels()])
    return data_set
