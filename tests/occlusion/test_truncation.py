import numpy as np
import pytest
import torch

from igoas_plugin.config import load_cfg
from igoas_plugin.core.errors import InputError
from igoas_plugin.core.run_progress import RunProgress
from igoas_plugin.occlusion import build_occlusion
from igoas_plugin.occlusion.schedule import PaperSchedule
from igoas_plugin.occlusion.truncation import Truncation, draw_box, zoom


def ramp(count=1, height=8, width=4):
    """Images whose value is their row."""
    return torch.arange(float(height)).view(1, 1, height, 1).expand(count, 3, height, width).clone()


def test_what_is_left_fills_the_image():
    upper = zoom(ramp(), [(0.0, 0.0, 1.0, 0.5)], "bilinear")[0, 0, :, 0]
    # centres of 8 rows over the first 4: 0.25 - 0.5, 0.75 - 0.5, ...; the first is beyond the border
    assert upper.tolist() == pytest.approx([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25])
    right = zoom(ramp().transpose(2, 3).contiguous(), [(0.5, 0.0, 1.0, 1.0)], "nearest")[0, 0, 0]
    assert right.tolist() == [4, 4, 5, 5, 6, 6, 7, 7]


def test_an_image_that_is_not_cut_stays_what_it_is():
    images = torch.rand(2, 3, 8, 4)
    torch.testing.assert_close(zoom(images, [(0.0, 0.0, 1.0, 1.0)] * 2, "bilinear"), images)


def test_mixed_precision_moves_no_pixel():
    images, boxes = torch.rand(2, 3, 384, 128), [(0.0, 0.0, 1.0, 1.0), (0.1, 0.2, 0.9, 0.7)]
    expected = zoom(images, boxes, "bilinear")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(zoom(images, boxes, "bilinear"), expected)


def test_boxes_lie_in_the_image_and_leave_as_much_as_is_said():
    rng, areas, bottoms = np.random.default_rng(0), [], 0
    for _ in range(2000):
        left, top, right, bottom = draw_box(rng, most=0.6)
        assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
        areas.append((right - left) * (bottom - top))
        bottoms += (left, top, right) == (0, 0, 1)
    assert min(areas) >= 0.4 - 1e-9 and max(areas) > 0.99
    # uniform from 0.4 to 1: mean 0.7, standard error 0.6 / sqrt(12 * 2000) = 0.004; half of 2000: sqrt(500) = 22
    assert np.mean(areas) == pytest.approx(0.7, abs=0.02) and bottoms == pytest.approx(1000, abs=100)


def test_as_many_images_are_cut_as_the_key_says_more_as_training_goes_on():
    images, visible = ramp(400), torch.ones(400, 1, 8, 4)
    cut_share = Truncation(PaperSchedule(epochs=10, start=0.1, final=0.3), prob=0.25)
    changed = []
    for epoch in (0, 10):
        progress = RunProgress(epoch=epoch, iteration=0, iters_per_epoch=None)
        new, _ = cut_share(np.random.default_rng(0), progress, images, visible)
        changed.append((new - images).abs().amax((1, 2, 3)))
    # 100 expected, standard deviation sqrt(400 * 0.25 * 0.75) = 8.7; a cut at a side alone leaves the rows as they are
    assert 50 < (changed[1] > 0.1).sum() < 130
    assert changed[1].sum() > 1.5 * changed[0].sum()


def test_the_mask_is_cut_with_the_image():
    keys = ["MODEL.OCCLUSION.NAME", "SlowDropBlock", "MODEL.OCCLUSION.TRUNCATION", "1", "SEED", "0"]
    images = 1 + torch.rand(16, 3, 64, 32)
    occluded, visible = build_occlusion(load_cfg("", keys))(images)
    hidden = (occluded == 0).all(1, keepdim=True)
    assert set(visible.unique().tolist()) == {0, 1} and len({each.sum().item() for each in visible}) > 4
    # at the rim of the block one is interpolated and the other is not
    assert (hidden & (visible == 1)).float().mean() < 0.001 and ((visible == 0) & ~hidden).float().mean() < 0.05


def test_without_the_key_nothing_is_drawn_for_it():
    keys = ["MODEL.OCCLUSION.NAME", "RandomErasing", "SEED", "0"]
    images = torch.rand(4, 3, 32, 16)
    plain = build_occlusion(load_cfg("", keys))
    assert plain.truncation is None
    assert torch.equal(
        plain(images)[0], build_occlusion(load_cfg("", [*keys, "MODEL.OCCLUSION.TRUNCATION", "0"]))(images)[0]
    )


@pytest.mark.parametrize("prob", ["-0.1", "1.5"])
def test_a_probability_out_of_range_is_refused(prob):
    with pytest.raises(InputError, match=rf"MODEL.OCCLUSION.TRUNCATION must be in \[0, 1\], got {prob}"):
        build_occlusion(load_cfg("", ["MODEL.OCCLUSION.TRUNCATION", prob]))
