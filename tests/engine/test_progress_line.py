from types import SimpleNamespace

import pytest
import torch
from fastreid.modeling import build_model
from fastreid.utils.events import EventStorage
from tiny_data import random_batch

from igoas_plugin.engine.console import progress_line
from igoas_plugin.fastreid_fixes import async_metrics
from igoas_plugin.fastreid_fixes.nonfinite import NonFiniteGuard


def test_the_line_holds_what_a_person_looks_for(raw_host):
    host = raw_host["line_of_the_console"]
    assert "epoch/iter: 0/0" in host and "loss_weight_joint" in host and "images/s" not in host
    with EventStorage(120) as storage:
        storage.epoch, storage.iters_per_epoch, storage.images_per_step = 3, 40, 64
        for loss, seconds in ((8.0, 0.1), (9.0, 0.3), (7.0, 0.2)):
            storage.put_scalars(total_loss=loss, loss_cls=loss / 2, mask_loss=0.012345, time=seconds, data_time=0.05)
            storage.put_scalars(raw_loss_joint=2.0, loss_weight_joint=0.3, cls_accuracy=0.5)
            storage.put_scalars(**{"occlusion/share": 0.214, "occlusion/top": 3, "lr": 3.5e-4}, smoothing_hint=False)
        line = progress_line(max_iter=160, seconds_left=3661.4)
        on_console = [progress_line(max_iter=160, seconds_left=3661.4, width=width) for width in (100, 70, 30, 8)]
    # medians of the losses; 64 images in a mean of 0.2 s; a wait of 0.05 in 0.2
    assert line == (
        "epoch 4/4  iter 121/160  loss 8  320.0 images/s  left 1:01:01  covered 21%  lr 3.50e-04  data wait 25%  "
        "cls 4  mask_loss 0.01235"
    )
    assert on_console == [
        "epoch 4/4  iter 121/160  loss 8  320.0 images/s  left 1:01:01  covered 21%",
        "epoch 4/4  iter 121/160  loss 8  320.0 images/s  left 1:01:01",
        "epoch 4/4  iter 121/160",
        "epoch 4/",
    ]


def test_what_is_not_known_is_left_out():
    with EventStorage() as storage:
        assert progress_line(max_iter=3, seconds_left=None) == "iter 1/3"
        storage.put_scalar("total_loss", 0.5)
        storage.iter = 1
        assert progress_line(max_iter=3, seconds_left=0.0) == "iter 2/3  loss 0.5  left 0:00:00"


ARCHITECTURES = {
    "IGOAS": {},
    "Baseline": {"HEADS.NAME": "EmbeddingHead"},
    "Baseline with two losses": {"HEADS.NAME": "EmbeddingHead", "LOSSES.NAME": ("CrossEntropyLoss", "TripletLoss")},
    "MGN": {
        **{"HEADS.NAME": "EmbeddingHead", "BACKBONE.NAME": "build_short_resnet_backbone"},
        **{"BACKBONE.DEPTH": "short", "BACKBONE.FEAT_DIM": 2048},
    },
    "OcclusionWrapper": {"HEADS.NAME": "EmbeddingHead"},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_losses_of_every_architecture_are_named_one_by_one(igoas_cfg, name):
    igoas_cfg.MODEL.META_ARCHITECTURE = name.split()[0]
    for key, value in ARCHITECTURES[name].items():
        igoas_cfg.merge_from_list([f"MODEL.{key}", value])
    model = build_model(igoas_cfg).train()
    with EventStorage() as storage:
        storage.epoch = 0
        losses = model(random_batch(size=(96, 32)))
        trainer = SimpleNamespace(iter=0, storage=storage, guard=NonFiniteGuard())
        async_metrics.write_metrics(trainer, losses, 0.0)
        parts = progress_line(max_iter=1, seconds_left=None).split("  ")
    covered = [part for part in parts if part.startswith("covered")]
    assert len(covered) == (name in ("IGOAS", "OcclusionWrapper"))
    assert parts[0:2] == ["iter 1/1", f"loss {sum(losses.values()).item():.4g}"]
    named = {f"{key.removeprefix('loss_')} {value.item():.4g}" for key, value in losses.items()}
    assert set(parts[2:]) - set(covered) == (named if len(losses) > 1 else set())  # one loss is the total loss


def test_nobody_waits_for_a_gpu(monkeypatch):
    monkeypatch.setattr(async_metrics, "is_on_gpu", lambda value: isinstance(value, torch.Tensor))
    with EventStorage() as storage:
        for storage.iter in range(2):
            storage.put_scalar("total_loss", torch.tensor(1.0 + storage.iter))
            storage.receive_and_send()
        monkeypatch.setattr(async_metrics.AsyncCopy, "wait", lambda self: pytest.fail("waits"))
        assert progress_line(max_iter=3, seconds_left=None) == "iter 2/3  loss 1"
