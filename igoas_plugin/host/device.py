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


def build_model(cfg):
    """The host's function of this name, on a device that exists."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = usable_device(cfg.MODEL.DEVICE)
    return build_host_model(cfg)


@fix
def fall_back_to_the_cpu() -> None:
    """RuntimeError: MODEL.DEVICE is "cuda" by default, so nothing can be built on a machine without a GPU.

    Upstream: fast-reid #97, #266, #485, #636, #684.
    """
    replace_everywhere(build_host_model, build_model)
