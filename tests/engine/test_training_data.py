"""Unreadable images: one line names the file, or they are skipped and counted."""

import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import os
import pickle
import re
import struct
from pathlib import Path

import pytest
import runs
from fastreid.data import build_reid_test_loader, build_reid_train_loader
from fastreid.data.common import CommDataset
from fastreid.data.data_utils import read_image
from PIL import Image

from igoas_plugin.core.errors import InputError, UnreadableImage, error_in_traceback
from igoas_plugin.engine.training_data import SkippingDataset


def damage(path: Path, how: str) -> Path:
    """Makes a file unreadable."""
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("<html>404</html>")
    elif how == "truncated":
        Image.effect_noise((64, 128), 50).save(path, format="JPEG")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "huge":
        header = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 54, 0, 54, 40, 10**6, 10**6, 1, 24, 0, 0, 0, 0, 0, 0)
        path.write_bytes(header)
    return path


REASONS = {
    "missing": "there is no such file",
    "empty": "the file is empty",
    "text": "it is no image, or of a kind that is not opened",
    "truncated": "truncated",
    "huge": "decompression bomb",
}


@pytest.mark.parametrize("how", REASONS)
def test_the_line_names_the_file_and_the_reason(how, tmp_path):
    path = tmp_path / "image.jpg"
    path.touch()
    damage(path, how)
    with pytest.raises(UnreadableImage, match=f"^{re.escape(str(path))} cannot be read: .*{REASONS[how]}") as caught:
        read_image(str(path)).load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_name_with_line_ends_and_bytes_that_are_no_text_is_one_line_too(workers, baseline_cfg, data_root):
    folder = data_root / "TinyReID"
    damaged = os.path.join(os.fsencode(folder), b"0_0_\n\xff\x1b[31m.png")
    for path in folder.iterdir():
        path.unlink()
    for name in (damaged, *(os.fsencode(folder / f"{pid}_1_0.png") for pid in range(8))):
        Path(os.fsdecode(name)).touch()
    baseline_cfg.DATALOADER.NUM_WORKERS = workers
    with pytest.raises(UnreadableImage) as caught:
        list(build_reid_test_loader(baseline_cfg, dataset_name="TinyReID")[0])
    assert str(caught.value) == f"{folder}/0_0_\\n\\udcff\\x1b[31m.png cannot be read: the file is empty"


def test_without_the_plugin_a_truncated_image_is_not_named(raw_host):
    assert "truncated" in raw_host["truncated_image"] and "cut.jpg" not in raw_host["truncated_image"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "build", [build_reid_train_loader, lambda cfg: build_reid_test_loader(cfg, dataset_name="TinyReID")[0]]
)
def test_a_loader_stops_with_one_line_also_from_a_worker(build, workers, baseline_cfg, data_root):
    damaged = damage(data_root / "TinyReID" / "2_0_1.png", "truncated")
    baseline_cfg.DATALOADER.NUM_WORKERS = workers
    with pytest.raises(UnreadableImage, match=f"^{re.escape(str(damaged))} cannot be read: [^\n]*$"):
        for _, batch in zip(range(4), build(baseline_cfg)):  # noqa: B905
            assert len(batch["images"]) == 8


def test_a_training_stops_with_that_line_and_without_a_traceback_in_the_log(baseline_cfg, data_root, capsys):
    damaged = damage(data_root / "TinyReID" / "1_1_0.png", "empty")
    with pytest.raises(InputError, match=re.escape(str(damaged))):
        runs.start(baseline_cfg).train()
    assert "Traceback" not in (Path(baseline_cfg.OUTPUT_DIR) / "log.txt").read_text()


def test_other_errors_keep_their_traceback(baseline_cfg, data_root, monkeypatch):
    trainer = runs.start(baseline_cfg)
    monkeypatch.setattr(trainer._trainer, "run_step", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert "ZeroDivisionError" in (Path(baseline_cfg.OUTPUT_DIR) / "log.txt").read_text()


# DATALOADER.ON_ERROR skip


@pytest.mark.parametrize("workers", [0, 2])
def test_skip_takes_the_next_image_of_the_identity_and_counts(workers, baseline_cfg, data_root, host_log):
    damaged = [damage(data_root / "TinyReID" / name, "truncated") for name in ("0_1_1.png", "3_0_0.png")]
    baseline_cfg.DATALOADER.ON_ERROR, baseline_cfg.DATALOADER.NUM_WORKERS = "skip", workers
    loader, seen = build_reid_train_loader(baseline_cfg), []
    for _, batch in zip(range(6), loader):  # noqa: B905
        assert batch["images"].shape[0] == 8
        seen += zip(batch["img_paths"], batch["targets"].tolist(), strict=True)
    assert {path for path, _ in seen}.isdisjoint(map(str, damaged)) and len({path for path, _ in seen}) == 14
    assert all(int(os.path.basename(path)[0]) == target for path, target in seen)
    lines = [record.getMessage() for record in host_log.records if "skipped" in record.getMessage()]
    assert len(lines) == 2 and all(str(path) in " ".join(lines) for path in damaged)
    assert "(2 skipped by this process so far, of 16)" in lines[1]


def items_of(folder):
    return [(str(path), int(path.name[0]), 0) for path in sorted(folder.iterdir())]


def test_the_replacement_is_of_the_same_identity_where_one_can_be_read(data_root):
    folder = data_root / "TinyReID"
    items = items_of(folder)
    data = SkippingDataset(CommDataset(items))
    damage(folder / "1_0_0.png", "text")
    assert data[4]["img_paths"] == str(folder / "1_0_1.png")
    for path in folder.glob("1_*"):
        damage(path, "text")
    assert data[4]["img_paths"] == str(folder / "2_0_0.png")
    assert data.skipped.nonzero().flatten().tolist() == [4, 5, 6, 7]
    assert pickle.loads(pickle.dumps(data))[0]["targets"] == 0


class SubclassOfAUser(CommDataset):
    """Data set of a user, as a script passes it to build_reid_train_loader(train_set=...)."""

    @property
    def num_classes(self):
        return 7

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return {**super().__getitem__(index), "weight": index}


def test_what_a_user_s_own_data_set_overrides_is_kept(data_root):
    items = items_of(data_root / "TinyReID")
    data = SkippingDataset(SubclassOfAUser(items))
    damage(Path(items[2][0]), "empty")
    assert (len(data), data.num_classes, data.num_cameras) == (6, 7, 1)
    assert [data[index]["weight"] for index in (0, 2)] == [0, 3] and data.skipped.tolist().count(True) == 1
    assert pickle.loads(pickle.dumps(data))[2]["weight"] == 3


def test_a_set_without_one_readable_image_stops(data_root):
    folder = data_root / "TinyReID"
    items = items_of(folder)
    for path in folder.iterdir():
        damage(path, "empty")
    with pytest.raises(UnreadableImage, match="0_0_0.png cannot be read"):
        SkippingDataset(CommDataset(items))[0]


def test_the_host_s_config_without_the_plugin_s_keys_stops(baseline_cfg, data_root):
    del baseline_cfg["DATALOADER"]["ON_ERROR"]
    assert type(build_reid_train_loader(baseline_cfg).dataset.data_set) is CommDataset


def test_an_error_of_another_process_is_read_from_its_last_line_alone():
    assert error_in_traceback("Traceback\nValueError: igoas_plugin.core.errors.InputError: no") is None
    error = error_in_traceback("igoas_plugin.core.errors.InputError: a: b")
    assert type(error) is InputError and str(error) == "a: b"
