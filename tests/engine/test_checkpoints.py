import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fastreid.modeling import build_model
from fastreid.utils.checkpoint import Checkpointer
from runs import start, stop_at
from tiny_data import use_resnet
from torch import nn

from igoas_plugin.checkpoint.checkpoint_file import read_file
from igoas_plugin.core.errors import InputError
from igoas_plugin.preflight import check_model


class Unpicklable:
    def state_dict(self):
        return {"torn": lambda: None}


def test_a_save_that_dies_leaves_the_files_as_they_were(tmp_path, raw_host):
    assert raw_host["files_of_a_save_that_was_interrupted"] == ["model_0000.pth"]
    good = Checkpointer(nn.Linear(1, 1), str(tmp_path))
    good.save("model_0000", epoch=0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Exception, match="pickle|local"):
        Checkpointer(nn.Linear(1, 1), str(tmp_path), torn=Unpicklable()).save("model_0001", epoch=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert good.get_checkpoint_file() == str(tmp_path / "model_0000.pth")
    assert set(before) == {"model_0000.pth", "last_checkpoint"}


def test_a_checkpoint_of_another_model_is_refused_with_its_keys(tmp_path, raw_host):
    assert raw_host["loading_a_checkpoint_of_another_model"] == "loaded without an error"
    Checkpointer(nn.Sequential(nn.Linear(1, 1)), str(tmp_path)).save("other")
    with pytest.raises(InputError, match="other.pth does not fit the model: 1.weight is missing; 1.bias is missing"):
        Checkpointer(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))).load(str(tmp_path / "other.pth"))
    with pytest.raises(InputError, match=r"0.weight has shape \(1, 1\), not \(2, 1\)"):
        Checkpointer(nn.Sequential(nn.Linear(1, 2))).load(str(tmp_path / "other.pth"))


def test_tensors_that_the_model_has_no_place_for_are_named(tmp_path, host_log):
    Checkpointer(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), str(tmp_path)).save("deeper")
    Checkpointer(nn.Sequential(nn.Linear(1, 1))).load(str(tmp_path / "deeper.pth"))
    assert "deeper.pth holds 2 tensors that the model has no place for (1.weight, 1.bias)" in host_log.text


def test_an_evaluation_warns_of_no_classifier_and_a_fine_tuning_of_each(igoas_cfg, tmp_path, host_log):
    Checkpointer(build_model(igoas_cfg), str(tmp_path)).save("four")
    igoas_cfg.MODEL.WEIGHTS = str(tmp_path / "four.pth")
    for identities, warnings in ((0, 0), (7, 6)):  # three classifiers with weight and bias
        igoas_cfg.MODEL.HEADS.NUM_CLASSES = identities
        host_log.clear()
        check_model(igoas_cfg)
        Checkpointer(build_model(igoas_cfg)).load(igoas_cfg.MODEL.WEIGHTS)
        assert host_log.text.count("incompatible shapes") == 2 * warnings
        assert ("classifier" in host_log.text) == (warnings > 0)


@pytest.mark.parametrize("cfg_name", ["baseline_cfg", "igoas_cfg"])
def test_classifiers_may_have_other_identities(cfg_name, request, tmp_path):
    cfg = request.getfixturevalue(cfg_name)
    cfg.MODEL.HEADS.NUM_CLASSES = 4
    source = build_model(cfg)
    Checkpointer(source, str(tmp_path)).save("four")
    cfg.MODEL.HEADS.NUM_CLASSES = 7
    target = build_model(cfg)
    Checkpointer(target).load(str(tmp_path / "four.pth"))
    assert torch.equal(source.backbone.conv1.weight, target.backbone.conv1.weight)


