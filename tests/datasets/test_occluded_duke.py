import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import logging
import os
import re

import pytest
from fastreid.data.datasets import DATASET_REGISTRY

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets import OccludedDuke
from igoas_plugin.datasets.occluded_duke_names import official_names
from igoas_plugin.datasets.published import Counts

# A few names of the official lists.
NAMES = {
    "bounding_box_train": ["0001_c2_f0046182.jpg", "0001_c2_f0046302.jpg", "0005_c8_f0001000.jpg"],
    "query": ["0019_c1_f0051230.jpg", "0019_c5_f0060626.jpg"],
    "bounding_box_test": [
        "0002_c1_f0044158.jpg",
        "0019_c1_f0051470.jpg",
        "0019_c8_f0051710.jpg",
        "7139_c4_f0000001.jpg",
    ],
}


def make(root, folder="Occluded_Duke", names=NAMES):
    for subset, files in names.items():
        (root / folder / subset).mkdir(parents=True)
        for name in files:
            (root / folder / subset / name).write_bytes(b"")
    return root / folder


@pytest.fixture
def official_counts_of_the_small_tree(monkeypatch):
    small = {"train": Counts(3, 2, 8), "query": Counts(2, 1, 8), "gallery": Counts(4, 3, 8)}
    monkeypatch.setattr(OccludedDuke, "published", small)


def test_the_host_finds_it_by_its_name():
    assert DATASET_REGISTRY.get("OccludedDuke") is OccludedDuke


def test_the_items_are_of_the_form_that_the_host_takes(tmp_path):
    folder = make(tmp_path)
    data = OccludedDuke(root=str(tmp_path))
    assert data.train == [
        (str(folder / "bounding_box_train" / "0001_c2_f0046182.jpg"), "occludedduke_1", "occludedduke_1"),
        (str(folder / "bounding_box_train" / "0001_c2_f0046302.jpg"), "occludedduke_1", "occludedduke_1"),
        (str(folder / "bounding_box_train" / "0005_c8_f0001000.jpg"), "occludedduke_5", "occludedduke_7"),
    ]
    assert data.query == [
        (str(folder / "query" / "0019_c1_f0051230.jpg"), 19, 0),
        (str(folder / "query" / "0019_c5_f0060626.jpg"), 19, 4),
    ]
    assert [(identity, camera) for _, identity, camera in data.gallery] == [(2, 0), (19, 0), (19, 7), (7139, 3)]


def test_the_order_is_that_of_the_names_whatever_the_file_system_says(tmp_path, monkeypatch):
    make(tmp_path)
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: sorted(listdir(folder), reverse=True))
    data = OccludedDuke(root=str(tmp_path))
    for items, subset in zip((data.train, data.query, data.gallery), NAMES, strict=True):
        assert [os.path.basename(path) for path, _, _ in items] == NAMES[subset]


@pytest.mark.parametrize(
    "folder",
    [
        "Occluded_Duke",
        "Occluded-DukeMTMC-reID",
        "Occluded-DukeMTMC",
        "Occluded-DukeMTMC-master",
        "occluded_duke",
        "OccludedDuke",
        "Occluded_Duke/Occluded_Duke",
    ],
)
def test_every_folder_name_in_circulation_is_found(tmp_path, folder):
    made = make(tmp_path, folder)
    assert os.path.samefile(OccludedDuke(root=str(tmp_path)).dataset_dir, made)


def test_the_converters_folder_name_is_preferred(tmp_path):
    make(tmp_path, "Occluded-DukeMTMC")
    made = make(tmp_path, "Occluded_Duke")
    assert OccludedDuke(root=str(tmp_path)).dataset_dir == str(made)


def test_a_folder_whose_name_looks_like_an_identity_confuses_nothing(tmp_path):
    make(tmp_path / "9999_c9_data")
    assert OccludedDuke(root=str(tmp_path / "9999_c9_data")).query[0][1:] == (19, 0)


def test_a_subset_is_read_when_it_is_asked_for(tmp_path):
    folder = make(tmp_path)
    data = OccludedDuke(root=str(tmp_path))
    (folder / "query" / "0400_c3_f0000001.jpg").write_bytes(b"")
    assert data.query[-1][1:] == (400, 2)


def test_hidden_files_and_files_that_are_no_images_are_passed_over(tmp_path):
    folder = make(tmp_path)
    for name in ("Thumbs.db", ".DS_Store", "._0019_c1_f0051230.jpg", "readme.txt"):
        (folder / "query" / name).write_bytes(b"")
    assert len(OccludedDuke(root=str(tmp_path)).query) == 2


