"""Unusual file names, in data sets, among crops, and in reports about them."""

import json
import os
from pathlib import Path

import numpy as np
from bs4 import BeautifulSoup
from hostile import Target
from hypothesis import strategies as st

from igoas_plugin.core.errors import printable
from igoas_plugin.datasets.reading import open_data, read_split
from igoas_plugin.inference.search.answers import Answers, Match, as_json, as_text
from igoas_plugin.inference.search.crops import crops_in
from igoas_plugin.reports.figures.embedding import draw_embedding
from igoas_plugin.reports.figures.figure_file import as_label, rendered
from igoas_plugin.reports.html.page import render
from igoas_plugin.reports.html.thumbnails import thumbnail

PICTURE = np.zeros((4, 2, 3), np.uint8)
# {data set: its folders}
FOLDERS = {
    "OccludedDuke": ("Occluded_Duke", "bounding_box_train", "query", "bounding_box_test"),
    "Market1501": ("Market-1501-v15.09.15", "bounding_box_train", "query", "bounding_box_test"),
    "OccludedREID": ("Occluded_REID", "occluded_body_images", "whole_body_images"),
    "PartialREID": ("Partial-REID_Dataset", "partial_body_images", "whole_body_images"),
    "PartialiLIDS": ("Partial_iLIDS", "Probe", "Gallery"),
    "PDukeMTMC": ("P-DukeMTMC-reID", "train", "test"),
    "PETHZ": ("P_ETHZ", "occluded_body_images", "whole_body_images"),
}
COMMON = (
    *("0001_c2_f0046182.jpg", "0001_c1s1_000151_01.jpg", "001_01.tif", "12.jpg", "-1_c1s1_000151_01.jpg", "0001.png"),
    *(
        "0001_c0_f1.jpg",
        "0001_c-1_f1.jpg",
        "0001_c9999999999999999999_f1.jpg",
        "9" * 200 + "_c1_f1.jpg",
        "._0001_c1_f1.jpg",
    ),
    *(
        "٣_c١_f1.jpg",
        "²_c1_f1.jpg",
        "0001_c1_f1.JPG",
        "0001_c1_f1.jpg.jpg",
        "0001_c1_f1.jpg\n",
        ".jpg",
        "_.jpg",
        "c1.jpg",
    ),
    *(
        "$\\frac{1_c1_.jpg",
        "$x^$.png",
        "<script>alert(1)</script>.png",
        "{{ 7 * 7 }}.png",
        "%s%n.jpg",
        "a" * 251 + ".jpg",
    ),
    *(
        "0001_c1_\u202egpj.jpg",
        "0001_c1_\udcff.jpg",
        "0001_c1_\x1b[31m.jpg",
        "0001_c1_\n.jpg",
        " .jpg",
        "-rf.jpg",
        "NUL.jpg",
    ),
    *("0002_c3_x.jpg/", "0003/", "p001/", ".hidden/"),
)
letters = st.characters(exclude_characters="/\0", exclude_categories=["Cs"])
patterns = st.builds(
    "{}{}{}{}.{}".format,
    st.sampled_from(["0001", "1", "-1", "0", "00000000000000000001", "٣", "x", ""]),
    st.sampled_from(["_c1", "_c2s1", "_c0", "_c", "_c99", "_c٣", "", "_"]),
    st.sampled_from(["_", "", "_f0046182", "_000151_01", "_01"]),
    st.text(letters, max_size=9),
    st.sampled_from(["jpg", "JPG", "png", "tif", "jpeg", "txt", "webp"]),
)
wild = st.one_of(st.text(letters, min_size=1, max_size=60), st.binary(min_size=1, max_size=40).map(os.fsdecode))
names = st.lists(st.one_of(patterns, st.sampled_from(COMMON), wild), min_size=1, max_size=8)
cases = st.tuples(st.sampled_from(sorted(FOLDERS)), names)


def put(case: tuple, folder: Path) -> tuple[str, Path]:
    data_set, given = case
    top, *parts = FOLDERS[data_set]
    for part in parts:
        (folder / top / part).mkdir(parents=True)
        for name in given:
            path = folder / top / part / name.rstrip("/").replace("\0", "").replace("/", "")
            try:
                path.mkdir() if name.endswith("/") else path.touch()
            except OSError:  # ".", "..", a repeated name, or one that the file system refuses
                pass
    return data_set, folder


def use(subject: tuple[str, Path]) -> None:
    data_set, folder = subject
    crops, broken = crops_in(str(folder))
    assert all(os.path.isfile(folder / crop.path) for crop in crops) and not broken
    show([crop.path for crop in crops], str(folder))
    data = open_data(data_set, root=str(folder))
    for split in ("train", "query", "gallery"):
        for path, identity, camera in read_split(data_set, data, split):
            # fast-reid lists a folder with the name of an image; reading it raises
            assert os.path.isfile(path) or data_set == "Market1501"
            assert type(identity) is type(camera) is (str if split == "train" else int)


def show(paths: list[str], folder: str) -> None:
    """Writes text, JSON, a page and a figure about such files, and asserts that names are escaped."""
    matches = [Match(rank, 0.5, path) for rank, path in enumerate(paths, start=1)]
    answers = Answers("gallery.index", folder, "flat", len(paths), [(path, matches) for path in paths])
    assert all(line.isprintable() for line in as_text(answers).encode().decode().splitlines())
    assert json.loads(as_json(answers))["images"] == len(paths)
    rows = [(path, thumbnail(PICTURE, alt=printable(path)), [(match, None) for match in matches]) for path in paths[:1]]
    page = render("search.html", index="i", folder=folder, kind="flat", images=len(paths), answers=rows)
    assert not BeautifulSoup(page.decode(), "html.parser").find_all("script")
    if any("$" in path or not path.isascii() for path in paths[:1]):  # takes a second
        items = [("query", (path, 0, 0)) for path in (*paths, *paths)[:2]]
        rendered(draw_embedding(np.eye(2), items, f"t-SNE\n{as_label(paths[0])}"))


TARGET = Target(cases, put, use, seconds=20)
