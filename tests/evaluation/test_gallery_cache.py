import json

import pytest
import torch
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.engine import DefaultTrainer
from fastreid.evaluation import ReidEvaluator
from tiny_data import TinyReID


@DATASET_REGISTRY.register()
class TinyOtherQueries(TinyReID):
    """Data set with the gallery of TinyReID and half of its queries."""

    @property
    def query(self):
        return super().query[::2]


@DATASET_REGISTRY.register()
class TinyOtherGallery(TinyReID):
    """Data set with the queries of TinyReID, and its gallery without one image."""

    @property
    def gallery(self):
        return super().gallery[1:]


@pytest.fixture
def tested(igoas_cfg):
    """Returns a function that evaluates a model on test sets: the results, and how many images the model saw."""
    torch.manual_seed(0)
    igoas_cfg.MODEL.HEADS.NUM_CLASSES, igoas_cfg.TEST.IMS_PER_BATCH = 4, 5
    model, seen = DefaultTrainer.build_model(igoas_cfg).eval(), []
    model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))

    def test(*names, trainer=DefaultTrainer, **keys) -> tuple[dict, int]:
        seen.clear()
        igoas_cfg.DATASETS.TESTS = names
        for key, value in keys.items():
            igoas_cfg.TEST[key].ENABLED = value
        return json.loads(json.dumps(trainer.test(igoas_cfg, model), default=float)), sum(seen)

    return test


NAMES = ("TinyReID", "TinyOtherQueries", "TinyOtherGallery")


@pytest.mark.parametrize("option", ["ROC", "FLIP", "RERANK", "AQE"])
def test_a_shared_gallery_is_computed_once_and_the_metrics_are_the_same(tested, option):
    alone = {name: tested(name, **{option: True})[0] for name in NAMES}
    together, images = tested(*NAMES)
    # 8 queries and 16 of the gallery; 4 other queries; 8 queries and another gallery of 15
    assert images == (8 + 16 + 4 + 8 + 15) * (2 if option == "FLIP" else 1)
    for name in NAMES:
        # not bit by bit: rounding depends on the batch
        own = {key: value for key, value in together[name].items() if key != "dataset"}
        assert own == pytest.approx({key: value for key, value in alone[name].items() if key != "dataset"}, abs=1e-4)


def test_each_set_ranks_its_own_gallery_alone(tested, monkeypatch):
    evaluate, ranked = ReidEvaluator.evaluate, []

    def note(self):
        ranked.append(sum(len(batch["pids"]) for batch in self._predictions))
        return evaluate(self)

    monkeypatch.setattr(ReidEvaluator, "evaluate", note)
    tested(*NAMES)
    assert ranked == [8 + 16, 4 + 16, 8 + 15]


def test_the_next_evaluation_computes_the_gallery_anew(tested):
    assert tested("TinyReID")[1] == tested("TinyReID")[1] == 24


def test_a_trainer_with_its_own_evaluator_keeps_it_and_computes_the_gallery_twice(tested):
    class Own(DefaultTrainer):
        """Trainer with a copy of fast-reid's method."""

        @classmethod
        def build_evaluator(cls, cfg, dataset_name, output_dir=None):
            loader, queries = cls.build_test_loader(cfg, dataset_name)
            return loader, ReidEvaluator(cfg, queries, output_dir)

    assert tested("TinyReID", "TinyOtherQueries", trainer=Own)[1] == 24 + 20


def test_a_trainer_with_its_own_loader_computes_every_gallery(tested):
    class Own(DefaultTrainer):
        """Trainer that loads the second set in another size."""

        @classmethod
        def build_test_loader(cls, cfg, dataset_name):
            loader, queries = super().build_test_loader(cfg, dataset_name)
            if dataset_name == "TinyOtherQueries":
                loader.dataset.transform.transforms[0].size = [64, 32]
            return loader, queries

    assert tested("TinyReID", "TinyOtherQueries", trainer=Own)[1] == 24 + 20
