import hashlib
import json
from dataclasses import asdict, dataclass

import torch
from torch import nn

from .config import flat_keys, value_of
from .host.checkpoints import CLASSIFIER

# Keys, or the sections of them, that a descriptor depends on
SECTIONS = ("MODEL.BACKBONE.", "MODEL.HEADS.", "MODEL.IGOAS.", "MODEL.PIXEL_", "INPUT.SIZE_TEST", "TEST.FLIP.")
# ... but these, which only a training reads
TRAINING_ONLY = (
    *("MODEL.BACKBONE.PRETRAIN", "MODEL.IGOAS.MASK_LOSS.", "MODEL.IGOAS.ID_WEIGHTS", "MODEL.IGOAS.COMPILE"),
    *("MODEL.IGOAS.FREEZE_", "MODEL.HEADS.NUM_CLASSES", "MODEL.HEADS.CLS_LAYER", "MODEL.HEADS.SCALE"),
    *("MODEL.HEADS.MARGIN", "MODEL.HEADS.NECK_FEAT"),
)


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
        keys = sorted(self.settings.keys() | other.settings.keys())
        values = [(key, self.settings.get(key), other.settings.get(key)) for key in keys]
        different = [f"{key} {own} and {theirs}" for key, own, theirs in values if own != theirs]
        return different + ["other weights"] * (self.weights != other.weights)

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
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture == "OcclusionWrapper":  # only a training passes the occlusion
        architecture = cfg.MODEL.OCCLUSION.WRAPS
    sections = (*SECTIONS, "INPUT.CROP.") if cfg.INPUT.CROP.ENABLED else SECTIONS
    keys = [key for key in flat_keys(cfg) if key.startswith(sections) and not key.startswith(TRAINING_ONLY)]
    settings = {"MODEL.META_ARCHITECTURE": architecture, **{key: value_of(cfg, key) for key in sorted(keys)}}
    return Fingerprint(sha256_of(model), json.loads(json.dumps(settings)))


@torch.no_grad()
def sha256_of(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not CLASSIFIER.search(name):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
