"""Two and four processes (gloo) end a training with the same model, and evaluate as one process does."""

import hashlib
import os

import pytest
import torch
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset
from fastreid.engine import DefaultTrainer, launch
from fastreid.utils import comm
from runs import start
from tiny_data import IDENTITIES, TinyReID

from igoas_plugin.engine.loader import CommDataset
from igoas_plugin.evaluation.descriptors import describe

SETS = ("TinyReID", "SixOfTinyReID")  # 23 images, which divide by neither; 6, of which the last of four gets none


@DATASET_REGISTRY.register()
class SixOfTinyReID(TinyReID):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        gallery = [item for item in self.gallery if item[2] == 1]
        ImageDataset.__init__(self, self.train, self.query[:3], gallery[:3])


def evaluate(cfg, model) -> dict:
    """Returns the metrics of the sets, and the descriptors of each set in its order."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TESTS = SETS
    figures, described = DefaultTrainer.test(cfg, model), {}
    for name in SETS:
        data = DATASET_REGISTRY.get(name)(root=os.environ["FASTREID_DATASETS"])
        loader, _ = DefaultTrainer.build_test_loader(cfg, name)
        items = CommDataset([*data.query, *data.gallery], loader.dataset.transform, relabel=False)
        described[name] = describe(cfg, model, items)
    return {"figures": {name: dict(each) for name, each in figures.items()}, "described": described}


def train_and_evaluate(cfg, folder):
    trainer = start(cfg)
    trainer.train()
    model = trainer._trainer.model.module
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    digests = comm.all_gather(digest.hexdigest())
    evaluated = evaluate(cfg, model)
    if comm.is_main_process():
        torch.save({"digests": digests, **evaluated}, os.path.join(folder, "evaluated.pth"))


def order(described: dict, queries: int) -> torch.Tensor:
    features = torch.nn.functional.normalize(described["feats"])
    return (features[:queries] @ features[queries:].T).argsort(dim=1, descending=True)


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_all_processes_hold_the_same_model_and_evaluate_as_one_does(baseline_cfg, data_root, tmp_path, processes):
    (data_root / "TinyReID" / "3_1_1.png").unlink()
    launch(train_and_evaluate, processes, args=(baseline_cfg, str(tmp_path)))
    of_many = torch.load(tmp_path / "evaluated.pth", weights_only=False)
    assert len(of_many["digests"]) == processes and len(set(of_many["digests"])) == 1

    cfg = baseline_cfg.clone()
    cfg.MODEL.HEADS.NUM_CLASSES = IDENTITIES
    model = DefaultTrainer.build_model(cfg)
    model.load_state_dict(torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["model"])
    of_one = evaluate(cfg, model)
    assert [len(each["pids"]) for each in of_one["described"].values()] == [23, 6]
    for name in SETS:
        one, many = of_one["described"][name], of_many["described"][name]
        assert torch.equal(one["pids"], many["pids"]) and torch.equal(one["camids"], many["camids"])
        torch.testing.assert_close(one["feats"], many["feats"])  # rounding depends on the batch size
        queries = 8 if name == "TinyReID" else 3
        assert torch.equal(order(one, queries), order(many, queries))
        assert of_one["figures"][name] == of_many["figures"][name]
