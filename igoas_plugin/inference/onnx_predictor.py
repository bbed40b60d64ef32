"""OnnxPredictor: an exported file as a function from pictures to descriptors."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from fastreid.data.transforms import build_transforms
from torch import Tensor

from igoas_plugin.config import get_cfg
from igoas_plugin.core.errors import InputError, require_packages

from .fingerprint import Fingerprint
from .predictor import FeatureExtractor


@dataclass(frozen=True)
class OnnxDescription:
    """What an exported file says of itself: each field is an entry of the file's metadata, text or JSON.

    Args:
        plugin_version: of igoas_plugin, which wrote the file.
        input: type of the images, "uint8" or "float32".
        size: [height, width] of the images.
        mean, std: of the normalisation inside the file, three values each, of pixels in [0, 255].
        descriptor_width: D, values of a descriptor.
        opset: version of ONNX's operators.
        batch: how many images are described at once, TEST.IMS_PER_BATCH of the config.
        reading: {config key: value} of what is done to a picture before it is an image of that size.
        fingerprint: which descriptors its own can be compared with.
    """

    plugin_version: str
    input: str
    size: list
    mean: list
    std: list
    descriptor_width: int
    opset: int
    batch: int
    reading: dict
    fingerprint: Fingerprint

    def as_metadata(self) -> dict[str, str]:
        written = {str: str, Fingerprint: Fingerprint.as_json}
        return {each.name: written.get(each.type, json.dumps)(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "OnnxDescription":
        """Raises KeyError, ValueError or TypeError where the metadata are none of as_metadata()."""
        read = {str: str, Fingerprint: Fingerprint.from_json}
        return cls(**{each.name: read.get(each.type, json.loads)(metadata[each.name]) for each in fields(cls)})


if TYPE_CHECKING:  # it is needed only where a file is opened
    from onnxruntime import InferenceSession

ONLY_FATAL = 4  # onnxruntime logs every error on the console before it raises it


class OnnxPredictor(FeatureExtractor):
    """A file of tools/export.py as a function: pictures of persons in, descriptors out.

    It runs on the CPU, in onnxruntime with as many threads as torch has, and builds no model of torch. Pictures are
    read and resized as Predictor does; all else is in the file.

    Args:
        path: of the ONNX file.

    Attributes:
        width: D, values of a descriptor.
        size: (height, width) that pictures are resized to.
        batch: images that are described at once.
        fingerprint: which descriptors these can be compared with.

    Raises:
        InputError: the file is missing, no ONNX, or not of tools/export.py; or onnxruntime is not installed.
    """

    def __init__(self, path: str | os.PathLike):
        path = os.fspath(path)
        if not os.path.isfile(path):
            raise InputError(f"{path} does not exist: name a file that tools/export.py wrote")
        require_packages("onnxruntime")
        try:
            self.session = session_of(path)
        except Exception as error:  # each of onnxruntime's derives from Exception alone
            raise InputError(f"{path} cannot be opened as an ONNX model: {' '.join(str(error).split())}") from error
        try:
            description = OnnxDescription.from_metadata(self.session.get_modelmeta().custom_metadata_map)
        except (KeyError, ValueError, TypeError):
            raise InputError(f"{path} does not say how it is used: only files of tools/export.py do") from None
        self.width, self.size, self.batch = description.descriptor_width, tuple(description.size), description.batch
        self.fingerprint = description.fingerprint
        self.dtype = getattr(torch, description.input)
        cfg = get_cfg()
        cfg.merge_from_list([word for pair in description.reading.items() for word in pair])
        self.transform = build_transforms(cfg, is_train=False)

    def describe(self, images: Tensor) -> np.ndarray:
        return self.session.run(None, {"images": images.to(self.dtype).cpu().numpy()})[0]


def session_of(model: str | bytes) -> "InferenceSession":
    """What runs an ONNX model on the CPU, in as many threads as torch has; the model is a path or a file's content."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = ONLY_FATAL
    return InferenceSession(model, options, providers=["CPUExecutionProvider"])
