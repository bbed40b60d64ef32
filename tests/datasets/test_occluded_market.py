"""OccludedMarket1501 is generated once, as a whole or not at all, with training and gallery of Market-1501."""

import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import json
import os
from pathlib import Path

import numpy as np
import pytest
from fastreid.data.datasets import DATASET_REGISTRY
from PIL import Image
from tiny_data import make_tiny_market

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets import OccludedMarket1501
from igoas_plugin.datasets.drawn_folder import pixel_digest
from igoas_plugin.datasets.occluded_market import occluded_market_1501
from igoas_plugin.datasets.occluded_market.occluded_market_1501 import DIGESTS, GALLERY_PART, QueryOccluder, market_in
from igoas_plugin.datasets.published import Counts, warn_once
from igoas_plugin.preflight import check_test_data

# of the tiny set, written down once: other ones would silently be another benchmark
DONORS = [15, 8, 9, 11, 14, 0, 0, 10, 3, 3, 6, 3, 7, 0, 10, 6]
TINY_DIGEST = "81584b1c001a80e975a2d1c2f94aaca79467ddbfc6e88b2c4350d93ad473d3b8"


@pytest.fixture
def root(tmp_path):
    make_tiny_market(tmp_path)
    return tmp_path


def opened(root, suffix=""):
    return DATASET_REGISTRY.get(f"OccludedMarket1501{suffix}")(root=str(root))


def test_training_set_and_gallery_are_market_1501_s_own_and_sorted(root):
    data, market = opened(root), market_in(str(root))
    assert data.train == sorted(market.train) and data.gallery == sorted(market.gallery)
    assert data.train[0][1:] == ("market1501_1", "market1501_0")


def test_the_queries_keep_order_identity_and_camera_and_lie_in_the_data_sets_folder(root):
    data = opened(root)
    names = sorted(os.listdir(root / "Market-1501-v15.09.15" / "query"))
    folder = root / "OccludedMarket1501" / "S3" / "query"
    assert [path for path, _, _ in data.query] == [str(folder / f"{Path(name).stem}.png") for name in names]
    assert [(identity, camera) for _, identity, camera in data.query] == [(int(n[:4]), int(n[6]) - 1) for n in names]
    assert {path.name for path in folder.iterdir()} == {f"{Path(name).stem}.png" for name in names} | {"manifest.json"}


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def assert_the_files_are_right(root, severity):
    occluder = QueryOccluder(market_in(str(root)).query)
    for (path, _, _), (original, _, _) in zip(opened(root, f"S{severity}").query, occluder.items, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), occluder.occluded(original, severity))


@pytest.mark.parametrize("severity", range(1, 6))
def test_the_files_hold_what_the_occluder_makes(root, severity):
    assert_the_files_are_right(root, severity)


def test_the_plain_name_is_severity_3(root):
    assert opened(root).query == opened(root, "S3").query


def test_the_other_pedestrian_is_of_another_identity_and_the_same_each_time(root):
    occluder = QueryOccluder(market_in(str(root)).query)
    for path, identity, _ in occluder.items:
        name = Path(path).stem
        donor = occluder._donor(name)
        assert int(Path(donor).name[:4]) != identity and donor == occluder._donor(name)


def test_nothing_is_drawn_before_the_queries_are_asked_for_nor_twice(root, monkeypatch):
    data = opened(root)
    assert data.train and not (root / "OccludedMarket1501").exists()
    first = data.query
    monkeypatch.setattr(occluded_market_1501, "occlude", lambda *args: pytest.fail("drawn again"))
    assert opened(root).query == first


def test_a_part_of_the_gallery_is_occluded_where_the_name_says_so(root, monkeypatch):
    monkeypatch.setattr(DATASET_REGISTRY.get("OccludedMarket1501G10"), "gallery_share", 0.5)
    data, plain = opened(root, "G10"), opened(root)
    assert data.query == plain.query and len(data.gallery) == len(plain.gallery) == 16
    occluded = [item for item in data.gallery if "OccludedMarket1501" in item[0]]
    assert 3 <= len(occluded) <= 13 and set(data.gallery) - set(occluded) < set(plain.gallery)
    assert sorted(item[1:] for item in data.gallery) == sorted(item[1:] for item in plain.gallery)
    # as of the queries: what is drawn depends on the name
    path, _, _ = occluded[0]
    original = root / "Market-1501-v15.09.15" / "bounding_box_test" / f"{Path(path).stem}.jpg"
    expected = QueryOccluder(market_in(str(root)).query).occluded(str(original), 3)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)


def test_an_incomplete_market_1501_is_told_once(root, host_log):
    for _ in range(2):
        assert len(opened(root).query) == 16
    lines = [record.getMessage() for record in host_log.records if record.levelname == "WARNING"]
    assert len(lines) == 1 and "has 16 queries, official are 3368: the occlusions are not those" in lines[0]


def test_other_pixels_than_everyone_s_are_told_on_each_use(root, monkeypatch, host_log):
    monkeypatch.setitem(OccludedMarket1501.published, "query", Counts(16, 4, 2))
    for _ in range(2):
        warn_once.cache_clear()
        opened(root).query  # noqa: B018
    messages = [record.getMessage() for record in host_log.records if record.levelname == "WARNING"]
    assert len(messages) == 2 and all("not bit-identical to those that others get" in message for message in messages)


