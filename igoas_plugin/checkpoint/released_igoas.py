"""Weights of the original implementation (torchreid/models/bfe.py of Vill-Lab/IGOAS) under this plugin's names."""

import functools

import torch
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from torch import Tensor

from igoas_plugin.config import get_cfg
from igoas_plugin.core.errors import InputError

# Prefix in the original -> prefix here. Names inside a ResNet block are the same in both
PREFIXES = {
    "layer0.0": "backbone.conv1",
    "layer0.1": "backbone.bn1",
    "layer1": "backbone.layer1",
    "layer2": "backbone.layer2",
    "layer3": "backbone.layer3",
    "layer41.0": "global_branch.last_stage",
    "layer42.0": "suppression_branch.last_stage",
    "res_part1": "global_branch.extra_block",
    "res_part2": "suppression_branch.extra_block",
    "att1": "suppression_branch.attention_before",
    "att_module2": "suppression_branch.attention_after",
    "reduction1.0": "heads.global_neck.reduction.linear",
    "reduction1.1": "heads.global_neck.reduction.norm",
    "reduction2.0": "heads.suppression_neck.reduction.linear",
    "reduction2.1": "heads.suppression_neck.reduction.norm",
    "classifier1": "heads.global_classifier",
    "classifier2": "heads.suppression_classifier",
    "classifier3": "heads.joint_classifier",
}


def is_released(weights: dict[str, Tensor]) -> bool:
    """Returns whether names are those of the original, by its two last stages."""
    return any(name.removeprefix("module.").startswith(("layer41.", "layer42.")) for name in weights)


@functools.cache
def names_here() -> dict[str, str]:
    """Returns {name of each tensor in the original: name here}."""
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.DEPTH, cfg.MODEL.BACKBONE.PRETRAIN = "50x", False
    cfg.MODEL.HEADS.NAME, cfg.MODEL.HEADS.EMBEDDING_DIM, cfg.MODEL.HEADS.NUM_CLASSES = "IGOASHead", 512, 1
    with torch.device("meta"):  # names without values
        names = META_ARCH_REGISTRY.get("IGOAS")(cfg).state_dict()
    return {
        theirs + name.removeprefix(ours).replace("spatial", "conv_after_concat"): name
        for name in names
        for theirs, ours in PREFIXES.items()
        if name.startswith(f"{ours}.")
    }


def convert_reference_state_dict(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Maps the original's parameter names to those of IGOAS with ResNet-50 and the torchvision stem.

    Args:
        state_dict: weights of the original model, with or without the prefix "module." of DataParallel. Not modified.

    Returns:
        The same tensors under the names of this model.

    Raises:
        InputError: the original has no tensor of a name, or one of its tensors is missing.
    """
    here = names_here()
    given = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    if unknown := [name for name in given if name not in here]:
        raise InputError(f"not a state dict of the original IGOAS: it has {unknown[0]} ({len(unknown)} unknown names)")
    if missing := [name for name in here if name not in given]:
        raise InputError(
            f"not a complete state dict of the original IGOAS: it lacks {missing[0]} ({len(missing)} tensors missing)"
        )
    return {here[name]: tensor for name, tensor in given.items()}
