import pytest
from tiny_data import make_tiny_duke

from igoas_plugin.check import check_test_data
from igoas_plugin.errors import InputError


def test_a_data_set_of_one_camera_cannot_be_ranked(tmp_path, monkeypatch):
    make_tiny_duke(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    check_test_data("OccludedDuke")
    for path in tmp_path.glob("*/*/*_c2_*"):
        path.unlink()
    with pytest.raises(InputError, match="no query has an image of its identity and of another camera in the gallery"):
        check_test_data("OccludedDuke")