@pytest.mark.parametrize(
    "cfg_name, tensor, tolerated",
    [
        ("baseline_cfg", "heads.weight", True),
        ("baseline_cfg", "heads.bottleneck.0.running_var", False),
        ("igoas_cfg", "heads.joint_classifier.weight", True),
        ("igoas_cfg", "heads.global_classifier.bias", True),
        ("igoas_cfg", "heads.global_neck.reduction.linear.weight", False),
        ("igoas_cfg", "heads.suppression_neck.reduction.norm.running_mean", False),
        ("igoas_cfg", "suppression_branch.attention_after.fc1.bias", False),
    ],
)
def test_only_classifier_weights_may_be_missing(cfg_name, tensor, tolerated, request, tmp_path):
    cfg = request.getfixturevalue(cfg_name)
    cfg.MODEL.HEADS.NUM_CLASSES, cfg.MODEL.HEADS.WITH_BNNECK = 4, cfg_name == "baseline_cfg"
    model = build_model(cfg)
    state = model.state_dict()
    del state[tensor]
    torch.save({"model": state}, tmp_path / "partial.pth")
    if tolerated:
        Checkpointer(model).load(str(tmp_path / "partial.pth"))
    else:
        with pytest.raises(InputError, match=f"does not fit the model: {tensor} is missing"):
            Checkpointer(model).load(str(tmp_path / "partial.pth"))


class Occluded(nn.Module):
    """Model with class weights under a name of its own, as the head of fast-reid's project PartialReID."""

    def __init__(self, classes: int):
        super().__init__()
        self.trunk, self.weight_occ = nn.Linear(1, 1), nn.Parameter(torch.zeros(classes, 1))


def test_a_tensor_of_size_0_in_the_model_is_passed_over_except_on_a_resume(tmp_path):
    trained = Occluded(classes=4)
    Checkpointer(trained, str(tmp_path)).save("trained")
    torch.save({"model": trained.trunk.state_dict(prefix="trunk.")}, tmp_path / "without.pth")
    for name in ("trained.pth", "without.pth"):
        model = Occluded(classes=0)
        Checkpointer(model).load(str(tmp_path / name))
        assert model.weight_occ.shape == (0, 1) and model.trunk.weight.equal(trained.trunk.weight)
        resumed = Checkpointer(model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
        torch.save({**torch.load(tmp_path / name), "optimizer": resumed.checkpointables["optimizer"].state_dict()},
                   tmp_path / name)  # fmt: skip
        with pytest.raises(InputError, match="does not fit the model: weight_occ (is missing|has shape)"):
            resumed.load(str(tmp_path / name))
    with pytest.raises(InputError, match=r"weight_occ has shape \(4, 1\), not \(3, 1\)"):
        Checkpointer(Occluded(classes=3)).load(str(tmp_path / "trained.pth"))


def test_a_resume_takes_the_momentum_of_a_classifier_that_is_empty_before_its_first_step(tmp_path):
    """As the one of fast-reid's project FastFace, which draws its classes anew in each step."""
    momentum = torch.arange(6.0).view(2, 3)
    optimizers = {}
    for name, classes in (("trained", 2), ("resumed", 0), ("wider", 4)):
        optimizers[name] = torch.optim.SGD([nn.Parameter(torch.zeros(classes, 3))], lr=0.1, momentum=0.9)
    optimizers["trained"].state[optimizers["trained"].param_groups[0]["params"][0]]["momentum_buffer"] = momentum
    Checkpointer(nn.Identity(), str(tmp_path), optimizer=optimizers["trained"]).save("classifier")
    Checkpointer(nn.Identity(), optimizer=optimizers["resumed"]).load(str(tmp_path / "classifier.pth"))
    [state] = optimizers["resumed"].state.values()
    assert state["momentum_buffer"].equal(momentum)
    with pytest.raises(InputError, match="momentum_buffer of a group was saved for 6 values, not 12"):
        Checkpointer(nn.Identity(), optimizer=optimizers["wider"]).load(str(tmp_path / "classifier.pth"))


def test_a_missing_a_torn_and_a_foreign_file_are_named(tmp_path):
    model = nn.Linear(1, 1)
    with pytest.raises(InputError, match="absent.pth does not exist"):
        Checkpointer(model).load(str(tmp_path / "absent.pth"))
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(InputError, match="torn.pth cannot be read"):
        Checkpointer(model).load(str(tmp_path / "torn.pth"))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("key", [None, "model", "state_dict"])
def test_weights_of_another_program_are_taken_bare_or_under_a_key(key, prefix, tmp_path):
    source, model = nn.Sequential(nn.Linear(1, 2)), nn.Sequential(nn.Linear(1, 2))
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    torch.save(state if key is None else {key: state, "epoch": 3, "args": "-b 32"}, tmp_path / "other.pth")
    Checkpointer(model).load(str(tmp_path / "other.pth"))
    assert model[0].weight.equal(source[0].weight) and model[0].bias.equal(source[0].bias)
    with pytest.raises(InputError, match="does not fit the model: 1.weight is missing"):
        Checkpointer(nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 2))).load(str(tmp_path / "other.pth"))
    resumed = Checkpointer(model, str(tmp_path), optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    (tmp_path / "last_checkpoint").write_text("other.pth")
    with pytest.raises(InputError, match="--resume needs the .pth of a training, and .*other.pth holds weights only"):
        resumed.resume_or_load("", resume=True)


def test_a_script_with_an_optimiser_loads_weights_alone_as_fast_reid_does(tmp_path):
    source, model = Occluded(classes=4), Occluded(classes=0)
    Checkpointer(source, str(tmp_path)).save("weights")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    own = Checkpointer(model, str(tmp_path), optimizer=optimizer)
    with pytest.raises(InputError, match="--resume needs the .pth of a training"):
        own.resume_or_load("", resume=True)
    assert own.load(str(tmp_path / "weights.pth")) == {}
    assert model.trunk.weight.equal(source.trunk.weight) and optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("content, message", [
    ({"epoch": 3}, "other.pth is refused: epoch is of the type int, not a tensor; save the state_dict"),
    ({}, "other.pth holds no weights by name; save the state_dict"),
    ([torch.ones(1)], "other.pth holds no weights by name; save the state_dict"),
    ({"state_dict": {"layer41.0.0.conv1.weight": torch.ones(1)}}, "of the original IGOAS: convert it by tools/conv"),
])  # fmt: skip
def test_a_file_without_weights_of_a_model_is_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(InputError, match=message):
        Checkpointer(nn.Linear(1, 1)).load(str(tmp_path / "other.pth"))


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "created",)

    torch.save({"model": {}, "epoch": Payload()}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match="bad.pth cannot be read"):
        Checkpointer(nn.Linear(1, 1)).load(str(tmp_path / "bad.pth"))
    assert not (tmp_path / "created").exists()


