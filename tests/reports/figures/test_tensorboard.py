import io
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fastreid.modeling import build_model
from PIL import Image
from runs import start, weights
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator
from tiny_data import random_batch
from torch import nn

from igoas_plugin.core.errors import InputError
from igoas_plugin.preflight import check_settings
from igoas_plugin.reports.figures.tensorboard import ACTIVATIONS, BATCH, OccludedImages, in_evaluation


def trained(cfg, folder, period, **keys):
    """Trains, and returns the trainer and the images in its event file."""
    cfg = cfg.clone()
    cfg.OUTPUT_DIR, cfg.TENSORBOARD.IMAGES_PERIOD = str(folder), period
    cfg.merge_from_list([word for pair in keys.items() for word in pair])
    trainer = start(cfg)
    trainer.train()
    events = EventAccumulator(cfg.OUTPUT_DIR, size_guidance={IMAGES: 0})
    events.Reload()
    return trainer, {name: events.Images(name) for name in events.Tags()["images"]}


def decoded(event):
    return np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))


@pytest.fixture
def told(host_log):
    host_log.set_level(logging.WARNING)
    return lambda: [each.getMessage() for each in host_log.records if "IMAGES_PERIOD" in each.getMessage()]


def test_images_of_every_so_many_epochs_change_nothing_in_what_is_learned(igoas_cfg, tmp_path, monkeypatch):
    seen, put = [], OccludedImages.put
    monkeypatch.setattr(OccludedImages, "put", lambda self, *batch: seen.append(batch) or put(self, *batch))
    # epoch 0 is frozen, epoch 1 is not
    igoas_cfg.SOLVER.MAX_EPOCH, igoas_cfg.MODEL.IGOAS.FREEZE_EPOCHS, igoas_cfg.TEST.EVAL_PERIOD = 2, 1, 2
    without, images = trained(igoas_cfg, tmp_path / "without", 0)
    assert images == {} and seen == []
    with_images, images = trained(igoas_cfg, tmp_path / "with", 1)
    expected, found = weights(without), weights(with_images)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    steps = {name: [event.step for event in events] for name, events in images.items()}
    assert steps == {BATCH: [1, 3], ACTIVATIONS: [1, 3]}  # epochs have 2 iterations
    # the batch is that of the step, which logged the same share
    clean, occluded, visible = seen[-1]
    assert float(1 - visible.mean()) == pytest.approx(with_images.storage.latest()["occlusion/share"][0])
    assert torch.equal(clean[visible.expand_as(clean) == 1], occluded[visible.expand_as(clean) == 1])
    batch = decoded(images[BATCH][-1])
    assert batch.shape == (2 * 34 + 2, 8 * 18 + 2, 3)  # clean above occluded, lines of 2 pixels between
    above, below = batch[2:34, 2:18].astype(int), batch[36:68, 2:18].astype(int)
    assert ((above != below).any(-1) == (visible[0, 0].numpy() == 0)).mean() > 0.98  # a pixel may equal the fill
    assert decoded(images[ACTIVATIONS][-1]).shape[0] > 300


def test_a_host_model_behind_a_block_has_images_too(baseline_cfg, tmp_path):
    baseline_cfg.MODEL.META_ARCHITECTURE, baseline_cfg.SOLVER.MAX_EPOCH = "OcclusionWrapper", 1
    _, images = trained(baseline_cfg, tmp_path / "run", 1)
    assert {name: len(events) for name, events in images.items()} == {BATCH: 1, ACTIVATIONS: 1}


@pytest.mark.parametrize("keys", [{}, {"MODEL.META_ARCHITECTURE": "IGOAS", "MODEL.HEADS.NAME": "IGOASHead"}])
def test_a_model_that_occludes_no_images_says_so_once(baseline_cfg, told, tmp_path, keys):
    baseline_cfg.OUTPUT_DIR, baseline_cfg.TENSORBOARD.IMAGES_PERIOD = str(tmp_path / "run"), 1
    baseline_cfg.MODEL.OCCLUSION.NAME = "BatchDropBlock"
    baseline_cfg.merge_from_list([word for pair in keys.items() for word in pair])
    trainer = start(baseline_cfg)
    assert not any(isinstance(hook, OccludedImages) for hook in trainer._hooks)
    assert told() == ["TENSORBOARD.IMAGES_PERIOD: nothing is shown, this model has no block that occludes images"]


@pytest.mark.parametrize("period, expected", [(1, [(0, 1), (1, 3), (2, 5)]), (2, [(1, 3)]), (5, [])])
def test_the_last_step_of_every_so_many_epochs_is_listened_to(period, expected):
    block, heard = nn.Identity(), []
    hook = OccludedImages(SimpleNamespace(occlusion=block), period)
    for iteration in range(6):
        hook.trainer = SimpleNamespace(iter=iteration, epoch=iteration // 2, iters_per_epoch=2)
        hook.before_step()
        if block._forward_hooks:
            heard.append((hook.trainer.epoch, iteration))
        hook.after_step()
        assert not block._forward_hooks
    assert heard == expected


def test_a_picture_that_fails_does_not_end_the_training(told, monkeypatch):
    hook = OccludedImages(None, 1)
    monkeypatch.setattr(hook, "put", lambda *batch: 1 / 0)
    hook.trainer, hook.seen = SimpleNamespace(epoch=3), [torch.zeros(1)]
    hook.after_epoch()
    hook.after_epoch()  # nothing was seen since
    assert told() == ["TENSORBOARD.IMAGES_PERIOD: no images of epoch 4: ZeroDivisionError('division by zero')"]


def test_a_large_batch_is_shown_in_part_from_its_beginning_to_its_end():
    hook, images = OccludedImages(None, 1), torch.arange(50.0).view(50, 1, 1, 1)
    hook.listen(None, (images,), (images, images))
    assert hook.seen[0].flatten().tolist() == [0, 6, 12, 18, 24, 30, 36, 42]


def test_every_module_is_in_its_own_mode_again(igoas_cfg):
    model = build_model(igoas_cfg).train()
    model.backbone.eval()  # frozen layers
    modes = {name: module.training for name, module in model.named_modules()}
    with pytest.raises(ValueError), in_evaluation(model):
        assert not any(module.training for module in model.modules())
        model(random_batch()["images"])
        raise ValueError
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_a_negative_period_is_refused_before_the_start(igoas_cfg):
    igoas_cfg.TENSORBOARD.IMAGES_PERIOD = -1
    with pytest.raises(InputError, match="TENSORBOARD.IMAGES_PERIOD must be 0 or more, got -1"):
        check_settings(igoas_cfg)
