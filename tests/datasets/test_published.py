"""Every published data set is read in every layout in circulation, and differences are named."""

import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import logging
import os
import re
import shutil
from contextlib import nullcontext

import pytest
from fastreid.data.datasets import DATASET_REGISTRY
from published_trees import (
    OCCLUDED,
    PARTIAL,
    WHOLE,
    make_tree,
    occluded_duke,
    occluded_reid,
    p_duke,
    p_duke_in_market_style,
    p_ethz,
    partial_ilids,
    partial_reid,
)

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.occluded_reid import random_half

ICME = "ICME2018_Occluded-Person-Reidentification_datasets"
FLAT = "{p:03d}_{i:02d}.tif"

# layout -> (registered name, folder, files)
LAYOUTS = {
    "Occluded-Duke": ("OccludedDuke", "Occluded_Duke", occluded_duke()),
    "Occluded-REID, as published": ("OccludedREID", "Occluded_REID", occluded_reid()),
    "Occluded-REID, in the authors' repository": ("OccludedREID", f"{ICME}/Occluded_REID", occluded_reid()),
    "Occluded-REID, unpacked twice": ("OccludedREID", "Occluded_REID/Occluded_REID", occluded_reid()),
    "Occluded-REID, flat": ("OccludedREID", "OccludedREID", occluded_reid(name=FLAT)),
    "Occluded-REID, as IGOAS renames it": (
        "OccludedREID", "occluded-reid/Occluded_REID", occluded_reid(name="{p:03d}_c1_{i:02d}.tif"),
    ),
    "Occluded-REID, converted by PVPM": (
        "OccludedREID", "Occluded_ReID", occluded_reid(name="{p:03d}/{p:03d}_{i:02d}.jpg"),
    ),
    "Occluded-REID, fast-reid's project": (
        "OccludedREID", "OccludedREID", occluded_reid(("query", "gallery"), "{p:03d}_{i:02d}.jpg"),
    ),
    "Occluded-REID, indices in folders": ("OccludedREID", "Occluded_REID", occluded_reid(name="{p:03d}/{i:02d}.tif")),
    "Occluded-REID, indices in folders p001": ("OccludedREID", "Occluded_REID", occluded_reid(name="p{p:03d}/{i}.tif")),
    "Occluded-REID, a part in its own folder": (
        "OccludedREID", "Occluded_REID", [f"{name.split('/')[0]}/{name}" for name in occluded_reid()],
    ),
    "Occluded-REID, a flat part in its own folder": (
        "OccludedREID", "Occluded_REID", [f"{name.split('/')[0]}/{name}" for name in occluded_reid(name=FLAT)],
    ),
    "P-DukeMTMC-reID": ("PDukeMTMC", "P-DukeMTMC-reid", p_duke()),
    "P-DukeMTMC-reID, BPBreID": ("PDukeMTMC", "P-DukeMTMC-reID", p_duke()),
    "P-DukeMTMC-reID, Market style": ("PDukeMTMC", "P-DukeMTMC", p_duke_in_market_style()),
    "P-DukeMTMC-reID, Market style in format": ("PDukeMTMC", "P-DukeMTMC-reid/format", p_duke_in_market_style()),
    "P-ETHZ": ("PETHZ", "P_ETHZ", p_ethz()),
    "P-ETHZ, in the authors' repository": ("PETHZ", f"{ICME}-master/P_ETHZ", p_ethz()),
    "P-ETHZ, query and gallery": (
        "PETHZ", "PETHZ", [name.replace(OCCLUDED, "query").replace(WHOLE, "gallery") for name in p_ethz()],
    ),
    "Partial-REID": ("PartialREID", "Partial-REID_Dataset", partial_reid()),
    "Partial-REID, in lightas's dataset.zip": ("PartialREID", "dataset/Partial-REID_Dataset", partial_reid()),
    "Partial-REID, fast-reid's project": ("PartialREID", "Partial_REID", partial_reid(("query", "gallery"))),
    "Partial-REID, BPBreID": ("PartialREID", "Partial_REID", partial_reid((PARTIAL, WHOLE))),
    "Partial-REID, IGOAS": (
        "PartialREIDOccluded", "partial-reid/PartialREID", partial_reid(name="{p:03d}_c1_{i:03d}.jpg"),
    ),
    "Partial-iLIDS": ("PartialiLIDS", "Partial_iLIDS", partial_ilids()),
    "Partial-iLIDS, BPBreID": ("PartialiLIDS", "Partial_iLIDS", partial_ilids((PARTIAL, WHOLE))),
    "Partial-iLIDS, fast-reid's project": ("PartialiLIDS", "PartialiLIDS", partial_ilids(("query", "gallery"))),
    "Partial-iLIDS, IGOAS": ("PartialiLIDS", "partial-ilids/Partial_iLIDS", partial_ilids(name="{p:03d}_c1.jpg")),
}  # fmt: skip

