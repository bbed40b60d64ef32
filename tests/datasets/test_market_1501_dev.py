"""Market1501Dev is a fixed part of Market-1501's training identities, and its occluded variants hide its queries."""

import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import os

import numpy as np
import pytest
from fastreid.data.datasets import DATASET_REGISTRY
from PIL import Image
from tiny_data import make_tiny_market

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.data_report import report
from igoas_plugin.datasets.market_1501_dev import Market1501Dev
from igoas_plugin.datasets.occluded_market.occlude import occlude
from igoas_plugin.datasets.occluded_market.occluded_market_1501 import QueryOccluder
from igoas_plugin.datasets.reading import open_data, shown_camera
from igoas_plugin.preflight import check_test_data, check_training_data

OCCLUDED = {"S1": (1, "all"), "S2": (2, "all"), "S3": (3, "all"), "Partial": (4, "truncation")}  # severity, kind
REAL = os.getenv("FASTREID_DATASETS", "datasets")
needs_market = pytest.mark.skipif(
    not os.path.isdir(os.path.join(REAL, "Market-1501-v15.09.15")), reason="Market-1501 is not in FASTREID_DATASETS"
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A Market-1501 of 4 training identities, of which 2 are held out."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    monkeypatch.setattr(Market1501Dev, "held_out", 2)
    make_tiny_market(tmp_path)
    return tmp_path


def named(items):
    """Returns the file names of images without suffix, identity and camera as in the names."""
    return [os.path.basename(path)[:16] for path, *_ in items]


def test_the_last_identities_are_held_out_and_the_first_image_of_each_camera_is_the_query(root):
    data = open_data("Market1501Dev")
    assert named(data.train) == [f"000{p}_c{c}s1_00000{s}" for p in (1, 2) for c in (1, 2) for s in (1, 2)]
    assert data.train[0][1:] == ("market1501_1", "market1501_0")
    assert named(data.query) == [f"000{p}_c{c}s1_000001" for p in (3, 4) for c in (1, 2)]
    assert named(data.gallery) == [f"000{p}_c{c}s1_000002" for p in (3, 4) for c in (1, 2)]
    assert [item[1:] for item in data.query] == [(3, 0), (3, 1), (4, 0), (4, 1)]
    assert {os.path.basename(os.path.dirname(item[0])) for item in data.query + data.gallery} == {"bounding_box_train"}
    assert shown_camera("Market1501Dev", 0) == shown_camera("Market1501DevS1", 0) == 1


def test_an_identity_of_one_camera_is_no_query_and_stays_in_the_gallery(root):
    for path in (root / "Market-1501-v15.09.15" / "bounding_box_train").glob("0003_c2*"):
        path.unlink()
    data = open_data("Market1501Dev")
    assert named(data.query) == ["0004_c1s1_000001", "0004_c2s1_000001"]
    assert [name[:7] for name in named(data.gallery)] == ["0003_c1", "0003_c1", "0004_c1", "0004_c2"]


def test_the_six_queries_without_a_match_are_no_problem_and_a_seventh_is_one(root, monkeypatch, host_log):
    for path in (root / "Market-1501-v15.09.15" / "bounding_box_train").glob("000[34]_c?s1_000002*"):
        path.unlink()  # the second image of each camera: 4 queries, no gallery
    (root / "Market-1501-v15.09.15" / "bounding_box_train" / "0003_c1s1_000003_00.jpg").write_bytes(b"x")
    assert named(open_data("Market1501Dev").gallery) == ["0003_c1s1_000003"]  # matches the query of camera 2
    for allowed, problems in ((6, 0), (3, 0), (2, 1)):
        for name in ("Market1501Dev", "Market1501Dev250"):
            monkeypatch.setattr(DATASET_REGISTRY.get(name), "without_match", allowed)
            host_log.clear()
            check_test_data(name)
            told = ["3 of 4 queries have no image of" in record.getMessage() for record in host_log.records]
            assert len(report(name, str(root)).splits["query"].problems) == told.count(True) == problems
    monkeypatch.undo()
    assert DATASET_REGISTRY.get("Market1501DevS1").without_match == Market1501Dev.without_match == 6


def test_the_short_variant_trains_on_the_first_identities_and_has_the_same_test_part(root, monkeypatch):
    monkeypatch.setattr(DATASET_REGISTRY.get("Market1501Dev250"), "trained", 1)
    short, whole = open_data("Market1501Dev250"), open_data("Market1501Dev")
    assert {name[:4] for name in named(short.train)} == {"0001"} and len(short.train) == 4
    assert (short.query, short.gallery) == (whole.query, whole.gallery)


def test_a_test_identity_is_never_trained_on_however_few_there_are(root):
    short = open_data("Market1501Dev250")  # 250 of 4, two of which are held out
    assert {name[:4] for name in named(short.train)} == {"0001", "0002"}


@pytest.mark.parametrize("suffix", OCCLUDED)
def test_an_occluded_variant_draws_its_queries_with_donors_of_the_dev_queries_alone(suffix, root):
    plain, data = open_data("Market1501Dev"), open_data(f"Market1501Dev{suffix}")
    assert (data.train, data.gallery) == (plain.train, plain.gallery)
    assert [item[1:] for item in data.query] == [item[1:] for item in plain.query]
    severity, kind = OCCLUDED[suffix]
    occluder = QueryOccluder(plain.query)
    for (drawn, *_), (original, *_) in zip(data.query, plain.query, strict=True):
        assert os.path.dirname(drawn) == str(root / "OccludedMarket1501" / f"Dev{suffix}" / "query")
        name = os.path.splitext(os.path.basename(original))[0]
        donor = occluder._donor(name)
        assert donor in {path for path, *_ in plain.query} and os.path.basename(donor)[:4] != name[:4]
        expected = occlude(
            np.asarray(Image.open(original)), name, severity, lambda path=donor: np.asarray(Image.open(path)), kind
        )
        np.testing.assert_array_equal(np.asarray(Image.open(drawn)), expected)


def test_a_partial_query_has_lost_40_percent_of_its_height_or_width(root):
    sizes = {Image.open(path).size for path, *_ in open_data("Market1501DevPartial").query}
    assert sizes <= {(64, 77), (38, 128)}  # 128 - 51, 64 - 26


def test_a_part_of_market_1501_is_told_by_the_data_set_and_its_queries(root, host_log):
    assert len(open_data("Market1501DevS1").query) == 4
    [line] = [record.getMessage() for record in host_log.records if record.levelname == "WARNING"]
    assert line.startswith("Market1501DevS1: Market1501Dev in ") and "has 4 queries, official are 663: " in line


def test_a_training_on_its_test_identities_is_warned_of(root, host_log):
    cfg = igoas_plugin.get_cfg()
    cfg.SOLVER.IMS_PER_BATCH = 8
    for trained, warned in (("Market1501Dev", False), ("Market1501", True)):
        host_log.clear()
        cfg.DATASETS.NAMES = (trained,)
        check_training_data(cfg, {name: check_test_data(name) for name in ("Market1501Dev", "Market1501DevS1")})
        lines = [record.getMessage() for record in host_log.records if "are trained on too" in record.getMessage()]
        assert len(lines) == warned and all("Market1501Dev, Market1501DevS1" in line for line in lines)


def test_looking_at_it_draws_nothing_and_without_market_1501_the_line_says_what_to_do(root, tmp_path_factory):
    assert report("Market1501DevPartial", str(root)).why == "made on first use"
    found = report("Market1501Dev", str(root))
    assert {split: each.counts for split, each in found.splits.items()} == {
        "train": (8, 2, 2), "query": (4, 2, 2), "gallery": (4, 2, 2)
    }  # fmt: skip
    assert os.listdir(root) == ["Market-1501-v15.09.15"]
    with pytest.raises(InputError, match="data set Market1501Dev: there is no folder .*/Market-1501-v15.09.15; put"):
        open_data("Market1501DevS2", str(tmp_path_factory.mktemp("empty")))


@pytest.mark.realdata
@needs_market
def test_the_official_images_give_the_counts_that_are_stated():
    for name, train in (("Market1501Dev", (10679, 601, 6)), ("Market1501Dev250", (4664, 250, 6))):
        splits = report(name, REAL).splits
        assert [each.counts for each in splits.values()] == [train, (663, 150, 6), (1594, 148, 6)]
        assert all(each.state == "as published" for each in splits.values())
