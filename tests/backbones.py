"""The backbones of fast-reid and timm for tests: the smallest depth of each family, and which depths there are."""

import torch
from tiny_data import random_batch

from igoas_plugin.checkpoint.imagenet import DEPTHS

SIZE = (64, 32)
SMALLEST = {
    "build_resnet_backbone": "18x",
    "build_resnext_backbone": "50x",
    "build_resnest_backbone": "50x",
    "build_osnet_backbone": "x0_25",
    "build_regnet_backbone": "200y",
    "build_effnet_backbone": "b0",
    "build_mobilenetv2_backbone": "0.1x",
    "build_mobilenetv3_backbone": "Small",
    "build_shufflenetv2_backbone": "0.5x",
    "build_repvgg_backbone": "A0",
}
TIMM = ("regnety_002", "convnext_atto", "resnet10t")  # depths of build_timm_backbone
LARGER = [
    (name, depth) for name in DEPTHS if name in SMALLEST for depth in DEPTHS[name].split() if depth != SMALLEST[name]
]


def of(cfg, name: str, depth: str):
    """Sets a backbone, and the size of the images that it is made for; returns the config."""
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH, cfg.INPUT.SIZE_TRAIN = name, depth, SIZE
    torch.manual_seed(0)
    return cfg


def batch_of_two() -> dict:
    """Returns a batch of two images of that size."""
    return random_batch(images=2, size=SIZE)
