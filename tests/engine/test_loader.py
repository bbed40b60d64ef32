import itertools
import os

import numpy as np
import pytest
import torch
from fastreid.data import build_reid_test_loader, build_reid_train_loader
from fastreid.data.build import fast_batch_collator
from fastreid.data.common import CommDataset
from fastreid.data.transforms import build_transforms
from torch.utils.data import DataLoader

from igoas_plugin.core.errors import InputError
from igoas_plugin.engine.loader import DataLoaderX


def test_a_training_batch_comes_on_the_cpu(baseline_cfg, raw_host):
    assert raw_host["train_loader_without_a_gpu"].startswith("RuntimeError")
    batch = next(iter(build_reid_train_loader(baseline_cfg)))
    assert batch["images"].shape == (8, 3, 32, 16) and batch["images"].device.type == "cpu"
    assert set(batch) == {"images", "targets", "camids", "img_paths"}
    assert batch["targets"].dtype == torch.int64 and set(batch["targets"].tolist()) <= {0, 1, 2, 3}


def test_every_training_batch_is_full(baseline_cfg):
    baseline_cfg.SOLVER.IMS_PER_BATCH = 5  # 16 images
    batches = itertools.islice(build_reid_train_loader(baseline_cfg), 8)
    assert [len(batch["images"]) for batch in batches] == [5] * 8


def test_a_test_loader_gives_every_image_once_in_order(baseline_cfg):
    baseline_cfg.TEST.IMS_PER_BATCH = 5
    loader, queries = build_reid_test_loader(baseline_cfg, dataset_name="TinyReID")
    paths = list(itertools.chain(*(batch["img_paths"] for batch in loader)))
    assert queries == 8 and len(paths) == 8 + 16
    assert paths == [item[0] for item in loader.dataset.img_items]


def test_pixels_travel_as_bytes_and_arrive_as_float32(baseline_cfg):
    loader, _ = build_reid_test_loader(baseline_cfg, dataset_name="TinyReID")
    sent = torch.stack([loader.dataset[index]["images"] for index in range(4)])
    batch = next(iter(loader))
    assert sent.dtype == torch.uint8 and batch["images"].dtype == torch.float32
    assert torch.equal(batch["images"][:4], sent.float()) and sent.max() > 128


def test_images_that_are_computed_with_travel_as_they_are(baseline_cfg):
    baseline_cfg.INPUT.REA.ENABLED, baseline_cfg.INPUT.REA.PROB = True, 1.0
    loader = build_reid_train_loader(baseline_cfg)
    assert loader.dataset[0]["images"].dtype == torch.float32
    assert next(iter(loader))["images"].dtype == torch.float32


def test_a_data_set_of_the_user_s_own_is_left_alone(baseline_cfg):
    class Own(CommDataset):
        def __getitem__(self, index):
            return {**super().__getitem__(index), "mean": float(super().__getitem__(index)["images"].float().mean())}

    items = build_reid_train_loader(baseline_cfg).dataset.img_items
    transforms = build_transforms(baseline_cfg)
    own, plain = Own(items, transforms), CommDataset(items, transforms)
    assert build_reid_train_loader(baseline_cfg, train_set=own).dataset.data_set is own
    loader = build_reid_train_loader(baseline_cfg, train_set=plain)
    assert loader.dataset[0]["images"].dtype == torch.uint8 and plain[0]["images"].dtype == torch.float32
    assert next(iter(loader))["images"].dtype == torch.float32


def test_batches_that_are_no_dicts_pass(baseline_cfg):
    loader = DataLoaderX(0, dataset=[(torch.ones(2, dtype=torch.uint8), 1)], batch_size=1)
    [(values, number)] = list(loader)
    assert values.dtype == torch.uint8 and number.tolist() == [1]


def test_num_workers_governs_the_test_loader(baseline_cfg, raw_host):
    assert raw_host["workers_of_the_test_loader_are_configured"] is False
    for workers in (0, 3):
        baseline_cfg.DATALOADER.NUM_WORKERS = workers
        loader, _ = build_reid_test_loader(baseline_cfg, dataset_name="TinyReID")
        assert loader.num_workers == workers


@pytest.mark.parametrize("context", ["spawn", "fork"])
def test_workers_of_either_kind_read_images(baseline_cfg, context):
    data_set = build_reid_train_loader(baseline_cfg).dataset
    loader = DataLoader(
        data_set, batch_size=4, num_workers=1, multiprocessing_context=context, collate_fn=fast_batch_collator
    )
    batches = list(loader)
    assert len(batches) == 4 and batches[0]["images"].shape == (4, 3, 32, 16)


def test_an_unreadable_image_ends_the_run_with_its_name(baseline_cfg, data_root):
    for path in (data_root / "TinyReID").iterdir():
        path.write_text("no image")
    with pytest.raises(Exception, match="TinyReID.*cannot be read: it is no image"):
        next(iter(build_reid_train_loader(baseline_cfg)))


def test_camera_ids_of_numpy_stay_numbers(raw_host):
    assert raw_host["numpy_camera_ids_in_a_batch"] is None
    collated = fast_batch_collator([{"camids": np.int64(1)}, {"camids": np.int64(2)}])
    assert collated["camids"].tolist() == [1, 2]


def test_the_data_root_is_read_when_a_loader_is_built(baseline_cfg, data_root, monkeypatch, raw_host):
    assert raw_host["root_after_the_environment_changed"] != "elsewhere"
    monkeypatch.setenv("FASTREID_DATASETS", os.path.join(data_root, "elsewhere"))
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        build_reid_train_loader(baseline_cfg)


def test_a_root_that_a_script_has_set_is_left_alone_without_that_variable(baseline_cfg, monkeypatch):
    monkeypatch.delenv("FASTREID_DATASETS")
    monkeypatch.setattr("fastreid.data.build._root", "my_data")
    with pytest.raises(FileNotFoundError, match="my_data"):
        build_reid_train_loader(baseline_cfg)


def test_a_batch_larger_than_the_training_set_is_refused(baseline_cfg):
    baseline_cfg.SOLVER.IMS_PER_BATCH = 32
    with pytest.raises(InputError, match="IMS_PER_BATCH is 32 but the training set .* has only 16 images"):
        build_reid_train_loader(baseline_cfg)
