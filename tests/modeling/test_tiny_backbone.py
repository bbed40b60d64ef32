"""The backbone that most tests train: it must stay small, and be one that every part of the plugin can take."""

import copy

import torch
from fastreid.modeling import build_model
from fastreid.modeling.backbones import build_backbone
from tiny_data import WIDTH, random_batch

from igoas_plugin.modeling.backbones import split_backbone


def parameters_of(model) -> int:
    return sum(each.numel() for each in model.parameters())


def test_it_and_an_igoas_with_it_stay_small(igoas_cfg):
    assert parameters_of(build_backbone(igoas_cfg)) < 50_000
    assert parameters_of(build_model(igoas_cfg)) < 100_000  # two branches with an extra block and attention each


def test_igoas_takes_it_apart_into_what_it_computes(igoas_cfg):
    whole, images = build_backbone(igoas_cfg).eval(), random_batch(images=2)["images"]
    split = split_backbone(copy.deepcopy(whole), igoas_cfg.INPUT.SIZE_TRAIN)
    with torch.no_grad():
        found, expected = split.last_stage(split.trunk(images)), whole(images)
    assert torch.equal(found, expected)
    assert found.shape == (2, WIDTH, 4, 2)  # several positions: a suppression loss and a pooling need more than one
    assert split.channels == WIDTH and split.make_block()(found).shape == found.shape
