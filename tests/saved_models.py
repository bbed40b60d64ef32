"""Checkpoints of models as if they had been trained, on 32x16 images."""

import tiny_data
import torch
from fastreid.modeling import build_model
from torch import nn
from torch.nn.functional import interpolate

import igoas_plugin


def saved_model(folder, **keys):
    """Returns a config whose MODEL.WEIGHTS is a checkpoint of its model, with the statistics of images in its norms.

    Args:
        folder: of the checkpoint.
        keys: further keys of the config, with two underscores for a dot.
    """
    cfg = igoas_plugin.get_cfg()
    tiny_data.tiny_settings(cfg, folder)
    cfg.merge_from_list([word for key, value in keys.items() for word in (key.replace("__", "."), value)])
    cfg.MODEL.HEADS.NUM_CLASSES = tiny_data.IDENTITIES
    torch.manual_seed(0)
    cfg.MODEL.WEIGHTS = str(folder / "weights.pth")
    model = build_model(cfg).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches, which are one
            module.train()
    size = cfg.INPUT.SIZE_TEST
    coarse, fine = interpolate(255 * torch.rand(16, 3, 2, 2), size), 255 * torch.rand(16, 3, *size)
    with torch.no_grad():  # statistics of images that are all alike would magnify rounding, as no trained model does
        model({"images": torch.cat([coarse, fine])})
    torch.save({"model": model.state_dict()}, cfg.MODEL.WEIGHTS)
    return cfg


def saved_igoas(folder, **keys):
    """Returns the same of IGOAS with descriptors of 64 values."""
    igoas = {"MODEL__META_ARCHITECTURE": "IGOAS", "MODEL__HEADS__NAME": "IGOASHead", "MODEL__HEADS__EMBEDDING_DIM": 32}
    return saved_model(folder, **igoas, **keys)
