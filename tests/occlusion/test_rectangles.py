import math

import numpy as np

from igoas_plugin.occlusion.rectangles import draw_rectangle

SIZES = [(384, 128), (256, 128), (128, 64), (64, 64), (32, 16), (7, 5)]


def draw_many(height, width, share, aspect_min=0.5, count=300):
    rng = np.random.default_rng(0)
    return [draw_rectangle(rng, height, width, share, aspect_min) for _ in range(count)]


def test_every_rectangle_lies_in_the_image():
    outside = [
        (height, width, share, box)
        for height, width in SIZES
        for share in (0.02, 0.1, 0.25, 1 / 3, 0.5, 0.9)
        for box in draw_many(height, width, share)
        if min(box.top, box.left) < 0
        or min(box.height, box.width) < 1
        or box.top + box.height > height
        or box.left + box.width > width
    ]
    assert outside == []


def test_the_area_is_the_share_but_for_rounding_to_pixels():
    wrong = [
        (share, box)
        for share in (0.1, 0.2, 1 / 3, 0.4)
        for box in draw_many(384, 128, share)
        # half a pixel on each side: (h + 1/2)(w + 1/2) - hw = (h + w) / 2 + 1/4
        if abs(box.height * box.width - share * 384 * 128) > (box.height + box.width) / 2 + 0.25
    ]
    assert wrong == []


def test_aspects_spread_from_the_smallest_to_square():
    aspects = [box.height / box.width for box in draw_many(384, 128, 0.1)]
    # sqrt(0.1 * 384 * 128) = 70 pixels: it fits down to an aspect of 0.5 nearly always
    assert 0.49 <= min(aspects) < 0.55 and 0.95 < max(aspects) <= 1.01


def test_a_large_share_is_a_strip_of_full_width():
    # sqrt(0.4 * 384 * 128) = 140 > 128
    boxes = draw_many(384, 128, 0.4)
    assert {(box.height, box.width, box.left) for box in boxes} == {(round(0.4 * 384), 128, 0)}


def test_positions_are_uniform_over_all_that_fit():
    boxes = draw_many(4, 2, share=0.5, count=8000)  # a strip of 2 rows: tops 0, 1, 2
    counts = np.bincount([box.top for box in boxes], minlength=3)
    # binomial: standard deviation sqrt(8000 * 1/3 * 2/3) = 42; five of them
    assert np.abs(counts - 8000 / 3).max() < 5 * math.sqrt(8000 * 2 / 9)


def test_positions_are_uniform_in_both_directions():
    boxes = draw_many(3, 4, share=1 / 3, aspect_min=1.0, count=8000)  # 2 x 2 pixels: tops 0, 1 and lefts 0, 1, 2
    assert {(box.height, box.width) for box in boxes} == {(2, 2)}
    counts = np.bincount([3 * box.top + box.left for box in boxes], minlength=6)
    # binomial: standard deviation sqrt(8000 * 1/6 * 5/6) = 33; five of them
    assert len(counts) == 6 and np.abs(counts - 8000 / 6).max() < 5 * math.sqrt(8000 * 5 / 36)


def test_an_image_wider_than_high_is_served_too():
    box = draw_many(8, 256, 0.4, count=1)[0]
    assert (box.width, box.height) == (256, 3)


def test_the_same_generator_state_draws_the_same():
    assert draw_many(64, 32, 0.2) == draw_many(64, 32, 0.2)
