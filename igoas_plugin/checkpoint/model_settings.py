"""Config keys that the descriptors of a model depend on."""

import json

from igoas_plugin.config import flat_keys, value_of

# Beginnings of the keys that a descriptor depends on
SECTIONS = ("MODEL.BACKBONE.", "MODEL.HEADS.", "MODEL.IGOAS.", "MODEL.PIXEL_", "INPUT.SIZE_TEST", "TEST.FLIP.")
# Beginnings of the keys among them that only a training reads
TRAINING_ONLY = (
    *("MODEL.BACKBONE.PRETRAIN", "MODEL.IGOAS.MASK_LOSS.", "MODEL.IGOAS.ID_WEIGHTS", "MODEL.IGOAS.COMPILE"),
    *("MODEL.IGOAS.IMAGES", "MODEL.IGOAS.FREEZE_", "MODEL.HEADS.NUM_CLASSES", "MODEL.HEADS.CLS_LAYER"),
    *("MODEL.IGOAS.STRIPE.SCALE", "MODEL.HEADS.SCALE", "MODEL.HEADS.MARGIN", "MODEL.HEADS.NECK_FEAT"),
)


def model_settings(cfg) -> dict[str, object]:
    """Returns {config key: value} of the keys that a descriptor depends on, with values as JSON stores them."""
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture == "OcclusionWrapper":  # its occlusion acts in training only
        architecture = cfg.MODEL.OCCLUSION.WRAPS
    sections = (*SECTIONS, "INPUT.CROP.") if cfg.INPUT.CROP.ENABLED else SECTIONS
    keys = [key for key in flat_keys(cfg) if key.startswith(sections) and not key.startswith(TRAINING_ONLY)]
    settings = {"MODEL.META_ARCHITECTURE": architecture, **{key: value_of(cfg, key) for key in sorted(keys)}}
    return json.loads(json.dumps(settings))


def differing(own: dict[str, object], others: dict[str, object]) -> list[str]:
    """Returns the keys that differ, each with the value in `own` and in `others`.

    Example:
        >>> differing({"INPUT.SIZE_TEST": [256, 128]}, {})
        ['INPUT.SIZE_TEST [256, 128] and None']
    """
    values = [(key, own.get(key), others.get(key)) for key in sorted(own.keys() | others.keys())]
    return [f"{key} {mine} and {theirs}" for key, mine, theirs in values if mine != theirs]
