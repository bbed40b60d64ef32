"""Drawn objects: their pictures, where they stand, what they hide, and pedestrians of the batch."""

import numpy as np
import pytest
import torch

from igoas_plugin.core.errors import InputError
from igoas_plugin.occlusion.drawn_objects import BORDER, KINDS, VARIANTS, draw_atlas, draw_bodies
from igoas_plugin.occlusion.drawn_occluders import OPAQUE, DrawnOccluders, resample
from igoas_plugin.occlusion.object_placement import POINTS, draw_placement

MEAN, STD = [120.0, 110.0, 100.0], [60.0, 55.0, 50.0]
SIZE = (96, 48)


def occluders(objects=3, pedestrians=0.4, names=tuple(KINDS)):
    return DrawnOccluders(objects, pedestrians, MEAN, STD, names)


def hidden_by(block, seed=0, share=0.3, images=None):
    """Returns which pixels of each image are hidden, (B, H, W)."""
    images = torch.zeros(8, 3, *SIZE) if images is None else images
    return block(np.random.default_rng(seed), images, share)[1][:, 0] == 0


# Pictures


def test_every_picture_is_an_object_with_a_transparent_border_and_always_the_same():
    for cells, table in (draw_atlas(), draw_bodies()):
        alpha = cells[:, 3]
        inside = alpha[:, BORDER:-BORDER, BORDER:-BORDER]
        assert len(cells) == len(table) and alpha.sum() == inside.sum()
        assert ((alpha >= 255 * OPAQUE).float().mean((1, 2)) > 0.1).all()
        assert (cells[:, :3] <= cells[:, 3:]).all()  # colours are multiplied by alpha
    assert len(draw_atlas().cells) == VARIANTS * len(KINDS)
    again = draw_atlas.__wrapped__(("handbag", "bush"))
    assert torch.equal(again.cells, draw_atlas(("handbag", "bush")).cells)
    assert len({picture.numpy().tobytes() for picture in draw_atlas().cells}) == len(draw_atlas().cells)


def test_a_picture_is_resampled_as_by_a_slow_loop():
    picture = torch.rand(1, 2, 6, 5, generator=torch.Generator().manual_seed(0))
    picture[..., [0, -1], :] = picture[..., [0, -1]] = 0
    for top, left, height, width, blur in (
        (0.0, 0.0, 1.0, 1.0, 0.0), (0.2, -0.3, 0.9, 0.8, 0.0), (0.1, 0.9, 0.3, -0.6, 0.0), (0.5, 0.2, 1.5, 0.4, 0.2)
    ):  # fmt: skip
        box = [torch.tensor([each]) for each in (top, left, height, width)]
        got = resample(picture.transpose(1, 2), box, (12, 8), torch.tensor([blur]))[0].transpose(0, 1)
        for y in range(12):
            for x in range(8):
                row = ((y + 0.5) / 12 - top) / height * 6 - 0.5
                column = ((x + 0.5) / 8 - left) / width * 5 - 0.5
                reach_y = max(6 / (12 * abs(height)), 1) + blur * 6
                reach_x = max(5 / (8 * abs(width)), 1) + blur * 5
                down = [max(0, 1 - abs(row - each) / reach_y) for each in range(6)]
                right = [max(0, 1 - abs(column - each) / reach_x) for each in range(5)]
                total = sum(down) * sum(right)
                for channel in range(2):
                    expected = sum(
                        down[i] * right[j] * picture[0, channel, i, j].item() for i in range(6) for j in range(5)
                    )
                    expected = expected / total if total else 0
                    assert got[channel, y, x].item() == pytest.approx(expected, abs=1e-5)


# Masks


@pytest.mark.parametrize("pedestrians", [0.0, 1.0])
def test_the_mask_is_0_under_opaque_pixels_and_1_elsewhere(pedestrians):
    # image 0 is pasted on as 0 and as 1; its donor is 0 in both, so that the difference is what still shows of it
    black, white = torch.zeros(2, 3, *SIZE), torch.zeros(2, 3, *SIZE)
    white[0] = 1
    for seed in range(3):
        block = occluders(pedestrians=pedestrians)
        on_black, visible, _ = block(np.random.default_rng(seed), black, 0.3)
        on_white, again, _ = block(np.random.default_rng(seed), white, 0.3)
        shown = (on_white - on_black)[0, 0]
        assert torch.equal(visible, again)
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                if abs(shown[y, x].item() - (1 - OPAQUE)) > 1e-5:  # else rounding decides
                    assert visible[0, 0, y, x] == (shown[y, x] > 1 - OPAQUE)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.35])
