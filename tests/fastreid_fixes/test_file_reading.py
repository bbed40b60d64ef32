from fastreid.modeling.backbones import build_backbone

import igoas_plugin


def backbone(name, depth):
    cfg = igoas_plugin.get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH = f"build_{name}_backbone", depth
    cfg.MODEL.BACKBONE.PRETRAIN = False
    return build_backbone(cfg)


def test_without_the_plugin_regnet_needs_the_hosts_folder_and_remembers_the_last_one(raw_host):
    assert raw_host["regnet_from_another_folder"].startswith("FileNotFoundError")
    assert raw_host["regnet_x_after_y"] is False


def test_regnet_is_built_from_any_folder_and_as_it_is_described(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = backbone("regnet", "200x").state_dict().keys()
    backbone("regnet", "200y")
    backbone("effnet", "b0")
    assert backbone("regnet", "200x").state_dict().keys() == first
