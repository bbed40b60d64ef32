import numpy as np
import pytest
import tiny_data
import torch
from fastreid.modeling import build_model
from matplotlib.contour import ContourSet
from PIL import Image
from torch.testing import assert_close

from igoas_plugin.core.errors import InputError
from igoas_plugin.reports.figures.activation_figure import (
    ImagePair,
    activations_picture,
    draw_activations,
    draw_maps,
    read_pair,
)


@pytest.fixture
def drawn():
    """Draws two images of 8 x 4 pixels, the left half of each occluded, with two maps of 2 x 1."""
    images = tiny_data.random_batch(images=2, size=(8, 4))["images"]
    visible = torch.ones(2, 1, 8, 4)
    visible[..., :2] = 0
    maps = {
        "clean": {"first": torch.tensor([[[0.0], [1.0]], [[5.0], [6.0]]]), "second": torch.zeros(2, 2, 1)},
        "occluded": {"first": torch.tensor([[[0.5], [3.0]], [[4.0], [5.0]]]), "second": torch.ones(2, 2, 1)},
    }
    figure = draw_maps({"clean": images, "occluded": images * visible}, maps, visible, "a title")
    return np.array(figure.axes[:-1]).reshape(4, 3)  # the last one is the colour bar


def outlines(panel):
    return [each for each in panel.collections if isinstance(each, ContourSet)]


def test_rows_are_images_clean_and_occluded_and_columns_are_maps(drawn):
    assert [panel.get_title() for panel in drawn[0]] == ["image", "first", "second"]
    assert [panel.get_ylabel() for panel in drawn[:, 0]] == ["clean", "occluded", "clean", "occluded"]
    assert len(drawn[0, 0].images) == 1 and all(len(panel.images) == 2 for panel in drawn[:, 1:].flat)
    assert (drawn[1, 0].images[0].get_array()[:, :2] == 0).all()


def test_clean_and_occluded_share_the_colours_of_a_map_with_its_range_below(drawn):
    limits = [[panel.images[1].get_clim() for panel in row[1:]] for row in drawn]
    assert limits == [[(0, 3), (0, 1)], [(0, 3), (0, 1)], [(4, 6), (0, 1)], [(4, 6), (0, 1)]]
    labels = [panel.get_xlabel().split("; ") for panel in drawn[:, 1]]
    assert [bounds for bounds, _ in labels] == ["0 to 3", "0 to 3", "4 to 6", "4 to 6"]
    # a half of both cells is covered: means 0.5, 1.75, 5.5 and 4.5
    assert [inside for _, inside in labels] == ["inside 17 %", "inside 58 %", "inside 75 %", "inside 25 %"]


def test_the_mean_inside_weighs_a_cell_by_what_is_hidden_of_it():
    images, visible = tiny_data.random_batch(images=1, size=(4, 2))["images"], torch.ones(1, 1, 4, 2)
    visible[:, :, :3] = 0  # all of the first cell and a half of the second
    figure = draw_maps({"clean": images}, {"clean": {"one": torch.tensor([[[4.0], [1.0]]])}}, visible, "")
    assert figure.axes[1].get_xlabel() == "1 to 4; inside 67 %"  # (1 + 0.5 * 0) / 1.5


def test_maps_are_laid_over_the_image_bilinearly(drawn):
    shown = drawn[0, 1].images[1].get_array()
    # 2 rows become 8: constant up to the middle of a row, then even steps
    np.testing.assert_allclose(shown[:, 0], [0, 0, 1 / 8, 3 / 8, 5 / 8, 7 / 8, 1, 1], atol=1e-6)
    assert shown.shape == (8, 4) and 0 < drawn[0, 1].images[1].get_alpha() < 1