@pytest.mark.parametrize("objects, pedestrians", [(1, 0.0), (3, 0.4), (2, 1.0)])
def test_the_objects_of_each_image_cover_the_share_together(share, objects, pedestrians):
    covered = hidden_by(occluders(objects, pedestrians), 1, share, torch.zeros(32, 3, 128, 64)).float().mean((1, 2))
    # measured at 512 points, and blurred: thin parts of an object can vanish
    assert covered.mean() == pytest.approx(share, abs=0.015)
    assert ((covered - share).abs() < 0.06).all()


def test_the_covered_share_is_that_of_a_slow_loop():
    table, opaque, rng = draw_atlas().table, occluders().opaque, np.random.default_rng(0)
    placement = draw_placement(rng, table, opaque, rng.integers(len(table), size=(3, 2)))
    scale = np.array([0.4, 1.0, 1.5])
    boxes = placement.boxes(scale)
    for image, covered in enumerate(placement.covered(scale)):
        points = 0
        for y in (np.arange(POINTS[0]) + 0.5) / POINTS[0]:
            for x in (np.arange(POINTS[1]) + 0.5) / POINTS[1]:
                hits = []
                for number in np.flatnonzero(placement.present[image]):
                    top, left, height, width = boxes[:, image, number]
                    down, right = (y - top) / height, (x - left) / width
                    picture = opaque[placement.picture[image, number]]
                    inside = 0 <= down < 1 and 0 <= right < 1
                    hits.append(inside and picture[int(down * len(picture)), int(right * len(picture))])
                points += any(hits)
        assert covered == pytest.approx(points / (POINTS[0] * POINTS[1]))


# Places


def test_luggage_stands_on_the_ground_and_an_umbrella_hangs_in_from_above():
    for name in ("suitcase", "handbag", "rucksack", "litter bin"):
        for share in (0.1, 0.33):
            hidden = hidden_by(occluders(1, 0.0, (name,)), 2, share)
            assert hidden[:, -1].any(1).all(), name
            assert not hidden[:, 0].any(), name
    for name in ("umbrella", "branch"):
        hidden = hidden_by(occluders(1, 0.0, (name,)), 2, 0.1)
        assert hidden[:, 0].any(1).all() and not hidden[:, -1].any(), name


def test_signs_come_in_from_both_sides_and_stand_beside_the_middle():
    table, rng = draw_atlas(("sign",)).table, np.random.default_rng(0)
    placement = draw_placement(rng, table, np.ones((VARIANTS, 2, 2), bool), np.zeros((40, 1), int))
    assert set(placement.side.ravel()) == {-1, 1}
    top, left, height, width = placement.boxes(np.full(40, 0.01))[..., 0]
    edges = np.sort([left, left + width], axis=0)
    assert ((edges[1] < 0.03) | (edges[0] > 0.97)).all()
    top, left, height, width = placement.boxes(np.full(40, 1.0))[..., 0]
    assert (np.abs(left + width / 2 - 0.5) >= 0.1 - 1e-9).all() and (top + height > 1).all()


def test_a_small_share_shows_a_part_of_an_object_of_its_usual_size_at_the_border():
    placement = draw_placement(
        np.random.default_rng(0), draw_bodies().table, np.ones((3, 2, 2), bool), np.zeros((30, 1), int)
    )
    sizes = [placement.boxes(np.full(30, scale))[2] for scale in (0.05, 0.5, 0.9, 1.8)]
    np.testing.assert_allclose(sizes[0], sizes[2])
    np.testing.assert_allclose(2 * sizes[2], sizes[3])
    below = placement.side[:, 0] == 0
    assert below.any() and (placement.boxes(np.full(30, 0.01))[0, below] > 0.98).all()


