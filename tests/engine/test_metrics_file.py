import json

from igoas_plugin.engine.metrics_file import logged_lines


def test_the_suppression_loss_of_an_earlier_version_is_read_under_its_name_of_today(tmp_path):
    line = {"iteration": 3, "loss_mask_global": 0.5, "raw_loss_mask_suppression": 0.25, "total_loss": 2.0}
    (tmp_path / "metrics.json").write_text(json.dumps(line) + "\n")
    assert logged_lines(str(tmp_path)) == [
        {"iteration": 3, "suppression_loss_global": 0.5, "raw_suppression_loss_suppression": 0.25, "total_loss": 2.0}
    ]
