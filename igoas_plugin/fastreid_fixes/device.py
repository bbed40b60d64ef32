"""Building of models on a device that this machine has."""

import functools
import logging

import torch
from fastreid.modeling.meta_arch.build import build_model as original_build_model

from .fix import fix, replace_everywhere

logger = logging.getLogger("fastreid.igoas_plugin")


@functools.cache
def usable_device(name: str) -> str:
    """Returns MODEL.DEVICE, or "cpu" with one warning if it names a GPU and torch finds none."""
    if name.startswith("cuda") and not torch.cuda.is_available():
        logger.warning(f"MODEL.DEVICE is {name} but torch finds no GPU: the CPU is used")
        return "cpu"
    return name


def under_autocast(device_type: str) -> bool:
    """Returns whether autocast is on for this type of device."""
    try:
        return torch.is_autocast_enabled(device_type)
    except RuntimeError:  # this torch has no autocast for that type
        return False


@functools.cache
def usable_norm(name: str) -> str:
    """Returns a norm for the CPU: "BN" with one warning for "syncBN", which torch has on GPUs only."""
    if name == "syncBN":
        logger.warning(
            "NORM is syncBN, which needs a GPU: BN is used, and its statistics are averaged after each epoch"
        )
        return "BN"
    return name


def build_model(cfg):
    """Replaces fast-reid's function of this name; the model keeps its config as ``built_from``."""
    given = cfg.clone()
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = usable_device(cfg.MODEL.DEVICE)
    if cfg.MODEL.DEVICE == "cpu":
        for node in (cfg.MODEL.BACKBONE, cfg.MODEL.HEADS):
            node.NORM = usable_norm(node.NORM)
    model = original_build_model(cfg)
    model.built_from = given
    return model


@fix
def fall_back_to_the_cpu() -> None:
    """RuntimeError: without a GPU no model can be built, because MODEL.DEVICE is "cuda" by default.

    Also, syncBN raises a ValueError on the CPU in the first step of two processes.
    Upstream: fast-reid #97, #266, #485, #636, #684.
    """
    replace_everywhere(original_build_model, build_model)
