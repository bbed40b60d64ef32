import numpy as np
import pytest
import tiny_data
import torch
from PIL import Image

from igoas_plugin.core.errors import InputError
from igoas_plugin.occlusion import OCCLUSION_REGISTRY
from igoas_plugin.reports.figures.occlusion_panel import SHOWN, draw_occlusion, occluded_by_epoch, occlusion_picture
from igoas_plugin.reports.figures.pixel_images import to_show

IMAGES = tiny_data.random_batch(images=3, size=(64, 32))["images"]


@pytest.fixture
def cfg(igoas_cfg, tmp_path):
    igoas_cfg.SOLVER.MAX_EPOCH, igoas_cfg.SEED = 10, 0
    igoas_cfg.MODEL.OCCLUSION.CUTOUTS = str(tmp_path / "cutouts")
    (tmp_path / "cutouts").mkdir()
    Image.new("RGBA", (20, 20), (255, 0, 0, 255)).save(tmp_path / "cutouts" / "square.png")
    return igoas_cfg


def test_columns_are_epochs_with_their_share_and_rows_are_images():
    clean = np.zeros((2, 8, 4, 3), np.uint8)
    shares, shown = [0.1, 0.2, 0.3], {0: clean + 10, 2: clean + 20}
    figure = draw_occlusion(clean, shares, shown, "a title")
    *panels, curve = figure.axes
    assert [panel.get_title() for panel in panels] == ["clean", "epoch 1\n10.0 %", "epoch 3\n30.0 %", "", "", ""]
    assert [int(panel.images[0].get_array().max()) for panel in panels] == [0, 10, 20, 0, 10, 20]
    line, points = curve.lines
    np.testing.assert_allclose(line.get_xydata(), [[1, 10], [2, 20], [3, 30]])
    np.testing.assert_allclose(points.get_xydata(), [[1, 10], [3, 30]])
    assert figure.get_suptitle() == "a title"


def test_the_share_grows_as_the_schedule_says_and_the_epochs_are_evenly_spread(cfg):
    shares, shown = occluded_by_epoch(cfg, IMAGES)
    assert len(shares) == 10 and list(shown) == [0, 2, 3, 4, 6, 8, 9] and len(shown) == SHOWN
    # 0.1 + 0.4 * epoch / 10 up to epoch 6, then 1/3; a rectangle has whole pixels
    expected = [min(0.1 + 0.04 * epoch, 0.34) if epoch <= 6 else 1 / 3 for epoch in range(10)]
    np.testing.assert_allclose(shares, expected, atol=0.02)
    clean = to_show(IMAGES)
    covered = [(images != clean).any(-1).mean() for images in shown.values()]
    np.testing.assert_allclose(covered, [shares[epoch] for epoch in shown], atol=0.01)  # noise may equal the fill


def test_a_run_of_one_epoch_has_one_column(cfg):
    cfg.SOLVER.MAX_EPOCH = 1
    shares, shown = occluded_by_epoch(cfg, IMAGES)
    assert len(shares) == 1 and list(shown) == [0]


@pytest.mark.parametrize("name", sorted(OCCLUSION_REGISTRY._obj_map))
def test_every_block_has_a_picture_that_shows_what_it_covers(cfg, name):
    cfg.MODEL.OCCLUSION.NAME, cfg.SOLVER.MAX_EPOCH = name, 2
    cfg.MODEL.OCCLUSION.MASK = "ones"  # the mask for the loss, not for the figure
    figure = occlusion_picture(cfg, count=2, seed=0)
    covered = figure.axes[-1].lines[0].get_ydata()
    assert (covered > 5).all() if name != "NoOcclusion" else (covered == 0).all()
    assert figure.get_suptitle().startswith(f"{name}, 2 epochs, TinyReID")
    on_feature_map = "last feature map, and nothing of the images" in figure.get_suptitle()
    assert on_feature_map == (name == "BatchDropBlock")
    first_row = [panel.images[0].get_array() for panel in figure.axes[:3]]
    changed = [not np.array_equal(first_row[0], image) for image in first_row[1:]]
    assert all(changed) == (name != "NoOcclusion")


def test_truncation_and_probability_are_in_the_title(cfg):
    cfg.MODEL.OCCLUSION.PROB, cfg.MODEL.OCCLUSION.TRUNCATION = 0.5, 0.25
    figure = occlusion_picture(cfg, count=2, seed=0)
    assert "occluded with probability 0.5, cut off with probability 0.25" in figure.get_suptitle()
    covered = figure.axes[-1].lines[0].get_ydata()
    assert (covered == 0).any() and (covered > 5).any()


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"SOLVER.MAX_EPOCH": 0}, "SOLVER.MAX_EPOCH must be 1 or more, got 0"),
        ({"DATASETS.NAMES": ()}, "DATASETS.NAMES is empty: no training images to occlude"),
        ({"DATASETS.NAMES": ("OccludedDuke",)}, "OccludedDuke: there is no folder"),
        ({"MODEL.OCCLUSION.PROB": 2.0}, r"MODEL.OCCLUSION.PROB must be in \[0, 1\], got 2.0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(cfg, keys, message):
    cfg.merge_from_list([word for pair in keys.items() for word in pair])
    with pytest.raises(InputError, match=message):
        occlusion_picture(cfg, count=2, seed=0)


def test_drawing_leaves_the_generators_alone(cfg):
    torch.manual_seed(0)
    expected = torch.get_rng_state().clone()
    occlusion_picture(cfg, count=2, seed=0)
    assert torch.equal(torch.get_rng_state(), expected)