def test_the_digest_of_everyone_s_pixels_is_not_complained_of(root, monkeypatch, host_log):
    occluder = QueryOccluder(market_in(str(root)).query)
    monkeypatch.setitem(OccludedMarket1501.published, "query", Counts(16, 4, 2))
    monkeypatch.setitem(DIGESTS, "S3", pixel_digest(occluder.occluded(path, 3) for path, _, _ in occluder.items))
    for _ in range(2):
        opened(root).query  # noqa: B018
    assert not [record for record in host_log.records if record.levelname == "WARNING"]


def test_other_queries_than_those_it_was_drawn_from_are_told(root):
    opened(root).query  # noqa: B018
    query = root / "Market-1501-v15.09.15" / "query"
    message = "was drawn from other images: remove that"
    (query / "0001_c1s1_000001_00.jpg").rename(root / "away.jpg")
    with pytest.raises(InputError, match=message):
        opened(root).query  # noqa: B018
    (root / "away.jpg").rename(query / "0009_c1s1_000001_00.jpg")  # as many, but another
    with pytest.raises(InputError, match=message):
        opened(root).query  # noqa: B018


def test_without_a_digest_in_the_manifest_the_files_are_read(root, monkeypatch, host_log):
    opened(root).query  # noqa: B018
    path = root / "OccludedMarket1501" / "S3" / "query" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({"version": manifest["version"], "images": manifest["images"]}))
    monkeypatch.setitem(OccludedMarket1501.published, "query", Counts(16, 4, 2))
    monkeypatch.setitem(DIGESTS, "S3", manifest["pixels"][""])
    warn_once.cache_clear()
    host_log.clear()
    assert opened(root).query and host_log.records == []


@pytest.mark.parametrize("subset", ["bounding_box_train", "query", "bounding_box_test"])
def test_a_name_of_market_1501_that_cannot_be_read_is_one_line(subset, root):
    (root / "Market-1501-v15.09.15" / subset / "person.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match=f"{subset}/person.jpg does not tell identity and camera"):
        opened(root)


def test_what_is_drawn_does_not_change(root):
    """Compares donors and pixels of images without noise, which every decoder reads alike."""
    query = root / "Market-1501-v15.09.15" / "query"
    for path in query.iterdir():
        identity, camera = int(path.name[:4]), int(path.name[6])
        Image.new("RGB", (64, 128), (40 * identity, 60 * camera, 90)).save(path, "PNG")
    occluder = QueryOccluder(market_in(str(root)).query)
    donors = [occluder._donor(Path(path).stem) for path, _, _ in occluder.items]
    paths = [path for path, _, _ in occluder.items]
    assert [paths.index(donor) for donor in donors] == DONORS
    assert pixel_digest(occluder.occluded(path, 3) for path in paths) == TINY_DIGEST


def test_the_share_of_the_gallery_is_that_of_its_name():
    kind = DATASET_REGISTRY.get("OccludedMarket1501G10")
    assert kind.gallery_share == 0.1 and GALLERY_PART == "gallery10" and kind.severity == 3


def test_without_market_1501_the_line_says_what_to_do(tmp_path):
    with pytest.raises(
        InputError, match="Market1501: there is no folder .*/Market-1501-v15.09.15; put it there, or set"
    ):
        opened(tmp_path)


def test_an_unreadable_query_is_named_and_leaves_nothing(root):
    path = next((root / "Market-1501-v15.09.15" / "query").iterdir())
    path.write_bytes(b"")
    with pytest.raises(InputError, match=f"{path.name} cannot be read: the file is empty"):
        opened(root).query  # noqa: B018
    assert files_in(root / "OccludedMarket1501") == []


def test_a_run_is_checked_with_it(root, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    check_test_data("OccludedMarket1501S5")
    assert len(list((root / "OccludedMarket1501" / "S5" / "query").glob("*.png"))) == 16


@pytest.mark.realdata
@pytest.mark.skipif(
    not os.path.isdir(os.path.join(os.getenv("FASTREID_DATASETS", "datasets"), "Market-1501-v15.09.15")),
    reason="Market-1501 is not in FASTREID_DATASETS",
)
@pytest.mark.parametrize("name", [
    *(f"OccludedMarket1501{version}S{severity}" for version in ("", "V2") for severity in range(1, 6)),
    *(f"Market1501Dev{suffix}" for suffix in ("S1", "S2", "S3", "Partial")),
])  # fmt: skip
def test_the_benchmark_of_the_official_queries_is_pinned(name):
    kind = DATASET_REGISTRY.get(name)
    occluder = QueryOccluder(market_in(os.getenv("FASTREID_DATASETS", "datasets"), kind.market_name).query)
    assert len(occluder.items) == kind.published["query"].images
    pixels = (occluder.occluded(path, kind.severity, kind.kind, kind.version) for path, _, _ in occluder.items)
    assert pixel_digest(pixels) == DIGESTS[kind.drawn]
