import hashlib
import json
from dataclasses import asdict, dataclass

import torch
from torch import nn

from igoas_plugin.checkpoint.model_settings import differing, model_settings
from igoas_plugin.engine.checkpoints import CLASSIFIER


@dataclass(frozen=True)
class Fingerprint:
    """What makes the descriptors of two models comparable: the same weights, used in the same way.

    Classifiers, which no descriptor passes, do not count; nor does how it is computed (device, TEST.FAST, ONNX).

    Args:
        weights: sha256 of all other weights, in hexadecimal.
        settings: {config key: value} of the keys that a descriptor depends on, as JSON holds them.
    """

    weights: str
    settings: dict[str, object]

    def differences(self, other: "Fingerprint") -> list[str]:
        """What is not the same, in words, first of this one, then of the other; empty where all is.

        Example:
            >>> small, large = Fingerprint("1f", {"INPUT.SIZE_TEST": [256, 128]}), Fingerprint("1f", {})
            >>> small.differences(large)
            ['INPUT.SIZE_TEST [256, 128] and None']
        """
        return differing(self.settings, other.settings) + ["other weights"] * (self.weights != other.weights)

    def as_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Fingerprint":
        """Raises ValueError, TypeError or KeyError where the text is none of as_json()."""
        return cls(**json.loads(text))


def fingerprint(cfg, model: nn.Module) -> Fingerprint:
    """The fingerprint of a model.

    Args:
        cfg: that it was built from.
        model: with its weights, before norms are fused into it.
    """
    return Fingerprint(sha256_of(model), model_settings(cfg))


@torch.no_grad()
def sha256_of(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not CLASSIFIER.search(name):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
