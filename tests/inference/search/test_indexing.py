import os
import shutil

import numpy as np
import pytest
from small_predictor import SmallPredictor, draw, names

from igoas_plugin.core.errors import InputError
from igoas_plugin.inference.search import indexing
from igoas_plugin.inference.search.gallery_file import GalleryFile
from igoas_plugin.inference.search.indexing import Counts, index_folder


@pytest.fixture
def crops(tmp_path):
    draw(tmp_path / "crops", names(18))
    return tmp_path / "crops"


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "out" / "gallery.index")


def descriptors_of(path) -> dict[str, np.ndarray]:
    with GalleryFile(path) as file:
        assert file.finished and len(file.index()) == len(file.gallery.crops)
        return dict(zip([crop.path for crop in file.gallery.crops], file.descriptors(), strict=True))


def assert_holds(path, folder) -> None:
    """Asserts that file and faiss index hold the descriptor of each image in a folder."""
    found, predictor = descriptors_of(path), SmallPredictor()
    assert found.keys() == {str(each.relative_to(folder)) for each in folder.rglob("*.png")}
    for name, descriptor in found.items():
        np.testing.assert_array_equal(descriptor, predictor([str(folder / name)])[0])
    with GalleryFile(path) as file:
        positions = file.index().search(np.stack([*found.values()]), 1)[1]
    assert positions[:, 0].tolist() == [*range(len(found))]


def test_only_what_is_new_or_changed_is_described_and_what_is_gone_is_dropped(crops, path):
    predictor = SmallPredictor()
    assert index_folder(str(crops), path, predictor) == Counts(added=18, kept=0, dropped=0, unreadable=0)
    assert predictor.described == 18
    (crops / "0/0000.png").unlink()
    draw(crops, ["1/0001.png", "new/a.png", "new/b.png"], seed=1)
    counts = index_folder(str(crops), path, predictor)
    assert counts == Counts(added=3, kept=16, dropped=2, unreadable=0) and predictor.described == 21
    assert str(counts) == "3 added, 16 already there, 2 gone or changed, 0 unreadable"
    assert_holds(path, crops)


def test_where_nothing_changed_nothing_is_written(crops, path):
    index_folder(str(crops), path, SmallPredictor())
    before, predictor = os.stat(path), SmallPredictor()
    assert index_folder(str(crops), path, predictor) == Counts(0, 18, 0, 0)
    after = os.stat(path)
    assert predictor.described == 0
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_unreadable_files_are_named_with_their_reason_and_tried_again(crops, path, host_log):
    (crops / "0/torn\n.png").write_bytes((crops / "0/0000.png").read_bytes()[:100])
    (crops / "empty.JPG").touch()
    (crops / "lost.png").symlink_to("nowhere")
    assert index_folder(str(crops), path, SmallPredictor()) == Counts(18, 0, 0, 3)
    told = [record.getMessage() for record in host_log.records if record.levelname == "WARNING"]
    assert len(told) == 3 and not any("\n" in line for line in told)
    assert f"{crops}/empty.JPG cannot be read: the file is empty" in told
    assert f"{crops}/lost.png cannot be read: No such file or directory" in told
    assert any(line.startswith(f"{crops}/0/torn\\n.png cannot be read: ") for line in told)
    (crops / "lost.png").unlink()
    (crops / "empty.JPG").unlink()
    draw(crops, ["0/torn\n.png"], seed=1)
    assert index_folder(str(crops), path, SmallPredictor()) == Counts(1, 18, 0, 0)
    assert_holds(path, crops)


def test_a_changed_file_that_cannot_be_read_leaves_the_index(crops, path):
    index_folder(str(crops), path, SmallPredictor())
    (crops / "0/0000.png").write_text("torn")
    assert index_folder(str(crops), path, SmallPredictor()) == Counts(0, 17, 1, 1)
    assert "0/0000.png" not in descriptors_of(path)


class Stopped(SmallPredictor):
    """Predictor that is stopped by Ctrl-C at the third batch."""

    def describe(self, images):
        if self.described == 8:
            raise KeyboardInterrupt
        return super().describe(images)


def test_ctrl_c_keeps_all_that_is_described_and_the_same_call_goes_on(crops, path):
    with pytest.raises(KeyboardInterrupt):
        index_folder(str(crops), path, Stopped())
    with GalleryFile(path) as file:
        assert len(file.gallery.crops) == 8 and not file.finished
    predictor = SmallPredictor()
    assert index_folder(str(crops), path, predictor) == Counts(10, 8, 0, 0)
    assert predictor.described == 10
    assert_holds(path, crops)


def test_ctrl_c_before_anything_is_described_leaves_a_finished_index_alone(crops, path):
    index_folder(str(crops), path, SmallPredictor())
    (crops / "0/0000.png").unlink()
    draw(crops, ["new.png"])
    stopped = Stopped()
    stopped.described = 8
    with pytest.raises(KeyboardInterrupt):
        index_folder(str(crops), path, stopped)
    assert len(descriptors_of(path)) == 18


