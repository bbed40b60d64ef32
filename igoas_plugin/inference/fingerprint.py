"""Fingerprint of a model: whether the descriptors of two models can be compared."""

import hashlib
import json
from dataclasses import asdict, dataclass

import torch
from torch import nn

from igoas_plugin.checkpoint.model_settings import differing, model_settings
from igoas_plugin.engine.checkpoints import CLASSIFIER


@dataclass(frozen=True)
class Fingerprint:
    """Weights and settings that must be equal for the descriptors of two models to be comparable.

    An altered ONNX file also has to give the same descriptors of the reference pictures.

    Classifiers are left out, because a descriptor does not depend on them. So is the way of computing (device,
    TEST.FAST, ONNX).
    """

    weights: str  # SHA-256 of all weights but the classifiers, in hexadecimal
    settings: dict[str, object]  # {config key: value} of the keys that a descriptor depends on, as JSON stores them
    altered: bool = False  # whether an ONNX file is not as tools/export.py wrote it: its weights may be other ones

    def differences(self, other: "Fingerprint") -> list[str]:
        """Returns the differences in words, with the value of this one first; an empty list if there are none.

        Example:
            >>> small, large = Fingerprint("1f", {"INPUT.SIZE_TEST": [256, 128]}), Fingerprint("1f", {})
            >>> small.differences(large)
            ['INPUT.SIZE_TEST [256, 128] and None']
        """
        return differing(self.settings, other.settings) + ["other weights"] * (self.weights != other.weights)

    def as_json(self) -> str:
        """Returns the fingerprint as a JSON text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Fingerprint":
        """Reads the text of as_json(); raises ValueError, TypeError or KeyError if it is another text."""
        return cls(**json.loads(text))


def fingerprint(cfg, model: nn.Module) -> Fingerprint:
    """Returns the fingerprint of a model.

    Args:
        cfg: config that the model was built from.
        model: model with its weights, before batch normalisation is fused into convolutions.
    """
    return Fingerprint(digest_of_weights(model), model_settings(cfg))


@torch.no_grad()
def digest_of_weights(model: nn.Module) -> str:
    """Returns the SHA-256 of names, shapes, dtypes and values of all weights but the classifiers, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not CLASSIFIER.search(name):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
