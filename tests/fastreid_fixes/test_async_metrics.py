"""Waits of a training step for the device, counted on a CPU whose tensors are taken for those of a GPU."""

import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fastreid.engine.train_loop import SimpleTrainer
from fastreid.modeling import build_model
from fastreid.solver import build_optimizer
from fastreid.utils.events import EventStorage
from runs import logged, start
from tiny_data import random_batch
from torch.utils._python_dispatch import TorchDispatchMode

from igoas_plugin.fastreid_fixes import async_metrics
from igoas_plugin.fastreid_fixes.amp import compute_in
from igoas_plugin.fastreid_fixes.nonfinite import NonFiniteGuard
from igoas_plugin.occlusion.fills import to_device_of

# Operations in which the CPU reads a value of the device, or sends one that is not in pinned memory
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "lift_fresh"}


class CountWaits(TorchDispatchMode):
    """Mode that counts the operations in which the CPU would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        pinned = name == "lift_fresh" and any(
            frame.name == to_device_of.__name__ for frame in traceback.extract_stack()
        )
        if name in WAITING and not pinned:
            self.waits.append(name)
        return function(*args, **(kwargs or {}))


@pytest.fixture
def as_on_gpu(monkeypatch):
    monkeypatch.setattr(async_metrics, "is_on_gpu", lambda value: isinstance(value, torch.Tensor))


def waits(cfg, steps=3) -> list[str]:
    """Returns what each step waits for, but the first, which has no values of a step before it."""
    cfg.MODEL.HEADS.NUM_CLASSES = 4
    model = build_model(cfg).train()
    optimizer, wrapper = build_optimizer(cfg, model)
    trainer = SimpleTrainer(model, [random_batch(seed=seed) for seed in range(steps)], optimizer, wrapper)
    found = []
    with EventStorage() as trainer.storage:
        for trainer.iter in range(steps):
            trainer.before_step()
            with CountWaits() as count:
                trainer.run_step()
            found.append(count.waits)
        trainer.storage.latest()
    assert len(trainer.storage.history("total_loss").values()) == steps
    return found[1:]


OCCLUSIONS = (
    "IncrementalErasing",
    "IncrementalDrop",
    "BatchDropBlock",
    "BatchRandomErasing",
    "PatchOcclusion",
    "RandomErasing",
)


@pytest.mark.parametrize("name", OCCLUSIONS)
def test_a_step_of_igoas_waits_for_nothing(igoas_cfg, as_on_gpu, name):
    igoas_cfg.MODEL.OCCLUSION.NAME = name
    assert waits(igoas_cfg) == [[], []]


def test_neither_does_one_with_truncation_and_the_triplet_loss(igoas_cfg, as_on_gpu):
    igoas_cfg.MODEL.OCCLUSION.TRUNCATION = 0.5
    igoas_cfg.MODEL.LOSSES.NAME = ("CrossEntropyLoss", "TripletLoss")
    assert waits(igoas_cfg) == [[], []]


def test_neither_does_a_whole_step_in_float16(igoas_cfg, as_on_gpu):
    """Counts the waits of a whole step with hooks and scaled gradients, in float32, which a CPU can compute."""
    igoas_cfg.SOLVER.AMP.ENABLED, igoas_cfg.SOLVER.MAX_EPOCH, igoas_cfg.SOLVER.WARMUP_ITERS = True, 1, 3
    trainer, found = start(igoas_cfg), []
    compute_in(trainer._trainer, None, torch.amp.GradScaler("cpu"))
    after_step = trainer.after_step

    def before():
        found.append(CountWaits())
        found[-1].__enter__()
        type(trainer).before_step(trainer)

    def after():
        after_step()
        found[-1].__exit__(None, None, None)

    trainer.before_step, trainer.after_step = before, after
    trainer.train()
    assert len(found) == 2
    assert set(found[1].waits) <= {"lift_fresh"}  # the loader's, which makes tensors on the CPU here


def test_the_count_finds_the_one_wait_of_fast_reid_s_baseline(baseline_cfg, as_on_gpu, raw_host):
    assert raw_host["waits_of_a_training_step"] > 0
    found = waits(baseline_cfg)
    assert found == [["_local_scalar_dense"]] * 2  # whether its targets are those of PreciseBN


def test_values_arrive_one_step_later_under_their_own_iteration(as_on_gpu):
    with EventStorage(5) as storage:
        storage.put_scalar("loss", torch.tensor([3.0]))
        with storage.name_scope("part"):
            storage.put_scalar("loss", torch.tensor(4.0), smoothing_hint=False)
        storage.receive_and_send()
        storage.step()
        storage.put_scalar("loss", torch.tensor(2.0))
        assert storage._latest_scalars == {}
        storage.receive_and_send()
        assert storage._latest_scalars == {"loss": (3.0, 5), "part/loss": (4.0, 5)}
        assert storage.latest() == {"loss": (2.0, 6), "part/loss": (4.0, 5)}
    assert storage.history("loss").values() == [(3.0, 5), (2.0, 6)]
    assert storage.smoothing_hints() == {"loss": True, "part/loss": False}


def test_a_training_loop_of_a_user_keeps_few_values_on_the_gpu(as_on_gpu):
    with EventStorage() as storage:
        for storage.iter in range(5):
            storage.put_scalar("loss", torch.tensor(float(storage.iter)))
            assert len(storage._put) == 1 and len(storage._sent) <= 1
    assert [value for value, _ in storage.history("loss").values()] == [0, 1, 2, 3, 4]


def test_an_event_storage_of_a_user_works_too(baseline_cfg):
    class Own(async_metrics.HostStorage):
        pass

    baseline_cfg.MODEL.HEADS.NUM_CLASSES = 4
    model = build_model(baseline_cfg).train()
    optimizer, wrapper = build_optimizer(baseline_cfg, model)
    trainer = SimpleTrainer(model, [random_batch()], optimizer, wrapper)
    with Own() as trainer.storage:
        trainer.run_step()
    assert trainer.storage.latest()["total_loss"][0] > 0


def test_losses_on_several_devices_or_of_several_types_are_put_together(baseline_cfg):
    with EventStorage() as storage:
        trainer = SimpleNamespace(iter=0, storage=storage, guard=NonFiniteGuard())
        async_metrics.write_metrics(trainer, {"one": torch.tensor([1.0]), "two": torch.tensor(2.0).double()}, 0.5)
        assert {name: value for name, (value, _) in storage.latest().items()} == {
            "one": 1.0, "two": 2.0, "total_loss": 3.0, "data_time": 0.5
        }  # fmt: skip


@pytest.mark.parametrize("look", ["history", "histories", "latest", "latest_with_smoothing_hint"])
def test_every_reader_of_the_storage_gets_all_values(as_on_gpu, look):
    with EventStorage() as storage:
        storage.put_scalar("loss", torch.tensor(1.0))
        found = getattr(storage, look)(*(["loss"] if look == "history" else []))
    assert found.values() if look == "history" else "loss" in found


def test_a_run_logs_the_same_late_or_at_once(igoas_cfg, monkeypatch, tmp_path):
    lines = []
    for late in (False, True):
        igoas_cfg.OUTPUT_DIR = str(tmp_path / str(late))
        monkeypatch.setattr(async_metrics, "is_on_gpu", lambda value, late=late: late and torch.is_tensor(value))
        start(igoas_cfg).train()
        lines.append(
            [
                {key: line[key] for key in line if "time" not in key and key != "eta_seconds"}
                for line in logged(igoas_cfg)
            ]
        )
    assert lines[0] == lines[1]
    assert {"total_loss", "cls_accuracy", "raw_loss_joint", "occlusion/share"} <= lines[0][0].keys()


@pytest.mark.parametrize("late", [False, True])
def test_an_infinite_loss_ends_the_run_before_a_checkpoint(igoas_cfg, monkeypatch, late):
    monkeypatch.setattr(async_metrics, "is_on_gpu", lambda value: late and torch.is_tensor(value))
    igoas_cfg.SOLVER.CHECKPOINT_PERIOD = 1
    trainer = start(igoas_cfg)
    spoilt = trainer._trainer.model.heads.joint_classifier.weight
    trainer._trainer.optimizer.register_step_post_hook(lambda *_: spoilt.data.fill_(float("nan")))
    what = "a loss or a gradient" if late else "the parameter heads.joint_classifier.weight"
    with pytest.raises(FloatingPointError, match=rf"^iteration 2: {what} is not finite \(losses: "):
        trainer.train()
    assert list(Path(igoas_cfg.OUTPUT_DIR).glob("model*.pth")) == []
