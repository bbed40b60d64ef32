import pytest
from fastreid.config import get_cfg as get_host_cfg

import igoas_plugin
from igoas_plugin.config import flat_keys, load_cfg
from igoas_plugin.errors import InputError

KEYS = """SEED MODEL.OCCLUSION.NAME MODEL.OCCLUSION.WRAPS MODEL.OCCLUSION.PROB MODEL.OCCLUSION.SCHEDULE
MODEL.OCCLUSION.EPOCHS MODEL.OCCLUSION.AREA_START MODEL.OCCLUSION.AREA_SLOPE MODEL.OCCLUSION.AREA_RAMP
MODEL.OCCLUSION.AREA_FINAL MODEL.OCCLUSION.ASPECT_MIN MODEL.OCCLUSION.FILL MODEL.IGOAS.STEM MODEL.IGOAS.EXTRA_BLOCK
MODEL.IGOAS.DESCRIPTOR MODEL.IGOAS.GLOBAL.POOL_LAYER MODEL.IGOAS.SUPPRESSION.POOL_LAYER
MODEL.IGOAS.SUPPRESSION.ATTENTION
MODEL.IGOAS.MASK_LOSS.SCALE MODEL.IGOAS.MASK_LOSS.ON MODEL.IGOAS.MASK_LOSS.BRANCHES MODEL.IGOAS.MASK_LOSS.STAGES
MODEL.IGOAS.ID_WEIGHTS MODEL.IGOAS.FREEZE_EPOCHS MODEL.IGOAS.FREEZE_JOINT""".split()


def test_the_plugin_adds_exactly_its_keys_and_leaves_the_host_s_values():
    host, ours = get_host_cfg(), igoas_plugin.get_cfg()
    assert set(flat_keys(ours)) - set(flat_keys(host)) == set(KEYS)
    for key in flat_keys(host):
        mine, theirs = ours, host
        for part in key.split("."):
            mine, theirs = mine[part], theirs[part]
        assert mine == theirs, key


def test_adding_again_overwrites_nothing_that_is_set_and_keeps_a_frozen_config_frozen():
    cfg = igoas_plugin.get_cfg()
    cfg.SEED, cfg.MODEL.IGOAS.MASK_LOSS.SCALE = 7, 3.0
    cfg.freeze()
    igoas_plugin.add_igoas_config(cfg)
    assert cfg.SEED == 7 and cfg.MODEL.IGOAS.MASK_LOSS.SCALE == 3.0 and cfg.is_frozen()


def test_two_configs_share_nothing():
    first, second = igoas_plugin.get_cfg(), igoas_plugin.get_cfg()
    first.MODEL.IGOAS.STEM = "host"
    assert second.MODEL.IGOAS.STEM == "torchvision"


def test_options_win_over_the_file(tmp_path):
    (tmp_path / "base.yml").write_text("SEED: 1\nMODEL: {IGOAS: {STEM: host}}")
    (tmp_path / "run.yml").write_text("_BASE_: base.yml\nSEED: 2")
    cfg = load_cfg(str(tmp_path / "run.yml"), ["SEED", "3"])
    assert cfg.SEED == 3 and cfg.MODEL.IGOAS.STEM == "host"


def test_a_bare_ON_in_a_file_is_the_key_of_that_name(tmp_path, raw_host):
    assert raw_host["key_of_a_bare_ON"] == ["bool"]
    (tmp_path / "base.yml").write_text('MODEL: {IGOAS: {MASK_LOSS: {"ON": channel_mean}}}')
    (tmp_path / "run.yml").write_text("_BASE_: base.yml\nMODEL: {IGOAS: {MASK_LOSS: {ON: feature_map}}}")
    cfg = igoas_plugin.get_cfg()
    cfg.merge_from_file(str(tmp_path / "run.yml"))
    assert cfg.MODEL.IGOAS.MASK_LOSS.ON == "feature_map"


@pytest.mark.parametrize("opts", [["logs/run/model.pth"], ["SEED", "1", "EXTRA"]])
def test_options_that_are_no_pairs_are_refused(opts):
    with pytest.raises(InputError, match="must be KEY VALUE pairs"):
        load_cfg("", opts)