# registered name -> (images, identities) of train, query, gallery: FIELD's figures, written out once more
COUNTS = {
    "OccludedDuke": ((15618, 702), (2210, 519), (17661, 1110)),
    "OccludedREID": ((0, 0), (1000, 200), (1000, 200)),
    "PDukeMTMC": ((12927, 665), (2163, 634), (9053, 634)),
    "PETHZ": ((0, 0), (1400, 85), (2497, 85)),
    "PartialREID": ((0, 0), (300, 60), (300, 60)),
    "PartialREIDOccluded": ((0, 0), (300, 60), (300, 60)),
    "PartialiLIDS": ((0, 0), (119, 119), (119, 119)),
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Makes each layout once; gives {name: root}."""
    made = {}

    def root(layout):
        if layout not in made:
            _, folder, files = LAYOUTS[layout]
            made[layout] = tmp_path_factory.mktemp("tree")
            make_tree(made[layout] / folder, files)
        return made[layout]

    yield root
    for each in made.values():
        shutil.rmtree(each)


def opened(name, root):
    return DATASET_REGISTRY.get(name)(root=str(root))


def counted(items):
    return len(items), len({identity for _, identity, _ in items})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_splits_of_every_layout_are_counted_without_a_warning(layout, trees, host_log):
    name = LAYOUTS[layout][0]
    data = opened(name, trees(layout))
    assert tuple(counted(items) for items in (data.train, data.query, data.gallery)) == COUNTS[name]
    assert [record.getMessage() for record in host_log.records] == []


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if LAYOUTS[layout][0] != "OccludedDuke"])
def test_query_and_gallery_have_different_cameras_where_names_tell_none(layout, trees):
    data = opened(LAYOUTS[layout][0], trees(layout))
    assert {camera for _, _, camera in data.query} == {0} and {camera for _, _, camera in data.gallery} == {1}


@pytest.mark.parametrize("layout", ["Occluded-REID, as published", "Partial-REID", "Partial-iLIDS", "P-ETHZ"])
def test_the_order_is_not_the_file_system_s(layout, trees, monkeypatch):
    name, root = LAYOUTS[layout][0], trees(layout)
    data = opened(name, root)
    scandir = os.scandir
    monkeypatch.setattr(
        os, "scandir", lambda folder: nullcontext(sorted(scandir(folder), key=lambda each: each.name, reverse=True))
    )
    again = opened(name, root)
    assert (again.query, again.gallery) == (data.query, data.gallery)


def test_the_identity_is_in_the_name_and_in_the_folder(trees):
    data = opened("OccludedREID", trees("Occluded-REID, as published"))
    path, identity, _ = data.query[437]
    assert path.endswith("occluded_body_images/088/088_03.tif") and identity == 88


def test_a_root_that_is_the_data_set_s_own_folder_is_taken(trees):
    root = trees("Partial-iLIDS")
    assert opened("PartialiLIDS", root / "Partial_iLIDS").query == opened("PartialiLIDS", root).query


# Where several folders could be meant


def test_the_exact_name_goes_before_names_that_are_alike_and_those_in_containers(tmp_path):
    for folder in ("partial_ilids", "dataset/Partial_iLIDS", "Partial_iLIDS", "PARTIAL-ILIDS"):
        make_tree(tmp_path / folder, partial_ilids(), "PNG")
    assert opened("PartialiLIDS", tmp_path).dataset_dir == str(tmp_path / "Partial_iLIDS")
    shutil.rmtree(tmp_path / "Partial_iLIDS")
    assert opened("PartialiLIDS", tmp_path).dataset_dir == str(tmp_path / "PARTIAL-ILIDS")


def test_hidden_folders_are_none(tmp_path):
    make_tree(tmp_path / ".Partial_iLIDS", partial_ilids(), "PNG")
    make_tree(tmp_path / "Partial_iLIDS", [".Probe/1.jpg", "Gallery/1.jpg"], "PNG")
    with pytest.raises(InputError, match=re.escape(f"there is no folder {tmp_path / 'Partial_iLIDS' / 'Probe'}")):
        opened("PartialiLIDS", tmp_path)


def test_a_folder_that_cannot_be_read_is_not_said_to_be_missing(tmp_path, monkeypatch):
    listdir = os.listdir

    def refused(folder):
        if str(folder) == str(tmp_path):
            raise PermissionError(13, "Permission denied", str(tmp_path))
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", refused)
    with pytest.raises(InputError, match=re.escape(f"cannot read the folder {tmp_path}: Permission denied")):
        opened("PETHZ", tmp_path)


def test_a_folder_of_an_identity_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    make_tree(tmp_path / "Occluded_REID", [f"{part}/{p}/a.tif" for part in (OCCLUDED, WHOLE) for p in (1, 2)])
    scandir, closed = os.scandir, str(tmp_path / "Occluded_REID" / OCCLUDED / "2")

    def refused(folder):
        if str(folder) == closed:
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputError, match=f"cannot read the folder {re.escape(closed)}: Permission denied"):
        opened("OccludedREID", tmp_path).query  # noqa: B018


def test_the_test_half_of_p_duke_is_enough_to_evaluate(tmp_path, host_log):
    make_tree(tmp_path / "P-DukeMTMC-reid", [name for name in p_duke() if name.startswith("test/")])
    data = opened("PDukeMTMC", tmp_path)
    assert (counted(data.query), counted(data.gallery)) == ((2163, 634), (9053, 634)) and host_log.records == []
    assert data.train == []


def test_the_two_halves_of_the_training_images_of_p_duke_are_both_needed(tmp_path):
    make_tree(tmp_path / "P-DukeMTMC-reid", [name for name in p_duke() if not name.startswith(f"train/{WHOLE}")])
    with pytest.raises(InputError, match=f"no folder .*P-DukeMTMC-reid/train/{WHOLE}: put it beside"):
        opened("PDukeMTMC", tmp_path)


# Protocols


def test_the_released_half_split_trains_on_identities_88_to_187(trees, host_log):
    data = opened("OccludedREIDHalfSplit", trees("Occluded-REID, as published"))
    assert {int(identity.rsplit("_", 1)[1]) for _, identity, _ in data.train} == set(range(88, 188))
    assert [counted(items) for items in (data.train, data.query, data.gallery)] == [(1000, 100), (500, 100), (500, 100)]
    assert {identity for _, identity, _ in data.query} == {*range(1, 88), *range(188, 201)}
    assert host_log.records == []


@pytest.mark.parametrize("seed", range(10))
def test_a_random_half_is_half_and_its_test_half_the_other(seed, trees, host_log):
    data = opened(f"OccludedREIDHalfSplit{seed}", trees("Occluded-REID, as published"))
    train = {int(identity.rsplit("_", 1)[1]) for _, identity, _ in data.train}
    test = {identity for _, identity, _ in data.query}
    assert len(train) == 100 and train | test == set(range(1, 201)) and not train & test
    assert train == random_half(seed) and test == {identity for _, identity, _ in data.gallery}
    assert host_log.records == []


def test_the_random_halves_are_ten_and_stay_what_they_are():
    halves = [random_half(seed) for seed in range(10)]
    assert len(set(halves)) == 10
    # written down once: other halves would silently give other published figures
    assert [sum(half) for half in halves] == [10354, 10449, 10007, 10150, 10086, 9766, 9491, 10335, 10069, 9412]


def test_the_occluded_protocol_of_partial_reid_differs_in_the_queries_alone(trees):
    root = trees("Partial-REID")
    partial, occluded = opened("PartialREID", root), opened("PartialREIDOccluded", root)
    assert partial.gallery == occluded.gallery
    assert {os.path.basename(os.path.dirname(path)) for path, _, _ in partial.query} == {PARTIAL}
    assert {os.path.basename(os.path.dirname(path)) for path, _, _ in occluded.query} == {OCCLUDED}


def test_single_shot_galleries_hold_one_image_of_each_identity_and_differ_by_seed(trees, host_log):
    root = trees("Partial-REID")
    galleries = [opened(f"PartialREIDSingleShot{seed}", root).gallery for seed in range(10)]
    assert all(counted(gallery) == (60, 60) for gallery in galleries)
    assert len({tuple(gallery) for gallery in galleries}) == 10
    assert opened("PartialREIDSingleShot4", root).gallery == galleries[4]
    assert len({path for gallery in galleries for path, _, _ in gallery}) > 200  # of 300: no image is preferred
    assert host_log.records == []


def test_the_uncropped_probes_of_partial_ilids(trees, host_log):
    data = opened("PartialiLIDSUncropped", trees("Partial-iLIDS"))
    assert {os.path.basename(os.path.dirname(path)) for path, _, _ in data.query} == {"partial_iLIDS_Probe_nocrop"}
    assert counted(data.query) == (119, 119) and host_log.records == []


# What differs is named


def small(tmp_path, folder, files, image_format="JPEG"):
    make_tree(tmp_path / folder, files, image_format)
    return tmp_path


def test_missing_images_are_named_by_identity(tmp_path, host_log):
    files = [name for name in occluded_reid() if name != f"{OCCLUDED}/017/017_02.tif"]
    opened("OccludedREID", small(tmp_path, "Occluded_REID", files)).query  # noqa: B018
    assert [(record.levelno, record.getMessage()) for record in host_log.records] == [
        (
            logging.WARNING,
            f"OccludedREID: query (occluded_body_images in {tmp_path / 'Occluded_REID'}) has 999 images of 200 "
            "identities, published are 1000 of 200; identities without 5 images: 17 (4): results do not compare with "
            "published ones",
        )
    ]


def test_images_of_an_unknown_identity_are_named(tmp_path, host_log):
    small(tmp_path, "Partial_iLIDS", [*partial_ilids(), "Probe/500.jpg"])
    opened("PartialiLIDS", tmp_path).query  # noqa: B018
    assert "identities without 1 images: 500 (1)" in host_log.records[0].getMessage()


def test_identities_that_count_from_0_are_noticed_though_they_are_as_many(tmp_path, host_log):
    small(tmp_path, "Partial_iLIDS", [f"{part}/{number}.jpg" for part in ("Probe", "Gallery") for number in range(119)])
    assert len(opened("PartialiLIDS", tmp_path).query) == 119
    assert "identities without 1 images: 0 (1), 119 (0): results" in host_log.records[0].getMessage()


def test_the_images_of_p_ethz_are_counted_together(tmp_path, host_log):
    opened("PETHZ", small(tmp_path, "P_ETHZ", p_ethz()[1:])).query  # noqa: B018
    assert "has 3896 images, published are 3897" in host_log.records[0].getMessage()


def test_a_half_split_knows_which_identities_it_misses(tmp_path, host_log):
    files = [name for name in occluded_reid() if "/100/" not in name]
    data = opened("OccludedREIDHalfSplit", small(tmp_path, "Occluded_REID", files))
    assert data.train and data.query
    [record] = host_log.records  # identity 100 is of the training half: the test half is complete
    assert "train (occluded_body_images, whole_body_images in" in record.getMessage()
    assert "identities without 10 images: 100 (0)" in record.getMessage()


# What is passed over


def test_hidden_folders_and_folders_named_like_an_image_are_passed_over(tmp_path, host_log):
    files = [*partial_ilids(), "Probe/.trash/200.jpg", "Probe/201.jpg/readme.txt", "Gallery/._1.jpg"]
    data = opened("PartialiLIDS", small(tmp_path, "Partial_iLIDS", files))
    assert (counted(data.query), counted(data.gallery)) == ((119, 119), (119, 119)) and host_log.records == []


# Refusals


@pytest.mark.parametrize("name", sorted({name for name, _, _ in LAYOUTS.values()}))
def test_a_missing_folder_is_one_line_that_says_what_to_do(name, tmp_path):
    with pytest.raises(InputError) as caught:
        opened(name, tmp_path)
    message = str(caught.value)
    assert "\n" not in message and str(tmp_path) in message and "tools/prepare_data.py" in message


@pytest.mark.parametrize(
    "name, missing",
    [("PartialREID", PARTIAL), ("PartialREIDOccluded", OCCLUDED), ("PartialREIDOccluded", WHOLE)],
)
def test_a_missing_part_is_named(name, missing, tmp_path):
    parts = [part for part in (OCCLUDED, PARTIAL, WHOLE) if part != missing]
    small(tmp_path, "Partial_REID", partial_reid(parts))
    with pytest.raises(InputError, match=re.escape(f"there is no folder {tmp_path / 'Partial_REID' / missing}:")):
        opened(name, tmp_path)


@pytest.mark.parametrize(
    "files, message",
    [
        (["001_01.jpg", "person.jpg"], "person.jpg: neither name nor folder tells an identity"),
        (["001_01.jpg", "002/003_01.jpg"], "002/003_01.jpg: name and folder tell two identities"),
        (["001_01.jpg", "Tom/1.jpg"], "Tom/1.jpg: neither name nor folder tells an identity"),
        (["001_01.jpg", "001_01.tif"], "001_01.jpg and .*001_01.tif are one image twice"),
        (["001_a.jpg", "001_A.tif"], "001_A.tif and .*001_a.jpg are one image twice"),
        (["001_01.jpg", "001/001_01.jpg"], "001_01.jpg and .*001/001_01.jpg are one image twice"),
        ([], "no images in"),
    ],
)
def test_names_that_cannot_be_read_are_refused(files, message, tmp_path):
    small(tmp_path, "Occluded_REID", [*(f"{OCCLUDED}/{name}" for name in files), f"{WHOLE}/001_01.jpg"])
    (tmp_path / "Occluded_REID" / OCCLUDED).mkdir(exist_ok=True)
    with pytest.raises(InputError, match=message):
        opened("OccludedREID", tmp_path).query  # noqa: B018


def test_the_folder_names_the_identity_where_the_file_does_not(tmp_path, host_log):
    small(tmp_path, "Occluded_REID", [f"{OCCLUDED}/7/a.tif", f"{OCCLUDED}/8/a.tif", f"{WHOLE}/7/b.tif"])
    assert [identity for _, identity, _ in opened("OccludedREID", tmp_path).query] == [7, 8]
