"""An epoch in which no cell of the feature map sees an occlusion is told once."""

import pytest
import runs
import torch
from torch import nn

from igoas_plugin.modeling.unseen_occlusions import UnseenOcclusions


class Box(nn.Module):
    """Occlusion block that sets rows 12 to 18 and columns 4 to 11 to zero; the corners of a 4x2 map lie elsewhere."""

    def forward(self, images):
        visible = images.new_ones(len(images), 1, *images.shape[2:])
        visible[:, :, 12:19, 4:12] = 0
        return images * visible, visible


def warnings_of(cfg, host_log, block=None, resume=False) -> list[str]:
    """Returns the warnings about the suppression loss of a training behind a block."""
    trainer = runs.start(cfg, resume)
    trainer.model.occlusion = block or trainer.model.occlusion
    host_log.clear()
    trainer.train()
    return [each.getMessage() for each in host_log.records if "suppression loss was 0" in each.getMessage()]


def test_the_first_epoch_with_a_loss_of_zero_is_told_once(igoas_cfg, host_log):
    found = warnings_of(igoas_cfg, host_log, Box())  # two epochs
    assert found == [
        "The suppression loss was 0 in epoch 1: images were occluded, but no cell of the 4x2 feature map saw it, "
        "because MODEL.IGOAS.MASK_LOSS.RESIZE bilinear reads the 32x16 mask at one point for each cell; set it to "
        "area, as igoas_plus does"
    ]
    assert {line["raw_suppression_loss_global"] for line in runs.logged(igoas_cfg) if "total_loss" in line} == {0}
    igoas_cfg.SOLVER.MAX_EPOCH = 4
    assert len(warnings_of(igoas_cfg, host_log, Box(), resume=True)) == 1  # for epochs 3 and 4


@pytest.mark.parametrize(
    "keys",
    [
        ["MODEL.IGOAS.MASK_LOSS.RESIZE", "area"],
        ["MODEL.IGOAS.MASK_LOSS.SCALE", 0.0],
        ["MODEL.IGOAS.MASK_LOSS.BRANCHES", ()],
        ["MODEL.OCCLUSION.NAME", "NoOcclusion"],
        ["MODEL.OCCLUSION.PROB", 0.0],
        ["MODEL.OCCLUSION.MASK", "ones"],
    ],
)
def test_nothing_is_told_where_the_loss_sees_or_is_not_wanted(igoas_cfg, host_log, keys):
    igoas_cfg.merge_from_list([*keys, "SOLVER.MAX_EPOCH", 1])
    block = None if "MODEL.OCCLUSION.NAME" in keys or "PROB" in keys[0] or keys[1] == "ones" else Box()
    assert warnings_of(igoas_cfg, host_log, block) == []


def test_one_step_that_is_seen_is_enough_for_an_epoch():
    feature_map, clean, hidden, edge = torch.ones(2, 3, 4, 2), *torch.ones(3, 2, 1, 32, 16)
    hidden[..., 12:19, 4:12], edge[..., :5] = 0, 0
    for masks, unseen in (([hidden], True), ([clean], False), ([clean, hidden], True), ([hidden, edge], False)):
        record = UnseenOcclusions()
        for visible in masks:
            record.add(visible, feature_map, "bilinear")
        assert record.read() is unseen
        assert record.read() is False  # the next epoch begins anew


def test_rounding_of_a_mask_of_ones_is_no_occlusion():
    record = UnseenOcclusions()
    for size in ((256, 128), (384, 192), (33, 17)):
        record.add(torch.ones(1, 1, *size, dtype=torch.bfloat16), torch.ones(1, 3, 7, 5), "bilinear")
    assert record.record.tolist() == [False, False]


def test_the_record_stays_on_the_device_of_the_mask():
    record = UnseenOcclusions()  # a tensor of the meta device cannot be read, as a step must not read one of a GPU
    record.add(torch.ones(1, 1, 32, 16, device="meta"), torch.ones(1, 3, 4, 2, device="meta"), "area")
    assert record.record.device.type == "meta"
