import io
import json
import shutil
import zipfile

import faiss
import numpy as np
import pytest

from igoas_plugin.core.errors import InputError, OutputError
from igoas_plugin.evaluation.ranking.neighbour_index import KINDS, SearchIndex
from igoas_plugin.inference.fingerprint import Fingerprint
from igoas_plugin.inference.search.crops import Crop
from igoas_plugin.inference.search.gallery_file import ABOUT, DESCRIPTORS, INDEX, Gallery, GalleryFile, write_gallery

ROWS, WIDTH = 300, 16


def descriptors(rows=ROWS) -> np.ndarray:
    drawn = np.random.default_rng(0).standard_normal((rows, WIDTH)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def gallery(folder="/crops", kind="flat", rows=ROWS) -> Gallery:
    crops = [Crop(f"{row}\n人\udcff.png", 10 * row, 2**62 + row) for row in range(rows)]
    return Gallery(folder, kind, Fingerprint("1f", {"INPUT.SIZE_TEST": [256, 128]}), crops)


def filled(kind="flat", rows=ROWS) -> SearchIndex:
    index = SearchIndex(WIDTH, kind, rows)
    index.add(descriptors(rows))
    return index


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "gallery.index")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_and_searched_as_before(path, kind):
    index, told = filled(kind), gallery(kind=kind)
    write_gallery(path, told, descriptors(), index)
    with GalleryFile(path) as file:
        assert file.gallery == told and file.finished
        assert np.array_equal(file.descriptors(), descriptors())
        read = file.index()
    for ours, theirs in zip(read.search(descriptors()[:20], 5), index.search(descriptors()[:20], 5), strict=True):
        assert np.array_equal(ours, theirs)


def test_faiss_reads_the_index_without_the_plugin(path, tmp_path):
    write_gallery(path, gallery(), descriptors(), filled())
    with zipfile.ZipFile(path) as archive:
        archive.extract(INDEX, tmp_path)
    index = faiss.read_index(str(tmp_path / INDEX))
    assert (index.ntotal, index.d, index.metric_type) == (ROWS, WIDTH, faiss.METRIC_INNER_PRODUCT)
    np.testing.assert_allclose(index.reconstruct_n(0, ROWS), descriptors(), rtol=0, atol=1e-6)  # faiss normalises again


def test_without_an_index_it_is_not_finished_and_searched_exactly(path):
    write_gallery(path, gallery(kind="pq"), descriptors())
    with GalleryFile(path) as file:
        assert not file.finished
        assert file.index().search(descriptors()[5:6], 1)[1].tolist() == [[5]]


def overwrite(path, member, rest):
    """Writes the archive again with other content in one member."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**content, member: rest(content[member])}.items():
            archive.writestr(name, data)


def flip(path, member):
    """Changes a byte in the middle of a member, but not its checksum."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
    with open(path, "r+b") as file:
        file.seek(info.header_offset + 100 + info.compress_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 255]))


def cut(path, share):
    with open(path, "r+b") as file:
        file.truncate(int(share * file.seek(0, 2)))


def replaced(path, content):
    with open(path, "wb") as file:
        file.write(content)


