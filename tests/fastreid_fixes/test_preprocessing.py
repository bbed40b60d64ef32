import pytest
import torch
from fastreid.evaluation import inference_on_dataset
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


def test_targets_of_precise_bn_are_left_alone(baseline_cfg, raw_host):
    assert raw_host["targets_after_a_precise_bn_step"] == [0] * 8
    model = built(baseline_cfg).train()
    batch = random_batch()
    batch["targets"].fill_(-1)
    with EventStorage(), torch.no_grad():
        model(batch)
    assert batch["targets"].tolist() == [-1] * 8
