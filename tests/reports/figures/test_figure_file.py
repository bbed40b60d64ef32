import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.testing import assert_close

from igoas_plugin.core.errors import InputError
from igoas_plugin.reports.figures.figure_file import check_picture, palette, pixels_of, save_figure, show_image
from igoas_plugin.reports.figures.pixel_images import PixelScale, drawn, to_show


@pytest.fixture
def figure():
    figure = Figure(figsize=(2, 1))
    show_image(figure.subplots(), np.full((4, 2, 3), 200, np.uint8))
    return figure


@pytest.mark.parametrize("kind, begins", [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_a_figure_is_written_in_the_kind_that_its_path_ends_with(figure, tmp_path, kind, begins):
    path = tmp_path / "new" / f"picture.{kind}"
    save_figure(figure, str(path))
    assert path.read_bytes().startswith(begins)
    assert [each.name for each in path.parent.iterdir()] == [path.name]  # nothing is left beside it


def test_the_pixels_of_a_figure_are_those_of_its_file(figure, tmp_path):
    figure.set_dpi(120)
    save_figure(figure, str(tmp_path / "picture.png"))
    with Image.open(tmp_path / "picture.png") as file:
        np.testing.assert_array_equal(pixels_of(figure), np.asarray(file.convert("RGB")))


@pytest.mark.parametrize(
    "name, message",
    [
        ("picture.gif", "picture.gif: the end of its name must be png, pdf or svg, got gif"),
        ("picture", "the end of its name must be png, pdf or svg, got $"),
        ("file/picture.png", "file' cannot be written"),
    ],
)
def test_a_path_that_is_none_for_a_picture_is_refused(tmp_path, name, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=message):
        check_picture(str(tmp_path / name))
    check_picture(str(tmp_path / "new" / "picture.PNG"))


def test_up_to_twenty_names_have_different_colours():
    assert len(set(palette(range(20)).values())) == 20
    assert len(palette(range(25))) == 25


def test_a_random_choice_keeps_the_order_and_is_the_same_for_the_same_seed():
    chosen = drawn(range(100), 5, seed=1)
    assert chosen == sorted(chosen) == drawn(range(100), 5, seed=1) != drawn(range(100), 5, seed=2)
    assert drawn("abc", 5, seed=0) == ["a", "b", "c"]


def test_normalised_images_come_back_as_pixels():
    scale, images = PixelScale([100.0, 110.0, 120.0], [50.0, 60.0, 70.0]), 255 * torch.rand(2, 3, 4, 2)
    normalised = scale.normalised(images)
    assert_close(normalised[:, 1], (images[:, 1] - 110) / 60)
    assert_close(scale.pixels(normalised), images)
    shown = to_show(scale.pixels(normalised) + torch.tensor([0.0, 300.0, -300.0]).view(3, 1, 1))
    assert shown.shape == (2, 4, 2, 3) and shown.dtype == np.uint8
    assert (shown[..., 1] == 255).all() and (shown[..., 2] == 0).all()  # values out of range are clipped
