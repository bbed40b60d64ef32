import time
from types import SimpleNamespace

import pytest
from fastreid.utils.events import EventStorage, TensorboardXWriter
from runs import start, stop_at
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from igoas_plugin.engine.log_files import WriteTensorboard, tag_of


def points_in(folder) -> dict[str, list[int]]:
    """Returns {tag: its steps}, as tensorboard shows them."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_every_scalar_has_a_group():
    tags = {
        "total_loss": "loss/total_loss",
        "raw_suppression_loss_x": "loss/raw_suppression_loss_x",
        "loss_weight_global": "loss_weight/global",
        "occlusion/share": "occlusion/share",
        "lr": "train/lr",
        "data_time": "system/data_time",
        "eta_seconds": "system/eta_seconds",
        "mAP": "test/Drawn/mAP",
        "Rank-10": "test/Drawn/Rank-10",
        "Drawn/mAP": "test/Drawn/mAP",
        "Other/own metric": "test/Other/own metric",
        "sharpness": "train/sharpness",
        "mine/sharpness": "mine/sharpness",
    }
    assert {name: tag_of(name, ("Drawn", "Other")) for name in tags} == tags
    assert tag_of("mAP") == "test/mAP"


def test_tensorboard_has_a_point_every_20_steps_and_none_twice(tmp_path):
    writer = TensorboardXWriter(str(tmp_path))
    hook = WriteTensorboard([writer])
    with EventStorage() as storage:
        for storage.iter in range(50):
            storage.put_scalar("total_loss", 1.0)
            hook.trainer = SimpleNamespace(iter=storage.iter)
            hook.after_step()
        storage.put_scalar("mAP", 5.0)
        writer.write()
        writer.write()
    writer.close()
    assert points_in(tmp_path) == {"loss/total_loss": [19, 39, 49], "test/mAP": [49]}


def test_a_value_that_arrives_late_is_written_by_the_next_call(tmp_path):
    writer = TensorboardXWriter(str(tmp_path))
    with EventStorage(7) as storage:
        storage.put_scalar("data_time", 1.0)
        writer.write()
        storage.put_scalar("total_loss", 1.0)  # of the same iteration
        writer.write()
    writer.close()
    assert points_in(tmp_path) == {"system/data_time": [7], "loss/total_loss": [7]}


@pytest.mark.parametrize("period", [1, 0], ids=["from the second epoch", "from the beginning"])
def test_steps_that_are_trained_again_stand_once_in_tensorboard(baseline_cfg, monkeypatch, period):
    cfg = baseline_cfg
    cfg.SOLVER.CHECKPOINT_PERIOD = period
    monkeypatch.setattr(WriteTensorboard.__init__, "__defaults__", (1,))
    with pytest.raises(KeyboardInterrupt):
        stop_at(start(cfg), 3).train()
    assert points_in(cfg.OUTPUT_DIR)["loss/total_loss"] == [0, 1, 2]
    later = SimpleNamespace(time=lambda: time.time() + 5)  # tensorboard reads the files by the second in their names
    monkeypatch.setattr(event_file_writer, "time", later)
    resumed = start(cfg, resume=True)
    assert resumed.resumed_iter == (2 if period else None)
    resumed.train()
    points = points_in(cfg.OUTPUT_DIR)
    assert points["loss/total_loss"] == points["train/lr"] == [0, 1, 2, 3]
    [name] = cfg.DATASETS.TESTS
    assert points[f"test/{name}/mAP"][-1] == 3
    assert {tag.split("/")[0] for tag in points} <= {"loss", "loss_weight", "occlusion", "system", "train", "test"}
