"""Folders whose files are named as those of Market-1501 or of DukeMTMC-reID."""

import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import pytest

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.market_style import list_images


def folder_of(path, *names) -> str:
    for name in names:
        (path / name).write_bytes(b"image")
    return str(path)


def test_both_forms_of_a_camera_are_read_junk_is_left_out_and_distractors_are_kept(tmp_path):
    names = {
        "-1_c3s1_000451_03.jpg": None,
        "-1_c3_f0046182.png": None,
        "0000_c2s3_070952_01.jpg": (0, 1),
        "0001_c2_f0046182.jpg": (1, 1),
        "0002_c1s1_000451_03.JPG": (2, 0),
        "0002_c015_00016495_0.jpg": (2, 14),  # VeRi
        "1501_c6s4_001902_01.png": (1501, 5),
    }
    folder = folder_of(tmp_path, *names)
    found = {path[len(folder) + 1 :]: labels for path, *labels in list_images(folder)}
    assert found == {name: list(labels) for name, labels in names.items() if labels}
    train = list_images(folder, "mine")
    assert [labels for _, *labels in train][:2] == [["mine_0", "mine_1"], ["mine_1", "mine_1"]]


@pytest.mark.parametrize("name", ["-2_c1s1_000451_03.jpg", "0002_c0s1_000451_03.jpg", "0002_c1s_000451_03.jpg"])
def test_a_name_of_neither_form_is_named(name, tmp_path):
    folder = folder_of(tmp_path, "0002_c1s1_000451_03.jpg", name)
    with pytest.raises(InputError, match=f"{name}: the name does not begin with identity and camera as 0001_c2_"):
        list_images(folder)


def test_a_folder_of_junk_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds images of identity -1 alone, which are left out as junk"):
        list_images(folder_of(tmp_path, "-1_c3s1_000451_03.jpg"))