def test_numpy_scalars_in_a_checkpoint_load(tmp_path, raw_host):
    if torch.__version__ >= "2.6":  # before, it ran whatever a file held
        assert raw_host["numpy_scalar_in_a_checkpoint"].startswith("UnpicklingError")
    Checkpointer(nn.Linear(1, 1), str(tmp_path)).save("scalars", metric=np.float64(1.5), epoch=np.int64(3))
    extra = Checkpointer(nn.Linear(1, 1)).load(str(tmp_path / "scalars.pth"))
    assert extra["metric"] == 1.5 and extra["epoch"] == 3


@pytest.mark.parametrize("numpy_s_name", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numpy_scalars_of_either_numpy_load(tmp_path, numpy_s_name):
    buffer = io.BytesIO()
    torch.save({"metric": np.float32(0.5)}, buffer, _use_new_zipfile_serialization=False)
    path = tmp_path / "scalar.pth"
    ours = np.float32(0).__reduce__()[0].__module__
    path.write_bytes(buffer.getvalue().replace(f"c{ours}\n".encode(), f"c{numpy_s_name}\n".encode()))
    assert numpy_s_name.encode() in path.read_bytes()
    assert read_file(str(path)) == {"metric": 0.5}


def test_a_period_of_zero_saves_the_final_and_the_best_checkpoint_only(baseline_cfg):
    baseline_cfg.SOLVER.CHECKPOINT_PERIOD = 0
    start(baseline_cfg).train()
    assert {path.name for path in Path(baseline_cfg.OUTPUT_DIR).glob("*.pth")} == {"model_best.pth", "model_final.pth"}


def run_with_metrics(cfg, metrics, resume=False):
    """Runs a training whose evaluations give these metrics, one an epoch, and returns its best checkpoint."""
    trainer = start(cfg, resume)
    given = iter(metrics)
    trainer.test = lambda cfg, model: {"metric": next(given)}
    trainer.train()
    return torch.load(f"{cfg.OUTPUT_DIR}/model_best.pth", weights_only=True)


def test_a_resumed_run_does_not_overwrite_a_better_model(baseline_cfg, raw_host):
    assert raw_host["best_metric_after_a_resume"] == -1
    baseline_cfg.SOLVER.MAX_EPOCH = 1
    assert run_with_metrics(baseline_cfg, [90.0])["metric"] == 90.0
    baseline_cfg.SOLVER.MAX_EPOCH = 2
    assert run_with_metrics(baseline_cfg, [80.0], resume=True)["epoch"] == 0
    baseline_cfg.SOLVER.MAX_EPOCH = 3
    best = run_with_metrics(baseline_cfg, [95.0], resume=True)
    assert (best["metric"], best["epoch"]) == (95.0, 2)


def test_the_best_model_is_saved_when_it_is_found_not_when_a_checkpoint_is_due(baseline_cfg):
    baseline_cfg.SOLVER.MAX_EPOCH, baseline_cfg.SOLVER.CHECKPOINT_PERIOD = 3, 3
    best = run_with_metrics(baseline_cfg, [50.0, 70.0, 60.0])
    assert (best["metric"], best["epoch"]) == (70.0, 1)


def test_a_checkpoint_without_an_evaluation_has_no_metric(baseline_cfg):
    baseline_cfg.SOLVER.MAX_EPOCH, baseline_cfg.TEST.EVAL_PERIOD, baseline_cfg.SOLVER.CHECKPOINT_PERIOD = 4, 2, 1
    run_with_metrics(baseline_cfg, [50.0, 60.0])
    saved = {epoch: torch.load(f"{baseline_cfg.OUTPUT_DIR}/model_{epoch:04d}.pth")["metric"] for epoch in (0, 1, 2)}
    assert saved == {0: -1, 1: 50.0, 2: -1}


def test_a_path_that_a_handler_of_the_host_knows_is_loaded(tmp_path):
    Checkpointer(nn.Linear(1, 1), str(tmp_path)).save("weights")
    reader = Checkpointer(nn.Linear(1, 1))
    reader.path_manager = SimpleNamespace(get_local_path=lambda path: path.replace("zoo:/", str(tmp_path)))
    reader.load("zoo://weights.pth")
    with pytest.raises(InputError, match="zoo://absent.pth does not exist"):
        reader.load("zoo://absent.pth")


def test_an_optimiser_without_its_schedules_is_loaded_without_a_warning(tmp_path, host_log):
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    Checkpointer(model, str(tmp_path), optimizer=optimizer, lr_sched=schedule).save("run")
    Checkpointer(model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1)).load(str(tmp_path / "run.pth"))
    assert "no effect" not in host_log.text