def test_images_get_one_to_most_objects():
    block = occluders(objects=3)
    placement = draw_placement(np.random.default_rng(0), block.table, block.opaque, np.zeros((60, 3), int))
    assert set(placement.present.sum(1)) == {1, 2, 3}


# Pedestrians and colours


def test_a_pedestrian_of_the_batch_is_one_of_the_other_images():
    numbers = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, *SIZE)
    pairs = set()
    for seed in range(20):
        occluded, visible, _ = occluders(1, 1.0)(np.random.default_rng(seed), numbers, 0.3)
        core = torch.nn.functional.max_pool2d(visible, 7, 1, 3)[:, 0] == 0  # without the soft edge
        for own, (pixels, inside) in enumerate(zip(occluded[:, 0], core, strict=True)):
            donor = round(pixels[inside].median().item())
            assert pixels[inside].median().item() == pytest.approx(donor, abs=0.01)  # the rest is near the soft edge
            pairs.add((own, donor))
    assert {own for own, _ in pairs} == set(range(6)) and all(own != donor for own, donor in pairs)
    assert len(pairs) > 20
    assert hidden_by(occluders(1, 1.0), images=numbers[:1]).any()  # an image alone gives to itself


def test_plants_stay_green_and_bags_have_any_colour():
    def colours(name):
        images = torch.zeros(30, 3, *SIZE)
        occluded, visible, _ = occluders(1, 0.0, (name,))(np.random.default_rng(0), images, 0.3)
        pixels = occluded * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
        assert -0.01 <= pixels.min() and pixels.max() <= 255.01
        return [
            each[:, hidden].mean(1).argmax().item() for each, hidden in zip(pixels, visible[:, 0] == 0, strict=True)
        ]

    green = colours("bush")
    assert green.count(1) > 25 and set(colours("handbag")) == {0, 1, 2}


# Randomness, dtype, refusals


def test_the_generator_alone_decides_and_the_images_are_not_changed():
    images = torch.randn(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    before, state = images.clone(), torch.get_rng_state().clone()
    first, _, share = occluders()(np.random.default_rng(5), images, 0.3)
    second, _, same = occluders()(np.random.default_rng(5), images, 0.3)
    assert torch.equal(first, second) and share == same and torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(occluders()(np.random.default_rng(6), images, 0.3)[0], first)


def test_16_bit_images_are_occluded_in_the_same_places():
    images = torch.rand(4, 3, *SIZE)
    occluded, visible, _ = occluders(pedestrians=0.0)(np.random.default_rng(5), images, 0.3)
    with torch.autocast("cpu", torch.bfloat16):
        half, mask, _ = occluders(pedestrians=0.0)(np.random.default_rng(5), images.bfloat16(), 0.3)
    assert half.dtype == mask.dtype == torch.bfloat16 and torch.equal(mask.float(), visible)
    torch.testing.assert_close(half.float(), occluded, atol=0.02, rtol=0.02)  # bfloat16 has 8 bits


@pytest.mark.parametrize("objects, pedestrians, message", [
    (0, 0.4, "MODEL.OCCLUSION.OBJECTS must be 1 or more, got 0"),
    (3, 1.5, r"MODEL.OCCLUSION.PEDESTRIANS must be in \[0, 1\], got 1.5"),
    (3, -0.1, r"MODEL.OCCLUSION.PEDESTRIANS must be in \[0, 1\], got -0.1"),
])  # fmt: skip
def test_a_value_outside_its_range_is_refused(objects, pedestrians, message):
    with pytest.raises(InputError, match=message):
        occluders(objects, pedestrians)


@pytest.mark.gpu
def test_a_gpu_is_not_waited_for():
    images, block = torch.randn(8, 3, 128, 64, device="cuda"), occluders()
    block(np.random.default_rng(0), images, 0.3)  # copies the pictures
    torch.cuda.set_sync_debug_mode("error")
    try:
        occluded, visible, _ = block(np.random.default_rng(1), images, 0.3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected, mask, _ = occluders()(np.random.default_rng(1), images.cpu(), 0.3)
    torch.testing.assert_close(occluded.cpu(), expected, atol=1e-3, rtol=1e-3)
    assert (visible.cpu() != mask).float().mean() < 1e-3
