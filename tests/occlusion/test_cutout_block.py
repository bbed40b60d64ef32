"""Reading and placing of cut-outs."""

import numpy as np
import pytest
import torch
from PIL import Image

from igoas_plugin.core.errors import InputError
from igoas_plugin.occlusion.cutout_block import LARGEST, CutoutOcclusion, draw_layer, read_cutouts


def save(path, alpha, colour=(10, 20, 30)):
    pixels = np.zeros((*np.shape(alpha), 4), dtype=np.uint8)
    pixels[..., :3], pixels[..., 3] = colour, alpha
    Image.fromarray(pixels).save(path)


def test_transparent_borders_are_cut_off_and_alpha_is_a_share(tmp_path):
    alpha = np.zeros((20, 30))
    alpha[4:10, 5:25] = 255
    alpha[4, 5] = 128
    save(tmp_path / "a.png", alpha)
    [cutout] = read_cutouts(str(tmp_path))
    assert cutout.shape == (4, 6, 20)
    assert cutout[3, 0, 0] == pytest.approx(128 / 255) and cutout[3, 1:].eq(1).all()
    assert cutout[:3, 3, 3].tolist() == [10, 20, 30]


def test_large_files_are_kept_small_in_memory_with_their_shape(tmp_path):
    save(tmp_path / "a.png", np.full((1500, 3000), 255))
    [cutout] = read_cutouts(str(tmp_path))
    assert cutout.shape == (4, LARGEST // 2, LARGEST)


def test_palette_images_with_transparency_are_read(tmp_path):
    image = Image.new("P", (6, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50] + [0] * 750)
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "a.png", transparency=0)
    [cutout] = read_cutouts(str(tmp_path))
    assert cutout[3, 0, 0] == 0 and cutout[:3, 1, 1].tolist() == [200, 100, 50]


def no_alpha(folder):
    Image.new("RGB", (5, 5)).save(folder / "a.png")


def transparent(folder):
    save(folder / "a.png", np.full((5, 5), 20))


def wires(folder):
    """Lines of one pixel, which the thumbnail of a large image washes out."""
    alpha = np.zeros((2048, 2048), dtype=np.uint8)
    alpha[::64] = alpha[:, ::64] = 255
    save(folder / "a.png", alpha)


def text(folder):
    (folder / "a.png").write_text("no image")


@pytest.mark.parametrize("make, message", [
    (no_alpha, "a.png has no alpha channel: cut the object out"),
    (transparent, "a.png has no opaque pixels: remove it from the folder"),
    (wires, "a.png has no opaque pixels: remove it from the folder"),
    (text, "a.png cannot be read"),
    (lambda folder: None, "no images in"),
    (lambda folder: folder.rmdir(), "cannot read the folder"),
])  # fmt: skip
def test_what_is_no_cutout_is_refused_by_name(make, message, tmp_path):
    make(tmp_path)
    with pytest.raises(InputError, match=message):
        read_cutouts(str(tmp_path))


def cutout(height, width):
    return torch.ones(4, height, width)


@pytest.mark.parametrize("shape", [(10, 10), (100, 10), (10, 100), (3, 400)])
@pytest.mark.parametrize("share", [0.1, 0.35])
def test_a_cutout_covers_the_share_though_the_border_cuts_it_off(shape, share):
    for seed in range(20):
        layer = draw_layer(np.random.default_rng(seed), [cutout(*shape)], (128, 64), share)
        covered = float((layer[3] >= 0.5).float().mean())
        assert layer.shape == (4, 128, 64)
        # a step towards the share may end above it, by less than the growth of both sides in one step
        assert 0.9 * share < covered < 1.6 * share


@pytest.mark.parametrize("channels", [1, 3])
def test_cutouts_are_normalised_as_the_images_are(channels):
    block = CutoutOcclusion(
        schedule=lambda progress: 0.2, cutouts=[10 * cutout(4, 4)], pixel_mean=[4.0] * channels,
        pixel_std=[2.0] * channels, prob=1.0, mask="occluded", seed=0, truncation=None,
    )  # fmt: skip
    assert block.cutouts[0].shape == (4, 4, 4) and block.cutouts[0][:3].unique().tolist() == [3.0]


def test_an_object_with_a_hole_ends_though_it_cannot_cover_the_share():
    ring = torch.zeros(4, 100, 100)
    ring[:, [0, -1]], ring[:, :, [0, -1]] = 1, 1
    layer = draw_layer(np.random.default_rng(0), [ring], (128, 64), 0.5)
    assert layer.shape == (4, 128, 64)


def test_objects_places_and_sides_differ():
    wide = torch.ones(4, 10, 20)
    wide[0, :, :10] = 5  # its left half
    layers = [draw_layer(np.random.default_rng(seed), [wide], (128, 64), 0.1) for seed in range(40)]
    tops = [int((layer[3] > 0.5).nonzero()[0, 0]) for layer in layers]
    assert min(tops) < 15 and max(tops) > 85
    left_first = [bool(layer[0].argmax() % 64 < 32) for layer in layers]
    flipped = [int(layer[0, top + 2].argmax()) > int((layer[3, top + 2] > 0.5).nonzero()[0]) + 3
               for layer, top in zip(layers, tops, strict=True)]  # fmt: skip
    assert 8 < sum(flipped) < 32 and len(set(left_first)) == 2
