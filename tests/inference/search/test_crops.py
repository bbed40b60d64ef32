import os

import pytest
from small_predictor import draw

from igoas_plugin.core.errors import InputError
from igoas_plugin.inference.search.crops import crops_in


def paths(folder):
    return [crop.path for crop in crops_in(str(folder))[0]]


def test_images_of_every_kind_and_depth_are_found_and_nothing_else(tmp_path):
    images = ["A.PNG", "a.jpeg", "b/c/d.WebP", "b/x.bmp", "b/y.Tiff", "c.gif"]
    draw(tmp_path, [*images, ".hidden.png", ".cache/a.png", "b/._a.png"])
    for name in ("notes.txt", "labels.csv", "features.h5", "video.mpg", "page.eps", "png"):
        (tmp_path / name).write_text("no image")
    (tmp_path / "folder.png").mkdir()
    assert sorted(paths(tmp_path)) == images
    assert crops_in(str(tmp_path))[1] == {}


def test_size_and_time_tell_a_changed_file(tmp_path):
    draw(tmp_path, ["a.png"])
    [before] = crops_in(str(tmp_path))[0]
    assert before == ("a.png", (tmp_path / "a.png").stat().st_size, (tmp_path / "a.png").stat().st_mtime_ns)
    os.utime(tmp_path / "a.png", ns=(0, before.modified + 1))
    assert crops_in(str(tmp_path))[0] != [before]


def test_names_may_hold_anything(tmp_path):
    images = ["a b.png", "line\nend.png", "人 é.png", "<b>&\"'.png", "-x.png", "%s {0}.png"]
    draw(tmp_path, images)
    no_utf8 = os.fsencode(tmp_path) + b"/\xff.png"
    os.link(tmp_path / "a b.png", no_utf8)
    assert sorted(paths(tmp_path)) == sorted([*images, os.fsdecode(b"\xff.png")])


def test_links_are_followed_but_not_in_circles(tmp_path):
    draw(tmp_path, ["crops/a.png", "elsewhere/b.png"])
    crops = tmp_path / "crops"
    (crops / "file.png").symlink_to(tmp_path / "elsewhere/b.png")
    (crops / "folder").symlink_to(tmp_path / "elsewhere")
    (crops / "folder/back").symlink_to(crops)
    (crops / "itself").symlink_to(crops / "itself")
    (crops / "lost.png").symlink_to(tmp_path / "nowhere")
    found, broken = crops_in(str(crops))
    assert [crop.path for crop in found] == ["a.png", "file.png", "folder/b.png"]
    assert broken == {str(crops / "lost.png"): "No such file or directory"}


def test_a_folder_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^cannot read the folder .*/crops: No such file or directory$"):
        crops_in(str(tmp_path / "crops"))