def saved(cfg, folder) -> str:
    cfg.MODEL.HEADS.NUM_CLASSES = 4
    Checkpointer(build_model(cfg), str(folder)).save("saved")
    return str(folder / "saved.pth")


def test_a_checkpoint_of_another_architecture_is_refused_with_the_keys_that_differ(igoas_cfg, tmp_path):
    use_resnet(igoas_cfg)
    path = saved(igoas_cfg, tmp_path)
    use_resnet(igoas_cfg, "34x")
    with pytest.raises(InputError, match=r"is missing.*here and there: MODEL.BACKBONE.DEPTH 34x and 18x\. Use its own"):
        Checkpointer(build_model(igoas_cfg)).load(path)


def test_a_checkpoint_that_fits_but_was_used_otherwise_is_told(igoas_cfg, tmp_path, host_log):
    path = saved(igoas_cfg, tmp_path)
    Checkpointer(build_model(igoas_cfg)).load(path)
    assert "other settings" not in host_log.text
    igoas_cfg.MODEL.IGOAS.DESCRIPTOR = "global"
    Checkpointer(build_model(igoas_cfg)).load(path)
    assert "other settings, here and there: MODEL.IGOAS.DESCRIPTOR global and joint" in host_log.text


def test_a_checkpoint_without_settings_loads_without_a_word(igoas_cfg, tmp_path, host_log):
    checkpoint = torch.load(saved(igoas_cfg, tmp_path), weights_only=True)
    assert checkpoint.pop("settings")
    torch.save(checkpoint, tmp_path / "older.pth")
    Checkpointer(build_model(igoas_cfg)).load(str(tmp_path / "older.pth"))
    assert "other settings" not in host_log.text


