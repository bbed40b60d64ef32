import pytest

from igoas_plugin.reports.html.run_evaluation import settings_of, splits_of


def test_keys_that_differ_from_their_defaults_are_told_with_both_values(baseline_cfg):
    settings = {setting.key: setting for setting in settings_of(baseline_cfg)}
    assert settings["INPUT.SIZE_TEST"] == ("INPUT.SIZE_TEST", "[32, 16]", "[256, 128]")
    assert "TEST.METRIC" not in settings and settings["SEED"].value == "1"


def test_a_training_set_that_is_not_here_is_told_in_its_row(baseline_cfg, data_root):
    baseline_cfg.DATASETS.NAMES = ("OccludedDuke",)
    train, query, gallery = splits_of(baseline_cfg, str(data_root))
    assert train[:6] == ("OccludedDuke", "train", "-", "-", "-", "-") and str(data_root) in train.state
    assert query == ("TinyReID", "query", "8", "4", "1", "-", "ok")
    assert gallery[:5] == ("TinyReID", "gallery", "16", "4", "2")


def test_counts_stand_beside_the_published_ones(baseline_cfg, tiny_duke):
    baseline_cfg.DATASETS.NAMES = baseline_cfg.DATASETS.TESTS = ("OccludedDuke",)
    train, query, gallery = splits_of(baseline_cfg, str(tiny_duke))
    assert train == ("OccludedDuke", "train", "16", "4", "2", "15,618 / 702 / 8", "differs")
    assert [row.split for row in (train, query, gallery)] == ["train", "query", "gallery"]


@pytest.mark.parametrize("name", ["cameras", "identities"])
def test_everything_that_is_grouped_is_in_the_table_of_queries_too(evaluation, name):
    tested = evaluation.test_sets[0]
    assert sum(group.queries for group in getattr(tested, name)) == len(tested.queries) - tested.unanswered == 8
    assert tested.folders == ("TinyReID", "TinyReID")
