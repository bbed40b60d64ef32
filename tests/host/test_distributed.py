"""Two processes on the CPU (gloo), started by the host's launcher and by torchrun."""

import os

import pytest
import torch
from fastreid.engine import launch
from fastreid.utils import comm
from runs import start

from igoas_plugin.errors import InputError
from igoas_plugin.host.distributed import AverageNormalisation


def train(cfg, folder):
    statistics, average = [], AverageNormalisation.after_epoch

    def note_and_average(hook):
        statistics.append(hook.model.module.backbone.bn1.running_mean.clone())
        average(hook)

    AverageNormalisation.after_epoch = note_and_average
    trainer = start(cfg)
    results = trainer.train()
    model = trainer._trainer.model
    torch.save(
        {
            "state": model.module.state_dict(),
            "wrapped": type(model).__name__,
            "results": dict(results or {}),
            "statistics_before_the_mean": statistics[-1],
            "rectangles": [trainer.storage.history(f"occlusion/{side}").values() for side in ("top", "left")],
        },
        os.path.join(folder, f"rank{comm.get_rank()}.pth"),
    )


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """One training in two processes: what each rank holds at its end, and the final checkpoint."""
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
    (first, second), _ = two_ranks
    assert first["wrapped"] == "DistributedDataParallel"
    assert not torch.equal(first["statistics_before_the_mean"], second["statistics_before_the_mean"])
    assert [key for key in first["state"] if not torch.equal(first["state"][key], second["state"][key])] == []


def test_the_checkpoint_holds_the_shared_statistics(two_ranks):
    (first, _), checkpoint = two_ranks
    assert [key for key, value in checkpoint["model"].items() if not torch.equal(value, first["state"][key])] == []


def test_the_first_process_evaluates_all_images(two_ranks):
    (first, second), _ = two_ranks
    assert 0 <= first["results"]["Rank-1"] <= 100 and second["results"] == {}


def test_processes_draw_rectangles_of_their_own(two_ranks):
    (first, second), _ = two_ranks
    assert first["rectangles"] != second["rectangles"]


def refuse(cfg, ranks):
    if comm.get_rank() in ranks:
        raise InputError("the key X is wrong")
    comm.synchronize()


@pytest.mark.parametrize("ranks", [(0, 1), (0,), (1,)])
def test_an_input_error_in_a_process_reaches_the_caller_as_one(baseline_cfg, ranks):
    with pytest.raises(InputError, match="^the key X is wrong$"):
        launch(refuse, 2, dist_url="auto", args=(baseline_cfg, ranks))


def test_no_gpu_asked_for_is_one_process():
    ran = []
    launch(ran.append, 0, args=(1,))
    assert ran == [1]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["--num-gpus", "torchrun"])
def test_the_tool_trains_in_two_processes(run_tool, tiny_duke, tmp_path, launcher):
    if launcher == "torchrun":
        done = run_tool(launcher=["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"])
    else:
        done = run_tool(flags=["--num-gpus", "2", "--dist-url", "auto"])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "World size: 2" in done.stdout
    assert "OccludedDuke" in done.stdout.split("mINP")[-1]
    assert (tmp_path / "run" / "model_final.pth").exists()