def test_it_is_saved_now_and_then_and_a_failure_later_loses_no_more(crops, path, monkeypatch):
    class Failing(SmallPredictor):
        def describe(self, images):
            if self.described == 12:
                raise RuntimeError("out of memory")
            return super().describe(images)

    with pytest.raises(RuntimeError):
        index_folder(str(crops), path, Failing())
    assert not os.path.exists(path)  # within the first minute
    monkeypatch.setattr(indexing, "SAVE_SECONDS", 0)
    monkeypatch.setattr(indexing, "SAVE_SHARE", 1e9)
    with pytest.raises(RuntimeError):
        index_folder(str(crops), path, Failing())
    assert index_folder(str(crops), path, SmallPredictor()) == Counts(6, 12, 0, 0)
    assert_holds(path, crops)
    assert os.listdir(os.path.dirname(path)) == ["gallery.index"]


def test_an_index_of_another_model_is_refused_and_left_alone(crops, path):
    index_folder(str(crops), path, SmallPredictor())
    draw(crops, ["new.png"])
    other = SmallPredictor(weights="2f")
    with pytest.raises(InputError, match="gallery.index was made by another model than this one: other weights. Give"):
        index_folder(str(crops), path, other)
    assert other.described == 0 and "new.png" not in descriptors_of(path)


def test_a_moved_folder_goes_on_and_another_one_is_refused(crops, path, tmp_path):
    index_folder(str(crops), path, SmallPredictor())
    moved = shutil.move(crops, tmp_path / "moved")
    predictor = SmallPredictor()
    assert index_folder(str(moved), path, predictor) == Counts(0, 18, 0, 0) and predictor.described == 0
    with GalleryFile(path) as file:
        assert file.gallery.folder == str(moved)
    draw(tmp_path / "other", ["a.png"])
    with pytest.raises(
        InputError, match="is of the folder .*/moved, and none of its images is in .*/other: give anoth"
    ):
        index_folder(str(tmp_path / "other"), path, predictor)
    assert len(descriptors_of(path)) == 18


def test_the_kind_is_kept_or_changed_without_describing_anything(crops, path):
    index_folder(str(crops), path, SmallPredictor(), "hnsw")
    draw(crops, ["new.png"], seed=1)
    predictor = SmallPredictor()
    kinds = []
    for kind in (None, "ivf", "flat"):
        index_folder(str(crops), path, predictor, kind)
        with GalleryFile(path) as file:
            kinds.append((file.gallery.kind, type(file.index().index).__name__))
        assert_holds(path, crops)
    assert predictor.described == 1
    assert kinds == [("hnsw", "IndexHNSWFlat"), ("ivf", "IndexIVFFlat"), ("flat", "IndexFlatIP")]


def test_pq_learns_from_the_gallery_and_is_refused_for_a_small_one(tmp_path, path):
    draw(tmp_path / "crops", names(255))
    with pytest.raises(
        InputError, match="--kind pq learns from 256 images or more, and here are 255: take --kind flat"
    ):
        index_folder(str(tmp_path / "crops"), path, SmallPredictor(), "pq")
    assert not os.path.exists(path)
    draw(tmp_path / "crops", ["more.png"])
    assert index_folder(str(tmp_path / "crops"), path, SmallPredictor(), "pq").added == 256
    assert len(descriptors_of(path)) == 256


def test_a_width_that_pq_cannot_have_is_refused():
    with pytest.raises(InputError, match="--kind pq cannot be taken for this model: .* a multiple of 8, got 12"):
        indexing.empty_index("pq", 12, 1000)


def test_a_folder_without_an_image_is_refused_and_empties_no_index(crops, path, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="^no images in .*/empty: name the folder that holds the crops"):
        index_folder(str(tmp_path / "empty"), path, SmallPredictor())
    assert not os.path.exists(path)
    index_folder(str(crops), path, SmallPredictor())
    for image in crops.rglob("*.png"):
        image.write_text("torn")
    with pytest.raises(InputError, match="^no image in .*/crops can be read: nothing is written"):
        index_folder(str(crops), path, SmallPredictor())
    shutil.rmtree(crops)
    crops.mkdir()
    with pytest.raises(InputError, match="^no images in .*/crops"):
        index_folder(str(crops), path, SmallPredictor())
    assert len(descriptors_of(path)) == 18


def test_what_is_no_gallery_is_not_overwritten(crops, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="notes.txt is damaged, or no index of tools/search.py"):
        index_folder(str(crops), str(tmp_path / "notes.txt"), SmallPredictor())
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(InputError, match="^the folder of --output '.*/notes.txt' cannot be written"):
        index_folder(str(crops), str(tmp_path / "notes.txt" / "gallery.index"), SmallPredictor())