def test_the_mask_is_outlined_in_every_panel_along_the_border_of_the_image_too(drawn):
    for panel in drawn.flat:
        [line] = outlines(panel)
        corners = np.concatenate([path.vertices for path in line.get_paths()])
        # pixels 0 and 1 of a row; their centres are at 0 and 1
        np.testing.assert_allclose([corners.min(0), corners.max(0)], [[-0.5, -0.5], [1.5, 7.5]])
        assert panel.get_xlim() == (-0.5, 3.5) and panel.get_ylim() == (7.5, -0.5)


def test_where_nothing_is_occluded_nothing_is_outlined():
    images = tiny_data.random_batch(images=1, size=(8, 4))["images"]
    figure = draw_maps({"clean": images}, {"clean": {"backbone": torch.rand(1, 2, 1)}}, torch.ones(1, 1, 8, 4), "")
    assert not any(outlines(panel) for panel in figure.axes)


def test_a_model_without_branches_has_one_map(baseline_cfg):
    baseline_cfg.MODEL.HEADS.NUM_CLASSES = 4
    model, images = build_model(baseline_cfg).eval(), tiny_data.random_batch(images=1)["images"]
    figure = draw_activations(model, ImagePair(images, images / 2, torch.ones(1, 1, 32, 16)), "")
    assert [panel.get_title() for panel in figure.axes[:2]] == ["image", "backbone"]


@pytest.mark.parametrize(
    "keys, given, message",
    [
        ({}, {"epoch": 3}, "--epoch 3: the epochs of this config are 1 to 2"),
        ({}, {"epoch": 0}, "--epoch 0: the epochs"),
        ({}, {"paths": ["absent.png"]}, "absent.png cannot be read: there is no such file"),
        ({"DATASETS.TESTS": ()}, {}, "DATASETS.TESTS is empty"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_a_model_is_built(igoas_cfg, monkeypatch, keys, given, message):
    igoas_cfg.merge_from_list([word for pair in keys.items() for word in pair])
    monkeypatch.setattr("igoas_plugin.reports.figures.activation_figure.build_trained", None)
    with pytest.raises(InputError, match=message):
        activations_picture(igoas_cfg, **{"paths": [], "count": 1, "seed": 0, "epoch": None, **given})


@pytest.mark.parametrize("keys", [[], ["MODEL.OCCLUSION.PROB", 0.0], ["MODEL.OCCLUSION.MASK", "ones"]])
def test_the_occlusion_is_that_of_the_epoch_in_pixels(igoas_cfg, tmp_path, keys):
    igoas_cfg.merge_from_list([*keys, "MODEL.PIXEL_MEAN", [100.0, 120.0, 130.0], "MODEL.PIXEL_STD", [60.0, 50.0, 40.0]])
    pixels = np.random.default_rng(0).integers(0, 256, (32, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    clean, occluded, visible = read_pair(igoas_cfg, [str(tmp_path / "noise.png")], epoch=1)
    assert_close(clean[0], torch.from_numpy(pixels).permute(2, 0, 1).float())
    kept = visible.bool().expand_as(clean)
    assert_close(occluded[kept], clean[kept], atol=1e-3, rtol=0)  # to the pixels and back, in float32
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([100.0, 120.0, 130.0], [60.0, 50.0, 40.0]))
    fill = ((occluded - mean) / std)[~kept]
    assert ((fill > -1e-4) & (fill < 1 + 1e-4)).all()  # U(0, 1) on the normalised image
    assert float(1 - visible.mean()) == pytest.approx(1 / 3, abs=0.07)  # whole pixels of 32 x 16


def test_a_block_that_hides_nothing_of_an_image_leaves_one_row(igoas_cfg, data_root):
    igoas_cfg.MODEL.OCCLUSION.NAME = "BatchDropBlock"
    images = read_pair(igoas_cfg, [str(data_root / "TinyReID" / "0_0_0.png")], epoch=0)
    assert images.occluded is None
    figure = draw_activations(build_model(igoas_cfg).eval(), images, "")
    assert len(figure.axes) == 7 and figure.axes[0].get_ylabel() == "clean"
    assert not any("inside" in panel.get_xlabel() for panel in figure.axes)
