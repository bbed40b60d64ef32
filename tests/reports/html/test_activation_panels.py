from types import SimpleNamespace

import numpy as np
import pytest
import tiny_data
import torch
from fastreid.modeling import build_model
from PIL import Image
from torch.testing import assert_close

from igoas_plugin.core.errors import InputError
from igoas_plugin.reports.html.activation_panels import (
    CAPTIONS,
    Inside,
    maps_of,
    mean_inside,
    overlay,
    strongest,
    with_occlusion,
)


@pytest.fixture
def images(tmp_path):
    rng, paths = np.random.default_rng(0), []
    for number in range(3):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(rng.integers(0, 256, (40, 20, 3), dtype=np.uint8)).save(paths[-1])
    return paths


def test_each_map_is_there_for_the_image_as_it_is_and_occluded(igoas_cfg, images):
    model = build_model(igoas_cfg).eval()
    igoas_cfg.TEST.IMS_PER_BATCH = 2  # three images are two batches
    found = maps_of(igoas_cfg, model, images, list("abc"))
    assert len(found) == 3
    for name, shown in zip("abc", found, strict=True):
        assert [each.name for each in shown.maps] == [
            title for key, (title, _) in CAPTIONS.items() if key != "backbone"
        ]
        assert (shown.clean.alt, shown.occluded.alt) == (
            f"{name} as it is, as the model gets it", f"{name} occluded, as the model gets it",
        )  # fmt: skip
        assert (shown.clean.width, shown.clean.height) == (16, 32)
        for each in shown.maps:
            assert f"{each.name}, {name} as it is: strongest at the " in each.clean.alt
            assert f"{each.name}, {name} occluded: strongest at the " in each.occluded.alt
            assert each.low < each.high and 0 <= each.inside.clean <= 100 and 0 <= each.inside.occluded <= 100


def test_a_model_without_branches_has_the_map_of_its_backbone(baseline_cfg, images):
    baseline_cfg.MODEL.HEADS.NUM_CLASSES = 4
    model = build_model(baseline_cfg).eval()
    [shown] = maps_of(baseline_cfg, model, images[:1], ["a"])
    assert [each.name for each in shown.maps] == ["Backbone"] and shown.occluded is not None


def test_a_block_that_hides_nothing_of_an_image_leaves_the_clean_maps_alone(igoas_cfg, images):
    igoas_cfg.MODEL.OCCLUSION.NAME = "BatchDropBlock"
    [shown] = maps_of(igoas_cfg, build_model(igoas_cfg).eval(), images[:1], ["a"])
    assert shown.occluded is None and [(each.occluded, each.inside) for each in shown.maps] == [(None, None)] * 5


@pytest.mark.parametrize("keys", [[], ["MODEL.OCCLUSION.PROB", 0.0], ["MODEL.OCCLUSION.MASK", "ones"]])
def test_the_occlusion_is_that_of_the_last_epoch_and_the_model_gets_it_as_pixels(igoas_cfg, keys):
    igoas_cfg.merge_from_list(keys)
    batch = tiny_data.random_batch(images=2)["images"]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([100.0, 120.0, 130.0], [60.0, 50.0, 40.0]))
    occluded, visible = with_occlusion(igoas_cfg, SimpleNamespace(pixel_mean=mean, pixel_std=std), batch)
    kept = visible.bool().expand_as(batch)
    assert_close(occluded[kept], batch[kept], atol=1e-3, rtol=0)  # to the pixels and back, in float32
    fill = ((occluded - mean) / std)[~kept]
    assert ((fill > -1e-4) & (fill < 1 + 1e-4)).all()  # U(0, 1) on the normalised image
    assert float(1 - visible.mean()) == pytest.approx(1 / 3, abs=0.07)  # whole pixels of 32 x 16


def test_the_colours_rise_with_the_response_and_the_image_shines_through():
    image = np.zeros((4, 2, 3), np.uint8)
    image[:, 1] = 255
    drawn = overlay(image, np.array([[0.0], [1.0]]), low=0.0, high=1.0).astype(int).sum(2)
    assert drawn.shape == (4, 2)
    assert (drawn[-1] > drawn[0]).all() and (drawn[:, 1] > drawn[:, 0]).all()
    flat = overlay(image, np.ones((2, 1)), low=1.0, high=1.0)
    assert np.array_equal(flat[0], flat[-1])  # a constant map is dark, and no division by zero


@pytest.mark.parametrize(
    "row, column, words", [(0, 0, "top left"), (4, 1, "bottom centre"), (2, 2, "middle right"), (1, 0, "top left")]
)
def test_where_a_response_is_strongest_is_told_in_words(row, column, words):
    response = np.zeros((5, 3))
    response[row, column] = 1
    assert strongest(response) == words


def test_the_mean_inside_weighs_a_cell_by_what_is_hidden_of_it():
    hidden = torch.zeros(4, 2)
    hidden[:3] = 1  # of the two rows of the map all of the first, a half of the second
    assert mean_inside(np.array([[1.0], [0.25]]), hidden) == pytest.approx(100 * (1 + 0.5 * 0.25) / 1.5)
    assert Inside(1.0, 2.0).occluded == 2.0


def test_an_image_that_cannot_be_read_is_one_line(igoas_cfg, tmp_path):
    with pytest.raises(InputError, match="absent.png cannot be read: there is no such file"):
        maps_of(igoas_cfg, None, [str(tmp_path / "absent.png")], ["absent"])
