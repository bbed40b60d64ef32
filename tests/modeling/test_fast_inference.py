import pytest
import torch
from backbones import SIZE, batch_of_two, of
from benchmarks.infer import with_statistics
from fastreid.layers.batch_norm import FrozenBatchNorm
from fastreid.modeling import build_model
from runs import start
from tiny_data import random_batch, use_resnet
from torch import nn
from torch.nn.functional import cosine_similarity

from igoas_plugin.fastreid_fixes import amp
from igoas_plugin.modeling import fast_inference
from igoas_plugin.modeling.fast_inference import FastInference, for_evaluation, fuse_norms


@pytest.fixture(params=[None, torch.bfloat16], ids=str)
def dtype(request):
    return request.param


# Every family of backbones is in test_backbones.py


# the head of fast-reid reduces by a convolution
@pytest.mark.parametrize("norm, architecture, embedding_dim", [
    ("BN", "Baseline", 16), ("FrozenBN", "OcclusionWrapper", 16), ("GhostBN", "Baseline", 0),
    ("BN", "OcclusionWrapper", 0), ("FrozenBN", "Baseline", 0), ("GhostBN", "OcclusionWrapper", 16),
])  # fmt: skip
def test_models_of_fast_reid_with_any_of_its_norms(architecture, norm, embedding_dim, baseline_cfg, dtype, host_log):
    cfg = baseline_cfg
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.BACKBONE.NORM, cfg.MODEL.HEADS.NUM_CLASSES = architecture, norm, 4
    cfg.MODEL.HEADS.EMBEDDING_DIM = embedding_dim
    model = with_statistics(build_model(cfg))
    assert_near(model, batch_of_two(), dtype)
    assert not [record for record in host_log.records if "cannot be fused" in record.getMessage()]


@pytest.mark.slow
def test_the_many_heads_of_mgn(baseline_cfg, dtype):
    cfg = baseline_cfg
    use_resnet(cfg, "short")
    cfg.MODEL.META_ARCHITECTURE = "MGN"
    cfg.MODEL.HEADS.NUM_CLASSES, cfg.MODEL.HEADS.EMBEDDING_DIM = 4, 16
    assert_near(with_statistics(build_model(cfg)), random_batch(images=2, size=(96, 32)), dtype)


def assert_near(model: nn.Module, batch: dict, dtype) -> None:
    fast = FastInference(model, batch["images"], dtype)
    with torch.no_grad():
        assert cosine_similarity(fast(batch), model(batch)).min() > (0.999 if dtype else 1 - 1e-5)


class Odd(nn.Module):
    """A convolution before two norms, one before none, one used twice, one whose norm has no statistics."""

    def __init__(self):
        super().__init__()
        for name in ("forked", "alone", "twice", "unfixed", "plain"):
            setattr(self, name, nn.Conv2d(3, 3, 1))
        self.left, self.right, self.after, self.norm = (nn.BatchNorm2d(3) for _ in range(4))
        self.batch_only, self.frozen = nn.BatchNorm2d(3, track_running_stats=False), FrozenBatchNorm(3)

    def forward(self, images):
        forked = self.forked(images)
        found = self.left(forked) + self.right(forked) + self.after(self.alone(images) + 1)
        found = found + self.norm(self.twice(images)) + self.twice(images)
        return found + self.batch_only(self.unfixed(images)) + self.frozen(self.plain(images))


def test_only_a_norm_that_directly_follows_its_own_convolution_is_fused():
    torch.manual_seed(0)
    model, images = Odd().eval(), torch.randn(2, 3, 4, 4)
    for norm in (model.left, model.right, model.after, model.norm, model.frozen):
        norm.running_mean.normal_()
    expected = model(images)
    fuse_norms(model, images)
    assert [name for name, module in model.named_children() if isinstance(module, nn.Identity)] == ["frozen"]
    torch.testing.assert_close(model(images), expected)


class Following(nn.Module):
    """Models whose descriptors a fusion would change, in ways that fuse_norms() cannot see."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.convolution, self.relu = kind, nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)
        self.norm = Activated(3) if kind == "a norm that does more" else nn.BatchNorm2d(3)
        self.block = nn.Sequential(self.norm)

    def forward(self, images):
        found = self.convolution(images)
        if self.kind == "changed in place":
            found = self.relu(found)
        normed = self.norm(found)
        return (found + normed if self.kind == "used beside the norm" else normed).flatten(1)


class Activated(nn.BatchNorm2d):
    def forward(self, images):
        return super().forward(images).relu()


@pytest.mark.parametrize("kind", ["changed in place", "used beside the norm", "a norm that does more", "two names"])
def test_norms_whose_fusion_would_change_the_descriptors_stay(kind, host_log):
    torch.manual_seed(0)
    model, images = Following(kind).eval(), torch.randn(2, 3, 4, 4)
    model.norm.running_mean.fill_(0.5)
    torch.testing.assert_close(FastInference(model, images, None)(images), model(images))
    assert ["cannot be fused" in record.getMessage() for record in host_log.records] == [True]


def test_float16_is_taken_on_a_gpu_and_float32_on_a_cpu_without_bfloat16(igoas_cfg, monkeypatch):
    monkeypatch.setattr(amp, "has_bfloat16", lambda: False)
    amp.amp_dtype.cache_clear()
    try:
        igoas_cfg.TEST.FAST = True
        assert for_evaluation(igoas_cfg, build_model(igoas_cfg)).dtype is None
        assert amp.amp_dtype("cuda") == torch.float16
        igoas_cfg.SOLVER.AMP.DTYPE = "bfloat16"
        assert for_evaluation(igoas_cfg, build_model(igoas_cfg)).dtype == torch.bfloat16
    finally:
        amp.amp_dtype.cache_clear()


def test_the_key_decides_what_is_evaluated_and_the_training_goes_on_with_the_model(
    igoas_cfg, monkeypatch, dtype_of_cpu
):
    model = build_model(igoas_cfg)
    assert for_evaluation(igoas_cfg, model) is model
    igoas_cfg.TEST.FAST, igoas_cfg.SOLVER.MAX_EPOCH = True, 1
    evaluated = []
    monkeypatch.setattr(fast_inference, "amp_dtype", lambda *_: None)  # bfloat16, where a CPU has it, ranks otherwise
    monkeypatch.setattr(
        FastInference, "__call__", lambda self, batch: evaluated.append(1) or nn.Module.__call__(self, batch)
    )
    trainer = start(igoas_cfg)
    results = trainer.train()
    assert evaluated and trainer._trainer.model.training
    again = trainer.test(igoas_cfg, trainer._trainer.model)
    igoas_cfg.TEST.FAST = False
    plain = trainer.test(igoas_cfg, trainer._trainer.model)
    assert again["mAP"] == pytest.approx(results["mAP"])
    if dtype_of_cpu == torch.float32:  # bfloat16 orders images whose distances differ by less than 1/256 otherwise
        assert again["mAP"] == pytest.approx(plain["mAP"], abs=2)


@pytest.mark.gpu
def test_on_a_gpu_descriptors_are_made_in_float16(igoas_cfg):
    igoas_cfg.MODEL.DEVICE = "cuda"
    model = with_statistics(build_model(of(igoas_cfg, "build_resnet_backbone", "18x")))
    fast = FastInference(model, torch.zeros(1, 3, *SIZE, device="cuda"), torch.float16)
    with torch.no_grad():
        assert cosine_similarity(fast(batch_of_two()), model(batch_of_two())).min() > 0.999
    assert fast.dtype == torch.float16
