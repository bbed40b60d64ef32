"""Poolings and norms of fast-reid with and without mixed precision; test_backbones.py has its backbones."""

import pytest
import torch
from fastreid.layers import pooling
from fastreid.layers.batch_norm import GhostBatchNorm
from fastreid.modeling import build_model
from fastreid.utils.events import EventStorage
from tiny_data import WIDTH, random_batch, use_resnet
from torch.nn.functional import cosine_similarity

NORMS = ("BN", "syncBN", "GhostBN", "FrozenBN", "GN")


def problem_in_mixed_precision(cfg) -> str | None:
    """Returns what is wrong with a training step and an evaluation of a model in float32 and in bfloat16, or None."""
    cfg.MODEL.HEADS.NUM_CLASSES = 4
    torch.manual_seed(0)
    model, batch, descriptors = build_model(cfg), random_batch(images=4), []
    for mixed in (False, True):
        try:
            with EventStorage(), torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                loss = sum(model.train()(batch).values())
                loss.backward()
        except (RuntimeError, AttributeError) as error:
            return f"{error} (mixed precision: {mixed})"
        if not loss.isfinite():
            return f"loss {loss}"
    for mixed in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            descriptors.append(model.eval()(batch).float())
    similarity = float(cosine_similarity(*descriptors).min())
    return None if similarity > 0.99 else f"cosine {similarity}"  # bfloat16 has 8 bits


def test_every_pooling_trains_and_evaluates_in_mixed_precision(baseline_cfg, raw_host):
    assert raw_host["flattened_maps_in_channels_last"].startswith("RuntimeError: view size is not compatible")
    problems = {}
    for name in pooling.__all__:
        baseline_cfg.MODEL.HEADS.POOL_LAYER = name
        baseline_cfg.MODEL.BACKBONE.FEAT_DIM = 4 * 2 * WIDTH if name == "Flatten" else WIDTH  # of maps of 4 x 2
        problems[name] = problem_in_mixed_precision(baseline_cfg)
    assert len(problems) == 9 and {name: each for name, each in problems.items() if each} == {}


def test_every_norm_of_a_backbone_and_a_head_trains_and_evaluates_in_mixed_precision(baseline_cfg, raw_host):
    assert raw_host["frozen_norm_in_a_head"].startswith("AttributeError")
    baseline_cfg.MODEL.HEADS.WITH_BNNECK = True
    problems = {}
    for name in NORMS:
        if name == "GN":  # needs a multiple of 32 channels
            use_resnet(baseline_cfg)
        baseline_cfg.MODEL.BACKBONE.NORM = baseline_cfg.MODEL.HEADS.NORM = name
        problems[name] = problem_in_mixed_precision(baseline_cfg)
    assert {name: each for name, each in problems.items() if each} == {}


@pytest.mark.parametrize("layer", [pooling.Flatten(), GhostBatchNorm(4, num_splits=2)], ids=["Flatten", "GhostBN"])
def test_a_layer_gives_the_same_for_channels_last(layer):
    maps = torch.randn(4, 4, 3, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(maps.contiguous(memory_format=torch.channels_last)), layer(maps))
