"""Runs of two processes on the CPU (gloo), started by fast-reid's launcher and by torchrun."""

import multiprocessing.spawn
import os
import pickle
import random
import signal
import subprocess
import sys
from argparse import Namespace

import pytest
import torch
from fastreid.engine import launch
from fastreid.evaluation import ReidEvaluator
from fastreid.utils import comm
from runs import frozen_names, start, unchanged, weights

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.extensions import IMPORTED, import_modules
from igoas_plugin.engine.distributed import AverageNormalisation, wants_gpus
from igoas_plugin.engine.processes import plugin_imported_first
from igoas_plugin.modeling.igoas import IDENTITY_LOSSES


def train(cfg, folder):
    """Trains two epochs, the first one frozen, and writes what each process saw into the folder."""
    trainer = start(cfg)
    drawn, before, after_epochs, evaluated = random.random(), weights(trainer), [], []
    average, process = AverageNormalisation.after_epoch, ReidEvaluator.process

    def note_and_average(hook):
        if not trainer.weight_average.applied:  # the hook averages the statistics of the average too
            after_epochs.append(weights(trainer))
        average(hook)

    def note_and_process(evaluator, inputs, outputs):
        evaluated.extend(inputs["img_paths"])
        process(evaluator, inputs, outputs)

    AverageNormalisation.after_epoch, ReidEvaluator.process = note_and_average, note_and_process
    results = trainer.train()
    model = trainer._trainer.model
    torch.save(
        {
            "state": model.module.state_dict(),
            "average": trainer.weight_average.average,
            "wrapped": type(model).__name__,
            "results": dict(results or {}),
            "drawn": drawn,
            "unchanged_while_frozen": unchanged(before, after_epochs[0]),
            "statistics_before_the_mean": after_epochs[-1]["module.backbone.bn1.running_mean"],
            "rectangles": [trainer.storage.history(f"occlusion/{side}").values() for side in ("top", "left")],
            "scalars": {name: history.values() for name, history in trainer.storage.histories().items()},
            "evaluated": evaluated,
            "images": [item[0] for item in trainer.data_loader.dataset.img_items],
        },
        os.path.join(folder, f"rank{comm.get_rank()}.pth"),
    )


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """Returns what each of two ranks has at the end of a training, and the final checkpoint."""
    import tiny_data

    import igoas_plugin

    folder = tmp_path_factory.mktemp("two_ranks")
    tiny_data.make_tiny_data(folder / "datasets")
    before = os.environ.get("FASTREID_DATASETS")
    os.environ["FASTREID_DATASETS"] = str(folder / "datasets")
    cfg = igoas_plugin.get_cfg()
    tiny_data.tiny_settings(cfg, folder / "run")
    cfg.SEED = 1
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NAME, cfg.MODEL.HEADS.EMBEDDING_DIM = "IGOAS", "IGOASHead", 32
    cfg.MODEL.IGOAS.FREEZE_EPOCHS, cfg.SOLVER.EMA.ENABLED = 1, True
    try:
        launch(train, 2, dist_url="auto", args=(cfg, str(folder)))
    finally:
        os.environ.pop("FASTREID_DATASETS")
        if before is not None:
            os.environ["FASTREID_DATASETS"] = before
    ranks = [torch.load(folder / f"rank{rank}.pth", weights_only=False) for rank in range(2)]
    return ranks, torch.load(folder / "run" / "model_final.pth", weights_only=True)


def test_two_processes_train_the_same_weights_and_bn_statistics(two_ranks, raw_host):
    assert raw_host["launch_two_processes_without_a_gpu"].startswith("AssertionError")
    assert raw_host["ddp_of_a_cpu_model"].startswith("ValueError")
    (first, second), _ = two_ranks
    assert first["wrapped"] == "DistributedDataParallel"
    for state in ("state", "average"):
        assert [key for key in first[state] if not torch.equal(first[state][key], second[state][key])] == []


def test_the_statistics_are_the_mean_of_those_of_all_processes(two_ranks):
    ranks, _ = two_ranks
    first, second = (rank["statistics_before_the_mean"] for rank in ranks)
    assert not torch.equal(first, second)
    torch.testing.assert_close(ranks[0]["state"]["backbone.bn1.running_mean"], (first + second) / 2)


def own_losses(scalars: dict) -> list[float]:
    """Returns the total loss of each step of one process, computed from its own logged parts."""
    totals = []
    for step in range(len(scalars["raw_loss_joint"])):
        value = {name: history[step][0] for name, history in scalars.items() if len(history) > step}
        identity = sum(value[f"loss_weight_{name}"] * value[f"raw_loss_{name}"] for name in IDENTITY_LOSSES)
        totals.append(identity + value["raw_suppression_loss_global"] + value["raw_suppression_loss_suppression"])
    return totals


def test_the_logged_loss_is_the_mean_of_all_processes(two_ranks):
    first, second = [own_losses(rank["scalars"]) for rank in two_ranks[0]]
    assert max(abs(one - other) for one, other in zip(first, second, strict=True)) > 1e-2
    logged = two_ranks[0][0]["scalars"]["total_loss"]
    expected = [((one + other) / 2, step) for step, (one, other) in enumerate(zip(first, second, strict=True))]
    assert logged == [(pytest.approx(value, rel=1e-5), step) for value, step in expected]  # sums of float32
    assert "total_loss" not in two_ranks[0][1]["scalars"]


def test_two_processes_freeze_alike(two_ranks):
    for rank in two_ranks[0]:
        names = {f"module.{name}" for name in rank["state"]}
        assert rank["unchanged_while_frozen"] == frozen_names(names)


def test_processes_draw_augmentations_of_their_own(two_ranks):
    (first, second), _ = two_ranks
    assert first["drawn"] != second["drawn"]


