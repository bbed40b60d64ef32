from types import SimpleNamespace

import igoas_plugin
from igoas_plugin.evaluation.results import METRICS
from igoas_plugin.reports.html.page import name_below
from igoas_plugin.reports.html.run_evaluation import differences, folders_of, rows_of, settings_of, splits_of


def test_keys_that_differ_from_their_defaults_have_both_values(baseline_cfg):
    settings = {key: values for key, *values in settings_of(baseline_cfg)}
    assert settings["INPUT.SIZE_TEST"] == ["[32, 16]", "[256, 128]"]
    assert "TEST.METRIC" not in settings and settings["SEED"][0] == "1"


def test_a_training_set_that_is_not_here_has_a_reason_in_its_row(baseline_cfg, data_root):
    baseline_cfg.DATASETS.NAMES = ("OccludedDuke",)
    train, query, gallery = splits_of(baseline_cfg, str(data_root))
    assert train[:6] == ("OccludedDuke", "train", "-", "-", "-", "-") and str(data_root) in train[6]
    assert query == ("TinyReID", "query", "8", "4", "1", "-", "ok")
    assert gallery[:5] == ("TinyReID", "gallery", "16", "4", "2")


def test_counts_stand_beside_the_published_ones(baseline_cfg, tiny_duke):
    baseline_cfg.DATASETS.NAMES = baseline_cfg.DATASETS.TESTS = ("OccludedDuke",)
    train, query, gallery = splits_of(baseline_cfg, str(tiny_duke))
    assert train == ("OccludedDuke", "train", "16", "4", "2", "15,618 / 702 / 8", "differs")
    assert [row[1] for row in (train, query, gallery)] == ["train", "query", "gallery"]


def test_every_image_of_a_rank_list_and_the_maps_of_the_worst_and_best_queries_have_pictures(test_sets):
    [tested] = test_sets
    lists = [ranked for kind in tested.lists.values() for ranked in kind]
    paths = {each.path for ranked in lists for each in (ranked.query, *ranked.found, ranked.later) if each}
    assert len(lists) == 6 and set(tested.pictures) == paths
    assert all(picture.alt.startswith("image ") for picture in tested.pictures.values())
    assert set(tested.maps) == {query for query, kind in tested.pictured.items() if kind in ("worst", "best")}
    assert all(each.width > 500 and each.height > 300 for each in tested.maps.values())


def test_files_are_named_from_the_folder_that_holds_them_all(test_sets):
    assert {name_below(folder, folder.rsplit("/", 1)[0]) for folder in folders_of(test_sets[0].retrieval)} == {
        "TinyReID"
    }
    assert name_below("/data/gallery/1/1.jpg", "/data/gallery") == "1/1.jpg"
    assert name_below("/elsewhere/a.jpg", "/data") == "/elsewhere/a.jpg"
    assert name_below("/data/a\n\udcff.jpg", "/data") == "a\\n\\udcff.jpg"


MEASURED = dict(zip(METRICS, (70.0, 60.04, 80.0, 85.0, 40.0), strict=True))


def run(recorded=(), trained_on=("Market1501",), whole=False):
    cfg = igoas_plugin.get_cfg()
    cfg.DATASETS.NAMES, cfg.DATASETS.COMBINEALL = trained_on, whole
    return SimpleNamespace(cfg=cfg, recorded=dict(recorded))


def test_published_rows_are_marked_have_a_source_and_a_dash_where_nothing_was_published():
    rows = rows_of(run(), "PartialREID", MEASURED)
    assert rows[0] == (
        "this evaluation",
        "measured",
        ("70.0", "60.0", "80.0", "85.0", "40.0"),
        "measured for this page",
    )
    assert len(rows) > 5 and all(row.kind == "published" and row.source for row in rows[1:])
    assert ("PGFA, ICCV 2019", "published", ("68.0", "-", "-", "-", "-"), "its paper") in rows


def test_published_rows_that_use_the_whole_gallery_are_marked_as_transductive():
    rows = rows_of(run(), "OccludedREID", MEASURED)
    pose = ("KPR + Pose2ID (transductive), CVPR 2025", "published", ("91.0", "89.3", "-", "-", "-"), "table of Pose2ID")
    assert pose in rows and sum("(transductive)" in row.name for row in rows) == 2


def test_figures_of_another_training_are_not_beside_it():
    for other in (run(trained_on=("OccludedDuke",)), run(trained_on=("Market1501", "DukeMTMC")), run(whole=True)):
        assert [row.kind for row in rows_of(other, "PartialREID", MEASURED)] == ["measured"]
    assert [row.kind for row in rows_of(run(), "ToyOccluded", MEASURED)] == ["measured"]


def test_recorded_figures_without_the_camera_rule_are_marked():
    recorded = {"results.json": {"TinyReID": {**MEASURED, "TEST.CAMERA_RULE": False}}}
    names = [row.name for row in rows_of(run(recorded), "TinyReID", MEASURED)]
    assert names == ["this evaluation", "recorded (without the camera rule)"]


def test_figures_of_steps_before_the_ranking_are_marked():
    recorded = {"results.json": {"TinyReID": {**MEASURED, "steps": ["re-ranking"]}}}
    evaluated = run(recorded)
    evaluated.cfg.TEST.NFC.ENABLED = True
    names = [row.name for row in rows_of(evaluated, "TinyReID", MEASURED)]
    assert names == ["this evaluation (NFC)", "recorded (transductive: re-ranking)"]


def test_recorded_figures_have_a_row_and_a_difference_is_reported():
    recorded = {"results.json": {"TinyReID": {**MEASURED, "Rank-1": 72.0, "CMC": [1, 2]}}}
    assert [row.kind for row in rows_of(run(recorded), "TinyReID", MEASURED)] == ["measured", "recorded"]
    [told] = differences(run(recorded), "TinyReID", MEASURED)
    assert "differ from results.json of the run: Rank-1 70.0 here, 72.0 there." in told and "mAP" not in told


def test_rounding_is_no_difference_and_a_file_without_the_test_set_is_reported():
    same = {"results.json": {"TinyReID": {**MEASURED, "mAP": 60.07}}}
    assert differences(run(same), "TinyReID", MEASURED) == []
    assert differences(run(), "TinyReID", MEASURED) == []
    assert differences(run(same), "Market1501", MEASURED) == ["results.json of the run has no figures of Market1501."]
