import pytest
from fastreid.modeling import build_model
from fastreid.modeling.backbones import build_backbone

import igoas_plugin
from igoas_plugin.core.errors import InputError


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


def test_a_teacher_that_is_no_baseline_is_refused_with_the_reason(baseline_cfg, tmp_path):
    cfg, path = baseline_cfg, tmp_path / "teacher.yml"
    cfg.MODEL.HEADS.NUM_CLASSES = 4

    def build_student(*weights, **keys):
        for key, value in keys.items():
            cfg.MODEL[key] = value
        path.write_text(cfg.dump())
        student = cfg.clone()
        student.MODEL.META_ARCHITECTURE = "Distiller"
        student.KD.MODEL_CONFIG, student.KD.MODEL_WEIGHTS = [str(path)], weights
        return build_model(student)

    for name in ("IGOAS", "MGN"):
        with pytest.raises(InputError, match=f"teacher.yml: a Distiller .* as a Baseline, and this one is {name}"):
            build_student("", META_ARCHITECTURE=name)
    for name in ("Baseline", "OcclusionWrapper", "Distiller", "NotImported"):  # fast-reid ignores the name
        assert len(build_student("", META_ARCHITECTURE=name).model_ts) == 1
    with pytest.raises(InputError, match="KD.MODEL_CONFIG names 1 teacher and KD.MODEL_WEIGHTS 0 files: give one"):
        build_student()
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "Distiller", "KD.MODEL_CONFIG", ["absent.yml"]])
    cfg.KD.MODEL_WEIGHTS = [""]
    with pytest.raises(InputError, match="KD.MODEL_CONFIG: there is no file absent.yml"):
        build_model(cfg)
