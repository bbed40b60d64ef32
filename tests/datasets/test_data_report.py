"""tools/check_data.py tells what is there, what should be there, and what cannot be read."""

import os
import runpy
import sys
from pathlib import Path

import pytest
from fastreid.data.datasets import DATASET_REGISTRY
from PIL import Image
from tiny_data import make_tiny_duke, make_tiny_market

import igoas_plugin  # noqa: F401  (patches fast-reid)
from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.data_report import KNOWN, SplitReport, report, table_of
from igoas_plugin.datasets.published import Counts
from igoas_plugin.datasets.toy.toy_occluded import Plan, ToyOccluded
from igoas_plugin.preflight import check_test_data

TOOL = str(Path(__file__).parents[2] / "tools" / "check_data.py")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    return tmp_path


@pytest.fixture
def check(monkeypatch, capsys):
    """Runs the tool; returns its exit code and output."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", [TOOL, *words])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(TOOL, run_name="__main__")
        return caught.value.code, capsys.readouterr()

    return run


def small_ilids(root, identities=119):
    for part in ("Probe", "Gallery"):
        (root / "Partial_iLIDS" / part).mkdir(parents=True)
        for identity in range(1, identities + 1):
            Image.new("RGB", (4, 8), (identity, 2, part == "Probe")).save(
                root / "Partial_iLIDS" / part / f"{identity}.png"
            )


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_an_empty_folder_lists_every_known_set_as_not_found(root, check):
    code, printed = check()
    lines = printed.out.splitlines()[2:]
    assert code == 0 and [cells(line)[0] for line in lines] == list(KNOWN)
    assert {cells(line)[-1] for line in lines[:-1]} == {"not found"} and cells(lines[-1])[-1] == "made on first use"
    assert os.listdir(root) == []  # looking makes nothing


def test_a_complete_set_is_as_published_with_its_folder_and_counts(root, check):
    small_ilids(root)
    code, printed = check("PartialiLIDS")
    assert code == 0
    assert [cells(line) for line in printed.out.splitlines()[2:]] == [
        ["PartialiLIDS", "Partial_iLIDS", split, "119", "119", "1", "119 / 119 / -", "as published"]
        for split in ("query", "gallery")
    ]


def test_an_incomplete_set_differs_and_what_is_missing_is_named(root, check, host_log):
    small_ilids(root, identities=118)
    code, printed = check("PartialiLIDS")
    assert code == 1 and printed.out.count("differs") == 2
    assert "identities without 1 images: 119 (0)" in host_log.records[0].getMessage()


def test_the_host_s_own_sets_are_counted_against_their_published_counts(root):
    make_tiny_market(root)
    found = report("Market1501", str(root))
    assert found.splits["query"].published == Counts(3368, 750, 6) and not found.sound
    assert found.splits["train"].counts == Counts(16, 4, 2)
    assert found.folder == "Market-1501-v15.09.15"


def test_a_named_set_that_is_missing_is_exit_code_1(root, check):
    assert check("PETHZ")[0] == 1


def test_names_are_taken_in_any_case_with_dashes_and_underscores_and_printed_as_registered(root, check):
    make_tiny_duke(root)
    _, printed = check("occluded-duke", "OccludedDuke", "partial_reid_OCCLUDED")
    rows = [line.split("|")[1].strip() for line in printed.out.splitlines() if line.startswith("| ")]
    assert rows[1:] == [*3 * ["OccludedDuke"], "PartialREIDOccluded"]
    assert "\nPartialREIDOccluded: there is no folder" in printed.out


def test_an_unknown_name_is_one_line(root, check):
    code, printed = check("PETZ")
    assert code == 2 and "a data set must be" in printed.err and "got PETZ" in printed.err


def test_empty_files_are_named_without_opening_any(root, check):
    small_ilids(root)
    (root / "Partial_iLIDS" / "Probe" / "7.png").write_bytes(b"")
    (root / "Partial_iLIDS" / "Probe" / "8.png").write_text("no image")
    code, printed = check("PartialiLIDS")
    assert code == 1 and "as published, 1 problems" in printed.out
    assert f"PartialiLIDS, query: {root / 'Partial_iLIDS' / 'Probe' / '7.png'}: missing or empty" in printed.out


def test_decode_opens_every_image_and_finds_files_that_are_there_twice(root, check):
    small_ilids(root)
    probe = root / "Partial_iLIDS" / "Probe"
    (probe / "8.png").write_text("no image")
    (probe / "9.png").write_bytes((probe / "10.png").read_bytes())
    code, printed = check("PartialiLIDS", "--decode")
    assert code == 1 and "as published, 2 problems" in printed.out
    assert f"{probe / '8.png'} cannot be read: it is no image" in printed.out
    assert f"{probe / '9.png'}: the same file as {probe / '10.png'}" in printed.out


def test_many_problems_are_counted_and_ten_written_out(root, check):
    small_ilids(root)
    for path in (root / "Partial_iLIDS" / "Probe").iterdir():
        path.write_bytes(b"")
    _, printed = check("PartialiLIDS")
    assert printed.out.count("missing or empty") == 10 and "PartialiLIDS, query: and 109 more" in printed.out


def test_a_set_that_cannot_be_read_says_why(root, check):
    make_tiny_duke(root)
    (root / "Occluded_Duke" / "query" / "person.jpg").write_bytes(b"")
    code, printed = check("OccludedDuke")
    assert code == 1 and "person.jpg: the name does not begin with identity and camera" in printed.out


def test_generated_sets_are_looked_at_where_they_were_made(root):
    make_tiny_market(root)
    name = "OccludedMarket1501"
    assert report(name, str(root)).why == "made on first use"
    assert DATASET_REGISTRY.get(name)(root=str(root)).query
    found = report(name, str(root))
    assert found.splits["query"].counts.images == 16 and "OccludedMarket1501" in table_of([found])


@pytest.mark.parametrize("name, image", [
    ("OccludedMarket1501", "OccludedMarket1501/S3/query/0001_c1s1_000001_00.png"),
    ("ToyOccluded", "ToyOccluded/query/0003_c1_000.png"),
])  # fmt: skip
def test_decode_notices_a_generated_image_that_was_changed(name, image, root, check, monkeypatch):
    monkeypatch.setattr(ToyOccluded, "plan", Plan(train=2, test=2, distractors=1))  # 34 images in place of 840
    make_tiny_market(root)
    data = DATASET_REGISTRY.get(name)(root=str(root))
    assert data.query and data.gallery
    assert "not the images that were drawn" not in check(name, "--decode")[1].out
    Image.new("RGB", (64, 128), (1, 2, 3)).save(root / image)
    code, printed = check(name, "--decode")
    folder = (root / image).parents[1 if name == "ToyOccluded" else 0]
    assert code == 1 and f"{folder}: not the images that were drawn: remove that folder" in printed.out


def test_what_macos_puts_beside_drawn_images_does_not_change_them(root, check):
    make_tiny_market(root)
    assert DATASET_REGISTRY.get("OccludedMarket1501")(root=str(root)).query
    for name in ("._0001_c1s1_000001_00.png", "0001_c1s1_000001_00 (1).png"):
        (root / "OccludedMarket1501" / "S3" / "query" / name).write_bytes(b"x")
    assert "not the images that were drawn" not in check("OccludedMarket1501", "--decode")[1].out


def test_an_empty_split_that_should_have_images_differs(root, monkeypatch):
    make_tiny_market(root)
    for path in (root / "Market-1501-v15.09.15" / "query").iterdir():
        path.unlink()
    found = report("Market1501", str(root))
    assert found.splits["query"].state.startswith("differs") and not found.sound


def test_queries_that_nothing_in_the_gallery_matches_are_a_problem(root, check):
    small_ilids(root)
    (root / "Partial_iLIDS" / "Gallery" / "7.png").rename(root / "Partial_iLIDS" / "Gallery" / "500.png")
    code, printed = check("PartialiLIDS")
    assert code == 1 and "query: 1 of 119 have no gallery image of their identity in another camera" in printed.out
    assert f"the first is {root / 'Partial_iLIDS' / 'Probe' / '7.png'}" in printed.out


def test_the_camera_rule_of_the_command_line_is_that_of_the_report(root, check, monkeypatch):
    make_tiny_duke(root)
    rules = []
    monkeypatch.setattr("igoas_plugin.datasets.data_report.unmatched", lambda *args: rules.append(args[2]) or [])
    for opts in ([], ["TEST.CAMERA_RULE", "False"]):
        check("OccludedDuke", *opts)
    assert rules == [True, False]


def test_a_query_that_is_in_the_gallery_too_is_found(root, check):
    small_ilids(root)
    probe, gallery = (root / "Partial_iLIDS" / part / "7.png" for part in ("Probe", "Gallery"))
    gallery.write_bytes(probe.read_bytes())
    code, printed = check("PartialiLIDS", "--decode")
    assert code == 1 and f"PartialiLIDS, gallery: {gallery}: the same file as {probe}" in printed.out


def test_a_generated_set_is_no_fault_before_its_first_use_but_what_it_is_made_from_must_be_there(root, check):
    code, printed = check("OccludedMarket1501S2")
    assert code == 1 and "OccludedMarket1501S2: data set Market1501: " in printed.out
    make_tiny_market(root)
    code, printed = check("OccludedMarket1501S2")
    assert code == 0 and "made on first use" in printed.out


def test_the_cameras_are_compared_with_those_that_were_published():
    found = [SplitReport(Counts(10, 5, cameras), Counts(10, 5, 6)) for cameras in (6, 5)]
    assert [each.as_published for each in found] == [True, False]
    assert [SplitReport(Counts(10, 5, cameras), Counts(10, 5)).as_published for cameras in (6, 5)] == [True, True]


def test_a_set_that_lacks_a_part_says_which(root, check):
    make_tiny_duke(root)
    (root / "Occluded_Duke" / "query").rename(root / "elsewhere")
    code, printed = check()
    assert code == 1 and f"there is no folder {root / 'Occluded_Duke' / 'query'}" in printed.out


def test_a_p_ethz_of_other_counts_differs(root):
    for part in ("occluded_body_images", "whole_body_images"):
        (root / "P_ETHZ" / part).mkdir(parents=True)
        for identity in range(1, 86):
            (root / "P_ETHZ" / part / f"{identity:03d}_1.png").write_bytes(b"x")
    assert not report("PETHZ", str(root)).sound


@pytest.mark.parametrize("name", ["OccludedMarket1501S5", "OccludedMarket1501G10"])
def test_looking_at_a_generated_set_makes_nothing(name, root):
    make_tiny_market(root)
    assert report(name, str(root)).why == "made on first use"
    assert os.listdir(root) == ["Market-1501-v15.09.15"]


@pytest.mark.parametrize("folder, parts", [
    ("MSMT17_V1", ("train", "test")),
    ("MSMT17_V2", ("mask_train_v2", "mask_test_v2")),
])  # fmt: skip
def test_both_versions_of_msmt17_are_read_by_their_lists_and_compared_with_its_counts(folder, parts, root, check):
    lists = {"train": parts[0], "val": parts[0], "query": parts[1], "gallery": parts[1]}
    for number, (name, part) in enumerate(lists.items()):
        image = f"0000/0000_{number:03d}_{number + 1:02d}_0303morning_0008_0.jpg"  # camera: the third number
        (root / folder / part / "0000").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8), (number, 0, 0)).save(root / folder / part / image)
        (root / folder / f"list_{name}.txt").write_text(f"{image} 0\n")
    found = report("MSMT17", str(root))
    assert found.folder == folder and not found.sound
    # one image each; the validation images are not trained on
    assert [split.counts for split in found.splits.values()] == [(1, 1, 1)] * 3
    assert [split.published for split in found.splits.values()] == [
        (30248, 1041, 15), (11659, 3060, 15), (82161, 3060, 15)
    ]  # fmt: skip
    (root / folder / parts[1] / "0000" / "0000_002_03_0303morning_0008_0.jpg").unlink()
    code, printed = check("MSMT17")
    assert code == 1 and "0000_002_03_0303morning_0008_0.jpg: missing or empty" in printed.out


def test_the_root_that_is_given_is_looked_at(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    small_ilids(other)
    assert report("PartialiLIDS", str(other)).sound


@pytest.mark.parametrize("subset", ["bounding_box_train", "query"])
def test_a_wrong_name_in_a_set_of_the_host_is_named(subset, root, check):
    make_tiny_market(root)
    (root / "Market-1501-v15.09.15" / subset / "person.jpg").write_bytes(b"x")
    code, printed = check("Market1501", "PETHZ")
    assert code == 1 and "PETHZ" in printed.out
    assert f"{subset}/person.jpg does not tell identity and camera" in printed.out
    assert "\nPETHZ: there is no folder" in printed.out  # its name once
    with pytest.raises(InputError, match=f"{subset}/person.jpg does not tell identity and camera"):
        check_test_data("Market1501")
