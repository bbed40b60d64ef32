import base64
import io

import numpy as np
import pytest
from PIL import Image

from igoas_plugin.core.errors import UnreadableImage
from igoas_plugin.reports.html.thumbnails import thumbnail


def decoded(small) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(small.uri.removeprefix("data:image/jpeg;base64,"), validate=True)))


@pytest.mark.parametrize("size, shown", [((600, 300), (240, 120)), ((100, 1000), (24, 240)), ((7, 5), (7, 5))])
def test_a_picture_keeps_its_shape_and_is_never_enlarged(size, shown):
    small = thumbnail(np.zeros((*size[::-1], 3), np.uint8), alt="black")
    assert (small.width, small.height) == decoded(small).size == shown and small.alt == "black"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "CMYK", "1"])
def test_files_of_every_mode_are_shown_in_their_colours(tmp_path, mode):
    Image.new("RGB", (20, 20), (255, 255, 255)).convert(mode).save(tmp_path / "white.tif")
    assert np.asarray(decoded(thumbnail(tmp_path / "white.tif", alt=""))).min() >= 250  # JPEG rounds


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UnreadableImage, match="a.png cannot be read: there is no such file"):
        thumbnail(tmp_path / "a.png", alt="")
