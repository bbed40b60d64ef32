import pytest
import torch
from fastreid.engine.hooks import PreciseBN
from fastreid.evaluation import ReidEvaluator, inference_on_dataset
from fastreid.modeling import build_model
from fastreid.utils.events import EventStorage
from tiny_data import random_batch


def built(cfg, architecture="Baseline"):
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NUM_CLASSES = architecture, 4
    torch.manual_seed(0)
    return build_model(cfg)


def test_a_batch_is_not_normalised_in_place(baseline_cfg, raw_host):
    assert raw_host["cosine_of_a_second_pass_over_the_same_batch"] < 0.99
    model = built(baseline_cfg).eval()
    batch = random_batch()
    pixels = batch["images"].clone()
    with torch.no_grad():
        assert torch.equal(model(batch), model(batch))
    assert torch.equal(batch["images"], pixels)


def test_a_tensor_is_not_normalised_in_place_whatever_its_dtype(baseline_cfg):
    model = built(baseline_cfg).eval()
    pixels = torch.randint(256, (2, 3, 32, 16), dtype=torch.uint8)
    expected = (pixels - model.pixel_mean) / model.pixel_std
    for dtype in (torch.uint8, torch.float16, torch.float32):
        given = pixels.to(dtype)
        assert torch.equal(model.preprocess_image(given), expected)
        assert torch.equal(given, pixels.to(dtype))


def test_an_exporter_that_tracks_tensors_by_identity_finds_the_input_of_every_convolution(baseline_cfg, monkeypatch):
    """Tracks as tools/deploy/pytorch_to_caffe.py of fast-reid: it knows these operations and no others."""
    known = {}

    def tracked(operation):
        def wrapped(first, *args, **kwargs):
            assert id(first) in known, f"{operation.__name__} gets a tensor that no known operation gave"
            result = operation(first, *args, **kwargs)
            known[id(result)] = result  # kept, so that no later tensor gets its id
            return result

        return wrapped

    model, images = built(baseline_cfg).eval(), random_batch()["images"]
    known[id(images)] = images
    for name in ("conv2d", "batch_norm"):
        monkeypatch.setattr(torch.nn.functional, name, tracked(getattr(torch.nn.functional, name)))
    monkeypatch.setattr(torch, "relu", tracked(torch.relu))
    add = torch.Tensor.__add__
    monkeypatch.setattr(torch.Tensor, "__add__", lambda a, b: tracked(add)(a, b) if type(b) is int else add(a, b))
    with torch.no_grad():
        model.backbone(model.preprocess_image(images))
    assert len(known) == 1 + 1 + 3 * 3  # the images, their copy, and three convolutions with norm and activation


class Collector:
    """Evaluator that keeps the descriptors."""

    def reset(self):
        self.outputs = []

    def process(self, inputs, outputs):
        self.outputs.append(outputs)

    def evaluate(self):
        return {}


class OneBatch(list):
    dataset = range(8)


@pytest.mark.parametrize("cfg_name", ["baseline_cfg", "igoas_cfg"])
def test_the_flip_test_averages_the_descriptors_of_image_and_mirror_image(cfg_name, request):
    cfg = request.getfixturevalue(cfg_name)
    model = built(cfg, cfg.MODEL.META_ARCHITECTURE).eval()
    batch = random_batch()
    with torch.no_grad():
        mirrored = model({**batch, "images": batch["images"].flip(3)})
        expected = (model(batch) + mirrored) / 2
    collector = Collector()
    inference_on_dataset(model, OneBatch([random_batch()]), collector, flip_test=True)
    assert torch.equal(collector.outputs[0], expected)


class Colours(torch.nn.Module):
    """Model that finds every identity: the descriptor is the mean colour."""

    def forward(self, batched_inputs):
        return batched_inputs["images"].mean((2, 3))


def test_the_flip_test_keeps_a_perfect_ranking(baseline_cfg):
    batch = random_batch()
    batch["images"] = batch["images"] / 50 + 200 * torch.eye(3)[torch.arange(8) % 3, :, None, None]
    batch["targets"], batch["camids"] = torch.arange(8) % 3, torch.arange(8) // 3
    found = inference_on_dataset(Colours(), OneBatch([batch]), ReidEvaluator(baseline_cfg, 3), flip_test=True)
    assert found["Rank-1"] == found["mAP"] == found["mINP"] == 100


def test_precise_bn_takes_the_mean_statistics_of_the_batches_and_leaves_exact_ones_as_they_are(baseline_cfg):
    model = built(baseline_cfg).train()
    maps = [model.backbone.conv1(model.preprocess_image(random_batch(seed=seed))).detach() for seed in range(3)]
    mean, variance = (torch.stack([f(each, (0, 2, 3)) for each in maps]).mean(0) for f in (torch.mean, torch.var))
    assert not torch.allclose(model.backbone.bn1.running_mean, mean, atol=0.1)
    PreciseBN(model, [random_batch(seed=seed) for seed in range(3)], 3).update_stats()
    torch.testing.assert_close(model.backbone.bn1.running_mean, mean)
    torch.testing.assert_close(model.backbone.bn1.running_var, variance)
    exact = {name: value.clone() for name, value in model.state_dict().items() if "running" in name}
    PreciseBN(model, [random_batch(seed=seed) for seed in range(3)], 3).update_stats()
    for name, value in exact.items():
        torch.testing.assert_close(model.state_dict()[name], value)


def test_targets_of_precise_bn_are_left_alone(baseline_cfg, raw_host):
    assert raw_host["targets_after_a_precise_bn_step"] == [0] * 8
    model = built(baseline_cfg).train()
    batch = random_batch()
    batch["targets"].fill_(-1)
    with EventStorage(), torch.no_grad():
        model(batch)
    assert batch["targets"].tolist() == [-1] * 8
