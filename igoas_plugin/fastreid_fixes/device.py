"""Models on a device that exists."""

import functools
import logging

import torch
from fastreid.modeling.meta_arch.build import build_model as build_host_model

from .fix import fix, replace_everywhere

logger = logging.getLogger("fastreid.igoas_plugin")


@functools.cache
def usable_device(name: str) -> str:
    """MODEL.DEVICE, or "cpu" with one warning where it names a GPU and torch finds none."""
    if name.startswith("cuda") and not torch.cuda.is_available():
        logger.warning(f"MODEL.DEVICE is {name} but torch finds no GPU: the CPU is used")
        return "cpu"
    return name


def under_autocast(device_type: str) -> bool:
    """Whether autocast is on for that type of device."""
    try:
        return torch.is_autocast_enabled(device_type)
    except RuntimeError:  # a type that this torch has no autocast for
        return False


@functools.cache
def usable_norm(name: str) -> str:
    """A norm for the CPU: "BN", with one warning, for "syncBN", which torch has for GPUs only."""
    if name == "syncBN":
        logger.warning(
            "NORM is syncBN, which needs a GPU: BN is used, and its statistics are averaged after each epoch"
        )
        return "BN"
    return name


def build_model(cfg):
    """The host's function of this name, on a device that exists; the model remembers its config as ``built_from``."""
    asked = cfg.clone()
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = usable_device(cfg.MODEL.DEVICE)
    if cfg.MODEL.DEVICE == "cpu":
        for node in (cfg.MODEL.BACKBONE, cfg.MODEL.HEADS):
            node.NORM = usable_norm(node.NORM)
    model = build_host_model(cfg)
    model.built_from = asked
    return model


@fix
def fall_back_to_the_cpu() -> None:
    """RuntimeError: MODEL.DEVICE is "cuda" by default, so nothing can be built on a machine without a GPU.

    Where the model is on the CPU, syncBN would fail in the first step of two processes (ValueError).
    Upstream: fast-reid #97, #266, #485, #636, #684.
    """
    replace_everywhere(build_host_model, build_model)
