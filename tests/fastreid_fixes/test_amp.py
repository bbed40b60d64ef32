from types import SimpleNamespace

import pytest
import tiny_data
import torch
from fastreid.engine.hooks import LRScheduler
from fastreid.engine.train_loop import AMPTrainer
from fastreid.modeling import build_model
from fastreid.solver import build_lr_scheduler, build_optimizer
from fastreid.utils.events import EventStorage
from runs import start
from tiny_data import random_batch, use_resnet

from igoas_plugin.fastreid_fixes import amp


def test_amp_trains_on_the_cpu_in_the_faster_type(baseline_cfg, raw_host, dtype_of_cpu):
    assert raw_host["amp_step_on_the_cpu"].startswith("AssertionError")
    baseline_cfg.MODEL.HEADS.NUM_CLASSES = 4
    model = build_model(baseline_cfg).train()
    seen = []
    model.backbone.conv1.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    optimizer, wrapper = build_optimizer(baseline_cfg, model)
    trainer = AMPTrainer(model, [random_batch()], optimizer, wrapper)
    before = model.backbone.conv1.weight.detach().clone()
    with EventStorage():
        trainer.run_step()
    assert seen == [dtype_of_cpu]
    assert not torch.equal(before, model.backbone.conv1.weight)


def test_it_is_said_once_that_amp_has_no_effect(dtype_of_cpu, host_log):
    for _ in range(2):
        amp.amp_dtype("cpu")
    lines = [record.getMessage() for record in host_log.records]
    expected = ["Mixed precision is left out: this CPU has no bfloat16 instructions, and float32 is faster on it"]
    assert lines == (expected if dtype_of_cpu == torch.float32 else [])


def test_the_type_can_be_chosen(igoas_cfg, dtype_of_cpu):
    igoas_cfg.SOLVER.AMP.ENABLED, igoas_cfg.SOLVER.AMP.DTYPE = True, "bfloat16"
    trainer = start(igoas_cfg)._trainer
    assert trainer.dtype == torch.bfloat16 and not trainer.grad_scaler.is_enabled()
    assert amp.amp_dtype("cuda") == amp.amp_dtype("cuda", "float16") == torch.float16
    assert amp.amp_dtype("cuda", "bfloat16") == torch.bfloat16


LAYERS = [
    ("IGOAS", {}),
    ("IGOAS", {"MODEL.OCCLUSION.TRUNCATION": 0.5}),
    ("IGOAS", {"MODEL.OCCLUSION.NAME": "CutoutOcclusion"}),
    ("IGOAS", {"MODEL.BACKBONE.WITH_IBN": True}),
    ("Baseline", {}),
    ("Baseline", {"MODEL.BACKBONE.WITH_NL": True}),
    ("OcclusionWrapper", {}),
]


@pytest.mark.parametrize("architecture, keys", LAYERS)
def test_convolutions_get_channels_last_in_mixed_precision(igoas_cfg, architecture, keys):
    use_resnet(igoas_cfg)
    igoas_cfg.merge_from_list([word for pair in keys.items() for word in pair])
    igoas_cfg.MODEL.META_ARCHITECTURE, igoas_cfg.MODEL.HEADS.NUM_CLASSES = architecture, 4
    if architecture != "IGOAS":
        igoas_cfg.MODEL.HEADS.NAME, igoas_cfg.MODEL.HEADS.EMBEDDING_DIM = "EmbeddingHead", 0
    model, seen = build_model(igoas_cfg).train(), {}

    def note(name):
        return lambda module, inputs: seen.update({name: inputs[0]})

    for name, module in model.named_modules():  # a spatial attention gets two channels: nothing to copy
        if isinstance(module, torch.nn.Conv2d) and not name.startswith("heads") and not name.endswith(".spatial"):
            module.register_forward_pre_hook(note(name))
    with EventStorage(), torch.autocast("cpu", torch.bfloat16):
        sum(model(random_batch(size=(64, 32))).values()).backward()
    last = [name for name, each in seen.items() if each.is_contiguous(memory_format=torch.channels_last)]
    assert len(last) > 10 and set(seen) == set(last)
    assert all(each.is_contiguous() for each in model.parameters())  # as fast-reid's flat buffers need them


def test_a_whole_run_with_amp_ends_with_metrics(igoas_cfg, dtype_of_cpu):
    igoas_cfg.SOLVER.AMP.ENABLED = True
    trainer, types = start(igoas_cfg), set()
    trainer._trainer.model.backbone.conv1.register_forward_hook(
        lambda module, inputs, output: types.add((module.training, output.dtype))
    )
    results = trainer.train()
    assert types == {(True, dtype_of_cpu), (False, torch.float32)}  # evaluation is in float32
    assert all(0 <= results[name] <= 100 for name in ("Rank-1", "mAP"))


@pytest.mark.parametrize("architecture", ["Baseline", "MGN"])
def test_logits_and_losses_of_fast_reid_stay_in_float32(baseline_cfg, raw_host, architecture):
    assert raw_host["dtype_of_logits_under_autocast"] == "torch.bfloat16"
    cfg = baseline_cfg
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NUM_CLASSES = architecture, 4
    cfg.MODEL.LOSSES.NAME = ("CrossEntropyLoss", "TripletLoss")
    if architecture == "MGN":  # made for ResNet-50
        use_resnet(cfg, "50x")
        cfg.MODEL.HEADS.EMBEDDING_DIM = 32
    model = build_model(cfg).train()
    seen = []
    for name, module in model.named_modules():
        if name.endswith(("head", "heads")):
            module.register_forward_hook(lambda module, inputs, output: seen.extend(output.values()))
    with EventStorage(), torch.autocast("cpu", torch.bfloat16):
        losses = model(random_batch(size=(96, 32)))
    assert len(seen) >= 3 and {output.dtype for output in seen} == {torch.float32}
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


def test_the_warm_up_ends_at_the_full_learning_rate_whatever_overflows(raw_host):
    assert raw_host["learning_rate_after_warm_up"] == pytest.approx(0.1 + 0.9 * 2 / 4)  # 2 of 4 steps were left out
    cfg = tiny_data.host_cfg()
    cfg.SOLVER.WARMUP_ITERS = 4
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    hook = LRScheduler(optimizer, build_lr_scheduler(cfg, optimizer, 4))
    hook.trainer = SimpleNamespace(warmup_iters=4, iter=0, grad_scaler=None)
    with EventStorage() as hook.trainer.storage:
        for hook.trainer.iter in range(4):
            hook.trainer.grad_scaler = SimpleNamespace(get_scale=lambda scale=2.0**-hook.trainer.iter: scale)
            optimizer.step()
            hook.after_step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1.0)


@pytest.mark.parametrize("cfg_name", ["baseline_cfg", "igoas_cfg"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_that_was_converted_as_a_whole_keeps_its_type(cfg_name, dtype, request):
    cfg = request.getfixturevalue(cfg_name)
    cfg.MODEL.HEADS.NUM_CLASSES, cfg.MODEL.HEADS.WITH_BNNECK = 4, True
    model = build_model(cfg).to(dtype)
    batch = {**random_batch(), "images": random_batch()["images"].to(dtype)}
    with torch.no_grad():
        assert model.eval()(batch).dtype == dtype
    if dtype == torch.float64:
        with EventStorage():
            assert {loss.dtype for loss in model.train()(batch).values()} == {torch.float64}
