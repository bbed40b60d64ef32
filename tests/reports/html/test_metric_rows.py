from types import SimpleNamespace

import igoas_plugin
from igoas_plugin.evaluation.results import METRICS
from igoas_plugin.reports.html.metric_rows import differences, rows_of

MEASURED = dict(zip(METRICS, (70.0, 80.0, 85.0, 60.04, 40.0), strict=True))


def run(recorded=(), trained_on=("Market1501",), whole=False):
    cfg = igoas_plugin.get_cfg()
    cfg.DATASETS.NAMES, cfg.DATASETS.COMBINEALL = trained_on, whole
    return SimpleNamespace(cfg=cfg, recorded=dict(recorded))


def test_published_rows_are_marked_have_a_source_and_a_dash_where_nothing_was_published():
    rows = rows_of(run(), "PartialREID", MEASURED)
    assert rows[0] == (
        "this evaluation",
        "measured",
        ("70.0", "80.0", "85.0", "60.0", "40.0"),
        "measured for this page",
    )
    assert len(rows) > 5 and all(row.kind == "published" and row.source for row in rows[1:])
    assert ("PGFA, ICCV 2019", "published", ("68.0", "-", "-", "-", "-"), "its paper") in rows


def test_figures_of_another_training_are_not_beside_it():
    for other in (run(trained_on=("OccludedDuke",)), run(trained_on=("Market1501", "DukeMTMC")), run(whole=True)):
        assert [row.kind for row in rows_of(other, "PartialREID", MEASURED)] == ["measured"]
    assert [row.kind for row in rows_of(run(), "ToyOccluded", MEASURED)] == ["measured"]


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
