import pytest
import torch
from fastreid.modeling import build_model

from igoas_plugin.fastreid_fixes.device import usable_device, usable_norm


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_models_are_built_on_the_cpu_with_one_warning(baseline_cfg, raw_host, host_log):
    assert raw_host["default_device"].startswith("RuntimeError")
    usable_device.cache_clear()
    baseline_cfg.MODEL.DEVICE, baseline_cfg.MODEL.HEADS.NUM_CLASSES = "cuda", 4
    models = [build_model(baseline_cfg) for _ in range(2)]
    assert {parameter.device.type for model in models for parameter in model.parameters()} == {"cpu"}
    assert [record.getMessage() for record in host_log.records].count(
        "MODEL.DEVICE is cuda but torch finds no GPU: the CPU is used"
    ) == 1
    assert baseline_cfg.MODEL.DEVICE == "cuda"


def test_sync_bn_is_bn_on_the_cpu_with_one_warning(baseline_cfg, host_log):
    usable_norm.cache_clear()
    baseline_cfg.MODEL.HEADS.NUM_CLASSES = 4
    baseline_cfg.MODEL.BACKBONE.NORM = baseline_cfg.MODEL.HEADS.NORM = "syncBN"
    model = build_model(baseline_cfg)
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules())
    assert isinstance(model.backbone.bn1, torch.nn.BatchNorm2d)
    assert host_log.text.count("NORM is syncBN, which needs a GPU: BN is used") == 1
    assert baseline_cfg.MODEL.BACKBONE.NORM == "syncBN"
