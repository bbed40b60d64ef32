"""Identities and cameras that are text, numpy scalars or longer than 64 bits: they train and are ranked."""

import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
from datetime import datetime, timedelta
from fractions import Fraction

import numpy as np
import pytest
import torch
from fastreid.data import build_reid_test_loader, build_reid_train_loader
from fastreid.data.common import CommDataset
from fastreid.data.datasets import DATASET_REGISTRY
from tiny_data import TinyReID

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.reading import kept_apart
from igoas_plugin.engine.trainer import Trainer
from igoas_plugin.fastreid_fixes.labels import as_plain, numbered
from igoas_plugin.preflight import check_test_data, check_training_data

LABELS = {
    "text": "person {}".format,
    "numpy": np.int32,
    "numpy text": lambda number: np.str_(number),
    "tensor": torch.tensor,
    "float": float,
    "time stamp": lambda number: 2**64 + number,
    "time stamps on both sides of the limit": lambda number: 2**63 - 2 + number,
    "date": lambda number: datetime(2026, 1, 1 + number),
    "numbers and text": lambda number: number if number % 2 else str(number),
    "tuple": lambda number: ("scene", number),
}


def register(monkeypatch, label) -> None:
    """Registers "Labelled": TinyReID with label(number) for every identity and camera."""

    class Labelled(TinyReID):
        def __init__(self, root="datasets", **kwargs):
            super().__init__(root)
            train = [(path, int(pid[5:]), int(camera[5:])) for path, pid, camera in self.train]
            splits = [
                [(path, label(pid), label(camera)) for path, pid, camera in items]
                for items in (train, self.query, self.gallery)
            ]
            super(TinyReID, self).__init__(*splits, **kwargs)

    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "Labelled", Labelled)


def columns(loader) -> list[list[int]]:
    """Returns the identities and the cameras of all batches."""
    batches = list(loader)
    assert all(batch[key].dtype == torch.int64 for batch in batches for key in ("targets", "camids"))
    return [torch.cat([batch[key] for batch in batches]).tolist() for key in ("targets", "camids")]


def test_without_the_plugin_text_is_no_tensor_and_two_sets_are_one(raw_host):
    assert raw_host["labels_in_batches"] == {"text": "list", "classes": 1}


def test_labels_of_every_kind_give_the_batches_of_plain_numbers(baseline_cfg, monkeypatch):
    expected_test = columns(build_reid_test_loader(baseline_cfg, dataset_name="TinyReID")[0])
    baseline_cfg.DATASETS.NAMES = ("Labelled",)
    wrong = {}
    for kind, label in LABELS.items():
        register(monkeypatch, label)
        try:
            check_test_data("Labelled")
            counts = check_training_data(baseline_cfg)
            tested = columns(build_reid_test_loader(baseline_cfg, dataset_name="Labelled")[0])
            data = build_reid_train_loader(baseline_cfg).dataset
            trained = [[data[index][key] for index in range(16)] for key in ("targets", "camids")]
        except Exception as error:
            wrong[kind] = repr(error)
            continue
        # the numbers themselves may be others: which labels are equal is what counts
        same = [as_partition(column) for column in (*tested, *trained)]
        if same != [as_partition(column) for column in (*expected_test, *(column[8:] for column in expected_test))]:
            wrong[kind] = tested
        if counts != (4, 16):
            wrong[kind] = counts
    assert wrong == {}


def as_partition(labels: list[int]) -> list[int]:
    """Returns for each label the position at which it occurs first."""
    return [labels.index(label) for label in labels]


def test_an_evaluation_of_text_and_long_numbers_gives_the_metrics_of_plain_numbers(baseline_cfg, monkeypatch):
    torch.manual_seed(0)
    model = Trainer.build_model(baseline_cfg).eval()
    expected = Trainer.test(baseline_cfg, model)
    baseline_cfg.DATASETS.TESTS = ("Labelled",)
    for kind in ("text", "time stamp"):
        register(monkeypatch, LABELS[kind])
        assert Trainer.test(baseline_cfg, model) == expected, kind


@pytest.mark.parametrize(
    "sampler", ["TrainingSampler", "NaiveIdentitySampler", "BalancedIdentitySampler", "ImbalancedDatasetSampler"]
)
def test_every_sampler_draws_labels_on_both_sides_of_64_bits(sampler, baseline_cfg, monkeypatch):
    # numpy turns a list of -1 and 2**63 into floats
    register(monkeypatch, lambda number: (-1, 0, 2**63, 2**63 + 1)[number])
    baseline_cfg.DATASETS.NAMES = ("Labelled",)
    baseline_cfg.DATALOADER.SAMPLER_TRAIN, baseline_cfg.DATALOADER.NUM_INSTANCE = sampler, 2
    batches = iter(build_reid_train_loader(baseline_cfg))
    seen = {target for _ in range(6) for target in next(batches)["targets"].tolist()}
    assert seen == {0, 1, 2, 3}


def test_numbers_and_text_of_fast_reid_s_own_sets_stay_as_they_are():
    items = [("b.jpg", 7, 1), ("a.jpg", -1, 0)]
    assert CommDataset(items, relabel=False).img_items is items
    texts = [("b.jpg", "market1501_7", "market1501_1")]
    assert CommDataset(texts, relabel=True).img_items is texts


def test_a_label_has_one_number_in_all_splits():
    query, gallery = [("q", "b", "x")], [("1", "a", "y"), ("2", "b", "x")]
    assert numbered(query, gallery) == [[("q", 1, 0)], [("1", 0, 1), ("2", 1, 0)]]


def test_the_fields_behind_the_camera_stay(monkeypatch):
    assert as_plain([["a.jpg", np.int64(3), np.str_("left"), "extra"]]) == [("a.jpg", 3, "left", "extra")]


@pytest.mark.parametrize("missing", [None, float("nan"), np.float64("nan"), np.datetime64("NaT")])
def test_an_image_without_an_identity_or_camera_is_named(missing):
    with pytest.raises(InputError, match="a.jpg has no identity"):
        as_plain([("b.jpg", 1, 0), ("a.jpg", missing, 0)])
    with pytest.raises(InputError, match="a.jpg has no camera"):
        as_plain([("b.jpg", 1, 0), ("a.jpg", 1, missing)])


@pytest.mark.parametrize(
    "label", [lambda number: ("s", number), Fraction, lambda number: timedelta(number), lambda number: number / 4]
)
def test_classes_have_the_order_of_fast_reid_for_labels_that_can_be_sorted(label):
    # as text 10 comes before 2
    items = [(f"{number}.jpg", label(number), label(number)) for number in (10, 2, 1, 11)]
    data = CommDataset(kept_apart([("Mine", items)]), relabel=True)
    assert [data.pid_dict[item[1]] for item in data.img_items] == [2, 1, 0, 3]
    assert [data.cam_dict[item[2]] for item in data.img_items] == [2, 1, 0, 3]