def saved(array):
    """Returns a function that replaces the content of a member by an array."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return lambda _: file.getvalue()


def told(**changed):
    """Returns gallery.json with other values."""
    return lambda content: json.dumps({**json.loads(content), **changed}).encode()


def endless(_):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2**40, WIDTH)})
    return file.getvalue()


def test_an_index_of_version_1_is_read(path):
    write_gallery(path, gallery(), descriptors(), filled())
    written = {"version": 1, "fingerprint": {"weights": "1f", "settings": {"INPUT.SIZE_TEST": [256, 128]}}}
    overwrite(path, ABOUT, told(**written))
    with GalleryFile(path) as file:
        assert file.gallery == gallery() and file.gallery.references is None


DAMAGES = {
    "a folder that is a number": lambda path: overwrite(path, ABOUT, told(folder=3)),
    "a place that is a list": lambda path: overwrite(path, ABOUT, told(beside=[])),
    "crops that are no names": lambda path: overwrite(path, ABOUT, told(crops=[[None, 1, 2]] * ROWS)),
    "references that are no numbers": lambda path: overwrite(path, ABOUT, told(references=[["a"]])),
    "references beyond float32": lambda path: overwrite(path, ABOUT, told(references=[[10**400]])),
    "settings that are none": lambda path: overwrite(path, ABOUT, told(fingerprint={"weights": "1f", "settings": 1})),
    "descriptors of any size": lambda path: overwrite(path, DESCRIPTORS, endless),
    "empty": lambda path: replaced(path, b""),
    "text": lambda path: replaced(path, b"images: 10"),
    "cut": lambda path: cut(path, 0.9),
    "a flipped bit in the descriptors": lambda path: flip(path, DESCRIPTORS),
    "a flipped bit in the index": lambda path: flip(path, INDEX),
    "a flipped bit in what it tells": lambda path: flip(path, ABOUT),
    "another archive": lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "a"),
    "a list": lambda path: overwrite(path, ABOUT, lambda _: b"[]"),
    "a version that is no number": lambda path: overwrite(path, ABOUT, told(version=float("nan"))),
    "a version that is a text": lambda path: overwrite(path, ABOUT, told(version="1")),
    "another format": lambda path: overwrite(path, ABOUT, lambda _: b'{"format": "other"}'),
    "a pickle": lambda path: overwrite(path, DESCRIPTORS, saved(np.array([{"a": 1}]))),
    "too few descriptors": lambda path: overwrite(path, DESCRIPTORS, saved(descriptors(5))),
    "another index": lambda path: overwrite(path, INDEX, lambda _: faiss.serialize_index(filled(rows=5).index)),
    "no index of faiss": lambda path: overwrite(path, INDEX, lambda _: b"IxF2" + bytes(100)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_file_is_refused_in_one_line(path, damage):
    write_gallery(path, gallery(), descriptors(), filled())
    DAMAGES[damage](path)
    with pytest.raises(InputError) as refused:
        with GalleryFile(path) as file:
            file.descriptors()
            file.index()
    assert str(refused.value) == f"{path} is damaged, or no index of tools/search.py: make it anew"


def test_a_file_that_is_missing_or_a_folder_or_of_a_later_version_is_refused(path, tmp_path):
    with pytest.raises(InputError, match="gallery.index does not exist: make it by tools/search.py index"):
        GalleryFile(path)
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        GalleryFile(str(tmp_path))
    write_gallery(path, gallery(), descriptors(), filled())
    later = {"format": "igoas_plugin gallery", "version": 3, "igoas_plugin": "9.0"}
    overwrite(path, ABOUT, lambda _: json.dumps(later).encode())
    with pytest.raises(InputError, match="was made by a later igoas_plugin, 9.0: update this one"):
        GalleryFile(path)


def test_what_cannot_be_written_leaves_the_old_file(path, monkeypatch):
    write_gallery(path, gallery(rows=5), descriptors(5), filled(rows=5))

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="^cannot write /.*/gallery.index: No space left on device, .* MB are free"):
        write_gallery(path, gallery(), descriptors(), filled())
    with GalleryFile(path) as file:
        assert len(file.index()) == 5


def test_the_crops_are_found_where_they_were_or_beside_the_file_or_where_one_says(tmp_path):
    was = tmp_path / "was"
    (was / "crops").mkdir(parents=True)
    write_gallery(str(was / "out/gallery.index"), gallery(str(was / "crops"), rows=5), descriptors(5))
    shutil.copytree(was, tmp_path / "now")
    with GalleryFile(str(tmp_path / "now/out/gallery.index")) as file:
        assert file.folder() == str(was / "crops")
        shutil.rmtree(was)
        assert file.folder() == str(tmp_path / "now/crops")
        assert file.folder(moved_to=str(tmp_path)) == str(tmp_path)
        with pytest.raises(InputError, match="^--folder /nowhere is no folder: name the one"):
            file.folder(moved_to="/nowhere")
        shutil.rmtree(tmp_path / "now/crops")
        assert file.folder() == str(was / "crops")  # both are gone, so messages name the indexed folder