def test_the_checkpoint_holds_the_shared_statistics(two_ranks):
    (first, _), checkpoint = two_ranks
    raw = checkpoint["ema"]["raw_weights"]
    assert [key for key, value in raw.items() if not torch.equal(value, first["state"][key])] == []
    assert [key for key, value in checkpoint["model"].items() if not torch.equal(value, first["average"][key])] == []


def test_the_first_process_evaluates_all_images(two_ranks):
    (first, second), _ = two_ranks
    assert 0 <= first["results"]["Rank-1"] <= 100 and second["results"] == {}
    tests = [path for path in first["images"] if os.path.basename(path)[2] == "0"] + first["images"]  # query, gallery
    half = len(tests) // 2
    assert first["evaluated"] == 2 * tests[:half] and second["evaluated"] == 2 * tests[half:]  # after each epoch


def test_processes_draw_rectangles_of_their_own(two_ranks):
    (first, second), _ = two_ranks
    assert first["rectangles"] != second["rectangles"]


def refuse(cfg, ranks):
    if comm.get_rank() in ranks:
        raise InputError("the key X is wrong")
    comm.synchronize()


@pytest.mark.parametrize(
    "ranks", [(1,), *(pytest.param(each, marks=pytest.mark.slow) for each in ((0,), (0, 1)))], ids=str
)
def test_an_input_error_in_a_process_reaches_the_caller_as_one(baseline_cfg, ranks):
    with pytest.raises(InputError, match="^the key X is wrong$"):
        launch(refuse, 2, dist_url="auto", args=(baseline_cfg, ranks))


@pytest.mark.parametrize("opts", [{}, {"opts": None}])
def test_a_command_line_without_options_is_launched_too(opts):
    assert wants_gpus((Namespace(config_file="", **opts),)) == torch.cuda.is_available()


def test_no_gpu_asked_for_is_one_process():
    ran = []
    launch(ran.append, 0, args=(1,))
    assert ran == [1]


def test_under_torchrun_its_variables_count_the_processes(monkeypatch):
    """Starts one process, so that nothing else needs the port; the slow test below starts several."""
    port = sys.modules["fastreid.engine.launch"]._find_free_port()
    for name, value in {
        "TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    seen = []
    launch(lambda: seen.append((torch.distributed.get_backend(), comm.get_local_rank(), comm.get_local_size())), 2)
    assert seen == [("gloo", 0, 1)]
    assert not torch.distributed.is_initialized() and comm._LOCAL_PROCESS_GROUP is None


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["--num-gpus", "torchrun"])
def test_the_tool_trains_in_two_processes(run_tool, tiny_duke, tmp_path, launcher):
    if launcher == "torchrun":
        done = run_tool(launcher=["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"])
    else:
        done = run_tool(flags=["--num-gpus", "2", "--dist-url", "auto"])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "in each of 2 processes" in done.stdout and done.stdout.count("\nmodel ") == 1  # of rank 0 alone
    for gone in ("TypedStorage", "broadcast_buffers", "CUDA_HOME"):
        assert gone not in done.stdout + done.stderr, gone
    assert "OccludedDuke" in done.stdout.split("mINP")[-1]
    assert (tmp_path / "run" / "model_final.pth").exists()


def test_what_a_spawned_process_unpickles_first_imports_the_plugin_and_the_modules_of_the_user(tmp_path, monkeypatch):
    (tmp_path / "user_spawned.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    import_modules(["user_spawned"])
    before = multiprocessing.spawn.get_preparation_data
    with plugin_imported_first():
        data = multiprocessing.spawn.get_preparation_data("Process-1")
    assert multiprocessing.spawn.get_preparation_data is before and next(iter(data)) == "plugin"
    sent = pickle.dumps(data["plugin"])
    assert b"import igoas_plugin" in sent

    del sys.modules["user_spawned"]
    sys.path.remove(str(tmp_path))
    handler = signal.getsignal(signal.SIGINT)
    exec("pickle.loads(sent)", names := {"pickle": pickle, "sent": sent})
    assert names.keys() == {"pickle", "sent", "__builtins__"}  # the module that unpickles gets no new names
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, handler)
    assert "user_spawned" in sys.modules and str(tmp_path) in sys.path
    del sys.modules["user_spawned"], IMPORTED["user_spawned"]


SCRIPT = """
import sys
from fastreid.engine import launch  # before the plugin: only what runs this script has imported it
from fastreid.data.data_utils import DataLoaderX

class Seen:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return "user_ranks" in sys.modules

def main():
    import torch.distributed
    rank, seen = torch.distributed.get_rank(), [Seen()[0]]
    if rank == 0:
        seen += DataLoaderX(0, dataset=Seen(), batch_size=None, num_workers=1, multiprocessing_context="spawn")
    print("rank", rank, *seen)

if __name__ == "__main__":
    import igoas_plugin
    cfg = igoas_plugin.get_cfg()
    cfg.merge_from_file("run.yml")
    launch(main, 2, args=())
"""


@pytest.mark.slow
def test_a_script_without_the_plugin_that_something_with_the_plugin_runs_starts_processes_and_workers(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "user_ranks.py").write_text("")
    (tmp_path / "run.yml").write_text("IMPORTS: [user_ranks]\nMODEL: {DEVICE: cpu}")
    command = "import igoas_plugin, runpy; runpy.run_path('script.py', run_name='__main__')"
    options = {"capture_output": True, "text": True, "cwd": tmp_path, "env": {**os.environ, "CUDA_VISIBLE_DEVICES": ""}}
    done = subprocess.run([sys.executable, "-c", command], **options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(done.stdout.splitlines()) == ["rank 0 True True", "rank 1 True"]
