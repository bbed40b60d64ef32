import pytest
import torch
from fastreid.modeling import build_model
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.utils.events import EventStorage
from tiny_data import random_batch, use_resnet

from igoas_plugin.core.errors import InputError
from igoas_plugin.fastreid_fixes.freezing import FreezePlan


def built(cfg, wraps, **occlusion):
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NUM_CLASSES = "OcclusionWrapper", 4
    cfg.MODEL.OCCLUSION.WRAPS = wraps
    for key, value in occlusion.items():
        cfg.MODEL.OCCLUSION[key] = value
    if wraps == "MGN":  # made for a ResNet of bottlenecks
        use_resnet(cfg, "short")
        cfg.MODEL.HEADS.EMBEDDING_DIM = 16
    torch.manual_seed(0)
    return build_model(cfg)


def entering(model, batch):
    """What the first layer of the backbone sees."""
    seen = []
    first = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    hook = first.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with EventStorage(3) as storage:
        storage.epoch = 1
        result = model(batch)
    hook.remove()
    return seen[0], result


@pytest.mark.parametrize("wraps", ["Baseline", "MGN"])
def test_a_wrapped_model_trains_on_the_occluded_batch_and_evaluates_clean(baseline_cfg, wraps):
    model, batch = built(baseline_cfg, wraps), random_batch(size=(96, 32))
    clean = (batch["images"] - model.pixel_mean) / model.pixel_std
    seen, losses = entering(model.train(), batch)
    assert seen.shape == clean.shape
    changed = (seen != clean).any(1).float().mean()
    assert 0.05 < changed < 0.4
    sum(losses.values()).backward()
    assert [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None] == []
    with torch.no_grad():
        seen, descriptors = entering(model.eval(), batch)
    assert torch.equal(seen, clean) and len(descriptors) == 8


def test_precise_bn_sees_the_clean_batch(baseline_cfg):
    model, batch = built(baseline_cfg, "Baseline").train(), random_batch()
    batch["targets"].fill_(-1)
    with torch.no_grad():
        seen, _ = entering(model, batch)
    assert torch.equal(seen, (batch["images"] - model.pixel_mean) / model.pixel_std)


def test_probability_zero_is_the_wrapped_model_itself(baseline_cfg):
    wrapped = built(baseline_cfg.clone(), "Baseline", PROB=0.0).train()
    baseline_cfg.MODEL.HEADS.NUM_CLASSES = 4
    torch.manual_seed(0)
    plain = build_model(baseline_cfg).train()
    with EventStorage():
        assert torch.equal(wrapped(random_batch())["loss_cls"], plain(random_batch())["loss_cls"])


def test_checkpoints_fit_with_and_without_the_wrapper(baseline_cfg):
    wrapped = built(baseline_cfg.clone(), "Baseline")
    baseline_cfg.MODEL.HEADS.NUM_CLASSES = 4
    assert list(wrapped.state_dict()) == list(build_model(baseline_cfg).state_dict())


def test_a_meta_architecture_of_the_user_s_own_is_wrapped(baseline_cfg):
    @META_ARCH_REGISTRY.register()
    class Own(torch.nn.Module):
        def __init__(self, cfg):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 1, 1)

        def preprocess_image(self, batched_inputs):
            return batched_inputs["images"] / 255

        def forward(self, batched_inputs):
            return {"loss": self.conv(self.preprocess_image(batched_inputs)).mean()}

    seen, _ = entering(built(baseline_cfg, "Own").train(), random_batch())
    assert not torch.equal(seen, random_batch()["images"] / 255)


def test_what_the_wrapped_model_freezes_stays_frozen(baseline_cfg):
    @META_ARCH_REGISTRY.register()
    class Freezing(META_ARCH_REGISTRY.get("Baseline")):
        @classmethod
        def freeze_plan(cls, cfg):
            return FreezePlan(("backbone",), epochs=2)

    baseline_cfg.MODEL.META_ARCHITECTURE, baseline_cfg.MODEL.OCCLUSION.WRAPS = "OcclusionWrapper", "Freezing"
    assert FreezePlan.from_config(baseline_cfg) == FreezePlan(("backbone",), epochs=2)
    baseline_cfg.MODEL.OCCLUSION.WRAPS = "Baseline"
    assert not FreezePlan.from_config(baseline_cfg)


@pytest.mark.parametrize("wraps", ["IGOAS", "OcclusionWrapper"])
def test_what_has_an_occlusion_of_its_own_is_refused(baseline_cfg, wraps):
    with pytest.raises(InputError, match=f"cannot wrap {wraps}"):
        built(baseline_cfg, wraps)
