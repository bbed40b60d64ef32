import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import struct
import warnings

import numpy as np
import pytest
from fastreid.data.common import CommDataset
from fastreid.data.data_utils import read_image
from fastreid.data.transforms import ToTensor
from PIL import EpsImagePlugin, Image, PngImagePlugin

from igoas_plugin.core.errors import UnreadableImage

PIXELS = np.random.default_rng(0).integers(256, size=(8, 6, 3), dtype=np.uint8)


def test_without_the_plugin_images_of_other_modes_do_not_come_as_rgb(raw_host):
    seen = raw_host["images_of_other_modes"]
    assert seen["RGBA"] == "RGBA"
    assert seen["CMYK"] == "RGBA"  # four inks, taken for red, green, blue and alpha
    assert seen["LA"] == "LA"
    assert seen["1"] == "TypeError"
    assert seen["orange in a palette"] == [7, 7, 7]


@pytest.mark.parametrize("kind", ["png", "bmp", "jpg"])
def test_rgb_images_are_bit_identical_to_their_files(tmp_path, kind):
    path = tmp_path / f"image.{kind}"
    Image.fromarray(PIXELS).save(path)
    image = read_image(str(path))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.open(path)))


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "P", "L", "LA", "1", "YCbCr", "I;16"])
def test_images_of_every_mode_come_with_three_channels(tmp_path, mode):
    path = str(tmp_path / "image.tiff")
    image = (
        Image.fromarray(PIXELS).convert("L").convert(mode) if mode == "I;16" else Image.fromarray(PIXELS).convert(mode)
    )
    image.save(path, compression="tiff_lzw")  # Pillow 12.3 cannot read the uncompressed YCbCr that it writes
    sample = CommDataset([(path, 0, 0)], transform=ToTensor())[0]
    assert sample["images"].shape == (3, 8, 6)


def test_alpha_is_dropped(tmp_path):
    alpha = np.full((8, 6, 1), 128, dtype=np.uint8)
    Image.fromarray(np.concatenate([PIXELS, alpha], axis=2)).save(tmp_path / "image.png")
    np.testing.assert_array_equal(np.asarray(read_image(str(tmp_path / "image.png"))), PIXELS)


def test_cmyk_keeps_its_colours(tmp_path):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "red.tiff")  # magenta and yellow
    assert read_image(str(tmp_path / "red.tiff")).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("transparency", [None, bytes(range(256))])
def test_palettes_become_their_colours_without_a_warning(tmp_path, transparency):
    image = Image.new("P", (1, 1), 7)
    image.putpalette([0] * 21 + [200, 100, 50] + [0] * 744)
    image.save(tmp_path / "orange.png", **({"transparency": transparency} if transparency else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(str(tmp_path / "orange.png")).getpixel((0, 0)) == (200, 100, 50)


def test_grey_images_have_their_value_in_all_channels(tmp_path):
    grey = PIXELS[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(np.asarray(read_image(str(tmp_path / "grey.png"))), np.stack([grey] * 3, axis=2))


def test_16_bit_grey_is_scaled_to_8_bits(tmp_path):
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(tmp_path / "grey.png")
    assert np.asarray(read_image(str(tmp_path / "grey.png")))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_images_are_turned_as_their_exif_data_say(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees clockwise
    Image.fromarray(PIXELS).save(tmp_path / "image.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(read_image(str(tmp_path / "image.png"))), np.rot90(PIXELS, k=-1))


def test_a_format_that_is_asked_for_is_given_as_before(tmp_path):
    path = str(tmp_path / "image.png")
    Image.fromarray(PIXELS).save(path)
    np.testing.assert_array_equal(np.asarray(read_image(path, "BGR")), PIXELS[:, :, ::-1])
    np.testing.assert_array_equal(np.asarray(read_image(path, "RGB")), PIXELS)


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp"])
def test_a_torn_file_is_an_error(tmp_path, kind):
    path = tmp_path / f"image.{kind}"
    Image.fromarray(np.tile(PIXELS, (20, 20, 1))).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(OSError):
        read_image(str(path))


def test_a_broken_file_of_a_kind_for_which_pillow_raises_other_errors_is_unreadable_too(tmp_path):
    path = tmp_path / "image.dds"
    Image.fromarray(PIXELS).save(path)
    content = bytearray(path.read_bytes())
    content[80:84] = (147).to_bytes(4, "little")  # flags of the pixel format, which Pillow does not know
    path.write_bytes(content)
    with pytest.raises(NotImplementedError), Image.open(path):
        pass
    with pytest.raises(UnreadableImage, match="image.dds cannot be read: Unknown pixel format flags 147"):
        read_image(str(path))


def test_eps_is_a_program_and_is_not_run(tmp_path, monkeypatch):
    path = tmp_path / "image.jpg"
    Image.fromarray(PIXELS).save(path, format="EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **kwargs: pytest.fail("Ghostscript is called"))
    with Image.open(path) as image, pytest.raises(pytest.fail.Exception, match="Ghostscript"):
        image.load()
    with pytest.raises(UnreadableImage, match="of a kind that is not opened"):
        read_image(str(path))


@pytest.mark.parametrize("error", [KeyError("mode"), IndexError(), struct.error("unpack"), EOFError(), MemoryError()])
def test_whatever_pillow_raises_is_told_in_one_line_that_names_the_file(tmp_path, monkeypatch, error):
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: (_ for _ in ()).throw(error))
    with pytest.raises(UnreadableImage, match=f"image.png cannot be read: .*({type(error).__name__}|{error})"):
        read_image(str(path))