def test_other_suffixes_of_images_are_read(tmp_path):
    make(tmp_path, names={**NAMES, "query": ["0019_c1_f0051230.JPG", "0019_c5_f0060626.png"]})
    assert len(OccludedDuke(root=str(tmp_path)).query) == 2


# Counts


def test_counts_that_differ_from_the_official_ones_give_one_warning_a_subset(tmp_path, host_log):
    folder = make(tmp_path)
    for _ in range(2):  # fast-reid builds a data set anew for every evaluation
        data = OccludedDuke(root=str(tmp_path))
        assert data.query and data.gallery
    messages = [record.getMessage() for record in host_log.records]
    assert {record.levelno for record in host_log.records} == {logging.WARNING}
    assert len(messages) == 3
    assert messages[1] == (
        f"OccludedDuke: query (query in {folder}) has 2 images of 1 identities, published are 2210 of 519; 2208 "
        "official images are missing, such as 0019_c1_f0051350.jpg: results do not compare with published ones"
    )
    assert "bounding_box_train" in messages[0] and "3 images of 2 identities, published are 15618 of 702" in messages[0]
    assert "bounding_box_test" in messages[2] and "4 images of 3 identities, published are 17661 of 1110" in messages[2]


def test_other_names_are_noticed_though_the_counts_are_right(tmp_path, host_log, official_counts_of_the_small_tree):
    make(tmp_path)
    assert len(OccludedDuke(root=str(tmp_path)).query) == 2
    message = host_log.records[-1].getMessage()
    assert "has 2 images of 1 identities, published are 2 of 1; 2208 official images are missing" in message


def test_official_images_in_another_format_are_not_missing(tmp_path, host_log, official_counts_of_the_small_tree):
    make(tmp_path, names={**NAMES, "query": [name.replace(".jpg", ".png") for name in official_names("query")[:2]]})
    assert OccludedDuke(root=str(tmp_path)).query
    assert "; 2208 official images are missing" in host_log.records[-1].getMessage()


def test_one_identity_less_is_noticed_though_the_images_are_as_many(
    tmp_path, host_log, official_counts_of_the_small_tree
):
    make(tmp_path, names={**NAMES, "bounding_box_train": ["0001_c2_f1.jpg", "0001_c2_f2.jpg", "0001_c2_f3.jpg"]})
    OccludedDuke(root=str(tmp_path))
    assert ["has 3 images of 1 identities" in record.getMessage() for record in host_log.records] == [True]


# Refusals


def test_a_missing_folder_is_one_line_that_names_it_the_variable_and_the_layout(tmp_path):
    with pytest.raises(InputError) as caught:
        OccludedDuke(root=str(tmp_path))
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        str(tmp_path / "Occluded_Duke"),
        "FASTREID_DATASETS",
        "DukeMTMC is withdrawn",
        "bounding_box_train, query",
        "lightas/Occluded-DukeMTMC-Dataset",
    ):
        assert part in message


@pytest.mark.parametrize("subset", ["bounding_box_train", "query", "bounding_box_test"])
def test_a_missing_subset_is_named(tmp_path, subset):
    folder = make(tmp_path, names={name: files for name, files in NAMES.items() if name != subset})
    with pytest.raises(InputError, match=re.escape(f"there is no folder {folder / subset}:")):
        OccludedDuke(root=str(tmp_path))


def test_an_empty_subset_is_named(tmp_path):
    folder = make(tmp_path, names={**NAMES, "bounding_box_train": []})
    with pytest.raises(InputError, match=re.escape(f"no images in {folder / 'bounding_box_train'}")):
        OccludedDuke(root=str(tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        "person.jpg",
        "0019-c1-f0051230.jpg",
        "0019_c0_f0051230.jpg",
        "0019_c_f0051230.jpg",
        "x0019_c1_f0051230.jpg",
    ],
)
def test_a_name_without_identity_and_camera_is_refused_and_named(tmp_path, name):
    folder = make(tmp_path, names={**NAMES, "query": ["0019_c5_f0060626.jpg", name]})
    data = OccludedDuke(root=str(tmp_path))
    with pytest.raises(InputError, match=re.escape(f"{folder / 'query' / name}: the name does not begin with")):
        data.query  # noqa: B018  (reading is what fails)
