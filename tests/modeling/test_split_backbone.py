import pytest
import torch
from fastreid.modeling.backbones import build_backbone
from tiny_data import use_resnet

import igoas_plugin
from igoas_plugin.core.errors import InputError
from igoas_plugin.modeling.backbones import split_backbone

SIZE = (48, 32)


def backbone(depth="18x", **switches):
    cfg = igoas_plugin.get_cfg()
    use_resnet(cfg, depth)
    cfg.MODEL.BACKBONE.PRETRAIN = False
    for name, value in switches.items():
        cfg.MODEL.BACKBONE[name] = value
    torch.manual_seed(0)
    return build_backbone(cfg).eval()


def randomise_norms(module):
    """Non-local blocks start at zero effect: their last norm's scale is 0."""
    for each in module.modules():
        if isinstance(each, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(each.weight, 0.1, 0.3)


CASES = [
    *(("18x", {}), ("18x", {"WITH_IBN": True}), ("18x", {"WITH_SE": True})),
    *(("short", {}), ("short", {"WITH_IBN": True}), ("short", {"WITH_SE": True}), ("short", {"WITH_NL": True})),
]


@pytest.mark.parametrize(
    "depth, switches", CASES, ids=lambda value: "-".join(value) if isinstance(value, dict) else value
)
def test_trunk_and_last_stage_give_what_the_backbone_of_fast_reid_gives(depth, switches):
    whole = backbone(depth, **switches)
    randomise_norms(whole)
    images = torch.randn(1, 3, 48, 32)
    with torch.no_grad():
        expected = whole(images)
        split = split_backbone(whole, SIZE, stem="host")
        assert torch.equal(split.last_stage(split.trunk(images)), expected)
    assert split.channels == expected.shape[1]


def test_a_backbone_that_ran_before_splits_the_same():
    whole = backbone("short", WITH_NL=False)
    whole(torch.randn(1, 3, 48, 32))  # writes [-1] into its indices of non-local blocks
    split = split_backbone(whole, SIZE)
    assert split.trunk(torch.randn(1, 3, 48, 32)).shape == (1, 1024, 3, 2)


def test_the_torchvision_stem_pads_and_keeps_the_size():
    pool = backbone().maxpool  # of fast-reid, which the plugin does not patch
    assert (pool.padding, pool.ceil_mode) == (0, True)
    images = torch.randn(1, 3, 48, 32)
    ours = split_backbone(backbone(), SIZE, stem="torchvision").trunk
    host = split_backbone(backbone(), SIZE, stem="host").trunk
    assert ours.maxpool.padding == 1 and ours.maxpool.ceil_mode is False
    assert ours(images).shape == host(images).shape
    assert not torch.equal(ours(images), host(images))


def test_an_unknown_stem_is_refused():
    with pytest.raises(InputError, match="STEM must be torchvision or host, got deep"):
        split_backbone(backbone(), SIZE, stem="deep")
