"""Gallery indexes with altered bytes, with and without corrected checksums."""

import functools
import io
import json
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from hostile import Target
from hostile_checkpoints import cases as changes
from hostile_checkpoints import change
from hostile_overrides import VALUES
from hypothesis import strategies as st

from igoas_plugin.evaluation.ranking.neighbour_index import KINDS, SearchIndex
from igoas_plugin.inference.fingerprint import Fingerprint
from igoas_plugin.inference.search.answers import Answers, as_json, as_text, matches_of
from igoas_plugin.inference.search.crops import Crop
from igoas_plugin.inference.search.gallery_file import ABOUT, DESCRIPTORS, INDEX, Gallery, GalleryFile, write_gallery

ROWS, WIDTH = 300, 16
MEMBERS = (ABOUT, DESCRIPTORS, INDEX)
FINGERPRINT = Fingerprint("1f", {"INPUT.SIZE_TEST": [256, 128]})
KEYS = ("format", "version", "kind", "fingerprint", "references", "folder", "crops", "beside", "igoas_plugin", "other")


@functools.cache
def descriptors() -> np.ndarray:
    drawn = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@functools.cache
def whole(kind: str) -> bytes:
    crops = [Crop(f"{row}\n人\udcff.png", 10 * row, 2**62 + row) for row in range(ROWS)]
    index = SearchIndex(WIDTH, kind, ROWS)
    index.add(descriptors())
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/gallery.index"
        write_gallery(path, Gallery("/crops", kind, FINGERPRINT, crops, descriptors()[:3]), descriptors(), index)
        return Path(path).read_bytes()


json_values = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(VALUES), st.just([]), st.just({})),
    *(st.just([[1, 2, 3]]), st.just([["a"]]), st.just([["a", 1, 2]] * ROWS), st.just([[None, None, None]] * ROWS)),
    st.just({"weights": 1, "settings": 3}),
    st.just(FINGERPRINT.__dict__ | {"altered": True}),
    st.just([[10**400] * WIDTH]),
)
bytes_changed = st.tuples(st.sampled_from(sorted(KINDS)), st.just(""), changes)
members_changed = st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from(MEMBERS[:2]), changes)
told_otherwise = st.tuples(
    st.sampled_from(sorted(KINDS)), st.just("json"), st.dictionaries(st.sampled_from(KEYS), json_values, max_size=2)
)
cases = st.one_of(bytes_changed, members_changed, told_otherwise)


def with_member(content: bytes, name: str, change_member) -> bytes:
    """Returns the archive with one member changed and its checksum corrected."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(file, "w") as after:
        for member in MEMBERS:
            read = before.read(member)
            after.writestr(member, change_member(read) if member == name else read)
    return file.getvalue()


def put(case: tuple, folder: Path) -> str:
    kind, member, changed = case
    content = whole(kind)

    def each(content: bytes) -> bytes:
        for one in changed:
            content = change(content, *one)
        return content

    if member == "json":
        content = with_member(content, ABOUT, lambda read: json.dumps({**json.loads(read), **changed}).encode())
    else:
        content = with_member(content, member, each) if member else each(content)
    path = folder / "gallery.index"
    path.write_bytes(content)
    return str(path)


def use(path: str) -> None:
    with GalleryFile(path) as file:
        file.require(SimpleNamespace(fingerprint=FINGERPRINT, references=lambda: descriptors()[:3]))
        file.folder()
        assert len(file.descriptors()) == len(file.gallery.crops)
        index = file.index()
        found = index.search(descriptors()[:3], 5)
        matches = [("query.jpg", matches_of(*each, file)) for each in zip(*found, strict=True)]
        answers = Answers(path, file.folder(), file.gallery.kind, len(index), matches)
        as_text(answers).encode()
        json.loads(as_json(answers))


TARGET = Target(cases, put, use)
