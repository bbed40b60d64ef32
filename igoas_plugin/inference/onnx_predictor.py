"""OnnxPredictor: exported ONNX file as a function from pictures to descriptors."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from fastreid.data.transforms import build_transforms
from torch import Tensor

from igoas_plugin.config import get_cfg
from igoas_plugin.core.errors import InputError, one_line, require_packages

from .fingerprint import Fingerprint
from .predictor import FeatureExtractor

if TYPE_CHECKING:  # only needed when a file is opened
    from onnxruntime import InferenceSession

NO_DIGEST = "the SHA-256 of the file with this text in its place".ljust(64, ".")
ONLY_FATAL = 4  # log level; onnxruntime prints every error before it raises it


@dataclass(frozen=True)
class OnnxDescription:
    """Metadata of an exported file: each field is one entry, as a text or as JSON."""

    plugin_version: str  # version of igoas_plugin that wrote the file
    input: str  # dtype of the images, "uint8" or "float32"
    size: list  # [height, width] of the images
    mean: list  # normalisation inside the file, three values, for pixels in [0, 255]
    std: list  # as mean
    descriptor_width: int  # number D of values in a descriptor
    opset: int  # version of ONNX's operators
    batch: int  # number of images that the model takes at once, TEST.IMS_PER_BATCH of the config
    reading: dict  # {config key: value} of the transform from a picture to an image of that size
    fingerprint: Fingerprint  # descriptors of equal fingerprints can be compared
    digest: str = ""  # SHA-256 of the file with NO_DIGEST in the place of this value; files of version 0.1 have none

    def as_metadata(self) -> dict[str, str]:
        """Returns the metadata of an ONNX file."""
        written = {str: str, Fingerprint: Fingerprint.as_json}
        return {each.name: written.get(each.type, json.dumps)(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "OnnxDescription":
        """Reads the metadata of as_metadata(); raises KeyError, ValueError or TypeError if they are other metadata."""
        read = {str: str, Fingerprint: Fingerprint.from_json}
        given = [each for each in fields(cls) if each.name in metadata]
        return cls(**{each.name: read.get(each.type, json.loads)(metadata[each.name]) for each in given})


class OnnxPredictor(FeatureExtractor):
    """File of tools/export.py as a function from pictures of persons to descriptors.

    onnxruntime runs it on the CPU, with as many threads as torch has; no torch model is built. Pictures are read and
    resized as in Predictor; everything else is inside the file.

    Args:
        path: path of the ONNX file.

    Raises:
        InputError: the file is missing, not ONNX, or not from tools/export.py; or onnxruntime is not installed.
    """

    def __init__(self, path: str | os.PathLike):
        path = os.fspath(path)
        if not os.path.isfile(path):
            raise InputError(f"{path} does not exist: name a file that tools/export.py wrote")
        require_packages("onnxruntime")
        try:
            self.session = session_of(path)
            with open(path, "rb") as file:
                content = file.read()
        except Exception as error:  # the exceptions of onnxruntime have no common base class
            raise InputError(f"{path} cannot be opened as an ONNX model: {one_line(error)}") from error
        try:
            description = OnnxDescription.from_metadata(self.session.get_modelmeta().custom_metadata_map)
        except (KeyError, ValueError, TypeError):
            raise InputError(f"{path} has no metadata that say how to use it: give a file of tools/export.py") from None
        self.width, self.size, self.batch = description.descriptor_width, tuple(description.size), description.batch
        as_written = description.digest and digest_of(content, description.digest) == description.digest
        self.fingerprint = replace(description.fingerprint, altered=not as_written)
        self.dtype = getattr(torch, description.input)
        cfg = get_cfg()
        cfg.merge_from_list([word for pair in description.reading.items() for word in pair])
        self.transform = build_transforms(cfg, is_train=False)

    def describe(self, images: Tensor) -> np.ndarray:
        """Returns the descriptors of a batch of images from read(); see FeatureExtractor."""
        return self.session.run(None, {"images": images.to(self.dtype).cpu().numpy()})[0]


def digest_of(content: bytes, digest: str = NO_DIGEST) -> str:
    """Returns the SHA-256 of the bytes of an ONNX file, in which `digest` stands for the result, in hexadecimal."""
    return hashlib.sha256(content.replace(digest.encode(), NO_DIGEST.encode())).hexdigest()


def session_of(model: str | bytes) -> "InferenceSession":
    """Returns a session that runs an ONNX model, a path or bytes, on the CPU with as many threads as torch."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = ONLY_FATAL
    return InferenceSession(model, options, providers=["CPUExecutionProvider"])