def content(cfg, name) -> dict:
    return torch.load(f"{cfg.OUTPUT_DIR}/{name}", weights_only=True)


def test_the_best_checkpoint_holds_the_weights_alone_and_is_not_the_last_one(baseline_cfg):
    baseline_cfg.SOLVER.CHECKPOINT_PERIOD = 1
    best = run_with_metrics(baseline_cfg, [50.0, 60.0])
    assert set(best) == {"model", "settings", "epoch", "metric"} and best["epoch"] == 1
    final, folder = content(baseline_cfg, "model_final.pth"), Path(baseline_cfg.OUTPUT_DIR)
    assert {"optimizer", "lr_sched"} <= set(final) and set(best["model"]) == set(final["model"])
    assert all(value.equal(final["model"][name]) for name, value in best["model"].items())
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"


def test_a_best_checkpoint_between_two_periods_does_not_take_the_place_of_the_last_one(baseline_cfg):
    baseline_cfg.SOLVER.MAX_EPOCH, baseline_cfg.SOLVER.CHECKPOINT_PERIOD = 4, 2
    trainer = stop_at(start(baseline_cfg), 6)  # three epochs of two steps
    metrics = iter([50.0, 60.0, 70.0])
    trainer.test = lambda cfg, model: {"metric": next(metrics)}
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    folder = Path(baseline_cfg.OUTPUT_DIR)
    assert content(baseline_cfg, "model_best.pth")["epoch"] == 2
    assert (folder / "last_checkpoint").read_text() == "model_0001.pth"
    assert start(baseline_cfg, resume=True).start_epoch == 2
    (folder / "model_0001.pth").write_bytes(b"torn")  # the best one is no substitute
    with pytest.raises(InputError, match="no checkpoint in .* can be read"):
        start(baseline_cfg, resume=True)


def test_a_run_with_a_best_checkpoint_alone_has_nothing_to_resume_and_keeps_the_file(baseline_cfg, host_log):
    baseline_cfg.SOLVER.MAX_EPOCH = 1
    Path(baseline_cfg.OUTPUT_DIR).mkdir()
    Checkpointer(nn.Linear(1, 1), baseline_cfg.OUTPUT_DIR).save("model_best", epoch=0, metric=1.0)
    start(baseline_cfg, resume=True).train()
    assert "Nothing to resume" in host_log.text
    assert content(baseline_cfg, "previous/model_best.pth")["metric"] == 1.0


def test_a_best_checkpoint_does_not_remove_what_a_signal_left(tmp_path):
    checkpointer = Checkpointer(nn.Linear(1, 1), str(tmp_path))
    checkpointer.save("model_interrupted", epoch=0)
    checkpointer.save("model_best", epoch=0)
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_interrupted.pth")
    assert (tmp_path / "model_interrupted.pth").is_file()
    checkpointer.save("model_0000", epoch=0)
    assert not (tmp_path / "model_interrupted.pth").exists()


def test_a_run_of_an_earlier_version_is_resumed_from_its_best_checkpoint_which_stays_whole_while_it_is_the_last_one(
    baseline_cfg,
):
    cfg, folder = baseline_cfg, Path(baseline_cfg.OUTPUT_DIR)
    cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.CHECKPOINT_PERIOD = 1, 0
    run_with_metrics(cfg, [50.0])
    (folder / "model_final.pth").rename(folder / "model_best.pth")  # as an earlier version wrote it
    (folder / "last_checkpoint").write_text("model_best.pth")
    cfg.SOLVER.MAX_EPOCH = 3
    resumed = stop_at(start(cfg, resume=True), 4)
    assert resumed.start_epoch == 1
    resumed.test = lambda cfg, model: {"metric": 60.0}
    with pytest.raises(KeyboardInterrupt):
        resumed.train()
    assert content(cfg, "model_best.pth")["epoch"] == 1
    again = start(cfg, resume=True)
    assert again.start_epoch == 2
    again.test = lambda cfg, model: {"metric": 40.0}
    again.train()
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
