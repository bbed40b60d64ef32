import random

import numpy as np
import pytest
import torch
from fastreid.utils.events import EventStorage

import igoas_plugin
from igoas_plugin.core.errors import InputError
from igoas_plugin.occlusion import OCCLUSION_REGISTRY, build_occlusion


def block(seed=3, **keys):
    cfg = igoas_plugin.get_cfg()
    cfg.SEED, cfg.SOLVER.MAX_EPOCH = seed, 90
    for key, value in keys.items():
        cfg.MODEL.OCCLUSION[key] = value
    return build_occlusion(cfg)


def images(seed=0, count=4):
    return torch.randn(count, 3, 64, 32, generator=torch.Generator().manual_seed(seed))


def at(iteration=0, epoch=None):
    storage = EventStorage(iteration)
    if epoch is not None:
        storage.epoch = epoch
    return storage


@pytest.mark.parametrize("epoch, share", [(0, 0.1), (45, 0.3), (55, 0.1 + 0.4 * 55 / 90), (56, 1 / 3), (89, 1 / 3)])
def test_the_covered_share_follows_the_schedule(epoch, share):
    with at(7, epoch):
        _, visible = block()(images())
    # sides are rounded to pixels: at most half a row and half a column of 64 x 32
    assert float((1 - visible).mean()) == pytest.approx(share, abs=(64 / 2 + 32 / 2) / (64 * 32))


def test_each_channel_has_one_value_in_the_unit_interval():
    fills = []
    for iteration in range(50):
        with at(iteration, 0):
            occluded, visible = block()(images())
        hidden = occluded.permute(1, 0, 2, 3)[:, visible[:, 0] == 0]
        assert (hidden == hidden[:, :1]).all()
        fills.append(hidden[:, 0])
    fills = torch.stack(fills)
    assert 0 <= fills.min() < 0.1 and 0.9 < fills.max() <= 1
    assert (fills[:, 0] != fills[:, 1]).all() and (fills[:, 1] != fills[:, 2]).all()


def test_pixel_fill_covers_the_range_of_pixels_before_normalisation():
    cfg = igoas_plugin.get_cfg()
    mean, std = (torch.tensor(value).view(3, 1) for value in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD))
    pixels = []
    for iteration in range(50):
        with at(iteration, 0):
            occluded, visible = block(FILL="pixel")(images())
        hidden = occluded.permute(1, 0, 2, 3)[:, visible[:, 0] == 0][:, :1]
        pixels.append(hidden * std + mean)
    pixels = torch.cat(pixels, 1)
    assert -0.01 <= pixels.min() < 25 and 230 < pixels.max() <= 255.01


@pytest.mark.parametrize("name", ["IncrementalErasing", "IncrementalDrop"])
def test_with_a_rectangle_for_each_image_the_images_differ_and_the_share_follows_the_schedule(name):
    batch = images(count=16)
    with at(7, 45) as storage:
        occluded, visible = block(NAME=name, PER_IMAGE=True)(batch)
        logged = storage.latest()["occlusion/share"][0]
    assert torch.equal(occluded * visible, batch * visible)
    boxes, values = set(), set()
    for image, mask in zip(occluded, visible[:, 0], strict=True):
        rows, columns = (mask == 0).any(1).nonzero().flatten(), (mask == 0).any(0).nonzero().flatten()
        boxes.add((int(rows[0]), int(columns[0]), len(rows), len(columns)))
        assert int((mask == 0).sum()) == len(rows) * len(columns)  # one rectangle
        hidden = image[:, mask == 0]
        assert (hidden == hidden[:, :1]).all()
        values.add(tuple(hidden[:, 0].tolist()))
    assert len(boxes) == 16 and len(values) == (16 if name == "IncrementalErasing" else 1)
    # sides are rounded to pixels: at most half a row and half a column of 64 x 32
    assert logged == pytest.approx(float((1 - visible).mean())) and logged == pytest.approx(0.3, abs=48 / 2048)


def test_no_global_generator_is_touched():
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    with at(5, 10):
        block(seed=-1)(images())
    assert states() == before


def test_outside_a_run_it_is_epoch_0_and_each_call_draws_anew():
    occluder = block()
    masks = [occluder(images())[1] for _ in range(20)]
    assert len({tuple(mask[0].flatten().tolist()) for mask in masks}) > 10
    assert max(float((1 - mask).mean()) for mask in masks) < 0.15


def test_an_event_storage_without_epoch_is_epoch_0():
    with at(5):
        _, visible = block()(images())
    assert float((1 - visible).mean()) == pytest.approx(0.1, abs=0.025)


def test_the_paper_s_schedule_grows_within_an_epoch():
    occluder, shares = block(SCHEDULE="paper", EPOCHS=10, AREA_FINAL=0.33), []
    for iteration in (0, 1, 20):
        with at(iteration, epoch=iteration // 4) as storage:
            storage.iters_per_epoch = 4
            occluder(torch.zeros(1, 3, 2000, 1000))
            shares.append(storage.latest()["occlusion/share"][0])
    # 40 iterations in all; sides are rounded to pixels: less than a pixel in 400
    assert shares == pytest.approx([0.1, 0.1 + 0.23 / 40, 0.215], rel=1 / 400)


def test_probability_decides_over_whole_batches():
    clean = 0
    occluder = block(PROB=0.25)
    for iteration in range(400):
        with at(iteration, 0) as storage:
            occluded, visible = occluder(images())
            share = storage.latest()["occlusion/share"][0]
        assert share == pytest.approx(float((1 - visible).mean()))
        if visible.min() == 1:
            clean += 1
            assert torch.equal(occluded, images())
    # binomial: 300 +- 5 * sqrt(400 * 0.75 * 0.25)
    assert abs(clean - 300) < 44


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("ASPECT_MIN", 0.0, r"ASPECT_MIN must be in \(0, 1\], got 0.0"),
        ("ASPECT_MIN", 1.1, r"ASPECT_MIN must be in \(0, 1\], got 1.1"),
        ("PROB", -0.1, r"PROB must be in \[0, 1\], got -0.1"),
        ("FILL", "grey", "FILL must be normalised or pixel, got grey"),
    ],
)
def test_a_value_outside_its_range_is_refused(key, value, message):
    with pytest.raises(InputError, match=message):
        block(**{key: value})


def test_a_block_of_the_user_s_own_is_found_by_name():
    @OCCLUSION_REGISTRY.register()
    def Blind(cfg):
        return torch.nn.Identity()

    assert isinstance(block(NAME="Blind"), torch.nn.Identity)
