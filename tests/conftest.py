import ctypes
import gc
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read with torch: a thread that waits takes no core from others

import pytest  # noqa: E402
import torch  # noqa: E402

import igoas_plugin  # noqa: E402  # before the host: it mends it

sys.path.insert(0, str(Path(__file__).parent))
import tiny_data  # noqa: E402
from fastreid.utils.logger import setup_logger  # noqa: E402
from in_process import run_in_process  # noqa: E402

from igoas_plugin.fastreid_fixes import amp  # noqa: E402

# tensors this small are not worth a second thread: where others use the cores too, it costs ten times what it saves
torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def raw_host(tmp_path_factory) -> dict:
    """What the published host does without the plugin: {name of the fault: what was seen}."""
    script = Path(__file__).parent / "fastreid_fixes" / "raw_host.py"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "CUDA_VISIBLE_DEVICES": "",  # most of the faults are those of a machine without a GPU
    }
    folder = tmp_path_factory.mktemp("raw_host")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def data_root(tmp_path, monkeypatch) -> Path:
    """A data sets folder with TinyReID, set as FASTREID_DATASETS."""
    root = tmp_path / "datasets"
    tiny_data.make_tiny_data(root)
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    return root


@pytest.fixture
def baseline_cfg(tmp_path, data_root):
    """A run of the host's Baseline on TinyReID that takes seconds."""
    cfg = igoas_plugin.get_cfg()
    tiny_data.tiny_settings(cfg, tmp_path / "run")
    cfg.SEED = 1
    return cfg


@pytest.fixture
def igoas_cfg(baseline_cfg):
    """The same with IGOAS as Base-IGOAS.yml sets it, but for freezing."""
    baseline_cfg.MODEL.META_ARCHITECTURE = "IGOAS"
    baseline_cfg.MODEL.HEADS.NAME = "IGOASHead"
    baseline_cfg.MODEL.LOSSES.CE.EPSILON = 0.1
    baseline_cfg.MODEL.HEADS.EMBEDDING_DIM = 32
    baseline_cfg.MODEL.HEADS.NUM_CLASSES = tiny_data.IDENTITIES
    return baseline_cfg


@pytest.fixture(params=[True, False], ids=["with bfloat16", "without bfloat16"])
def dtype_of_cpu(request, monkeypatch) -> torch.dtype:
    """The dtype of mixed precision on a CPU that has bfloat16 instructions, and on one that has none.

    Any CPU runs both paths: without the instructions torch emulates bfloat16.
    """
    monkeypatch.setattr(amp, "has_bfloat16", lambda: request.param)
    amp.amp_dtype.cache_clear()
    yield torch.bfloat16 if request.param else torch.float32
    amp.amp_dtype.cache_clear()


@pytest.fixture(scope="session")
def igoas_onnx(tmp_path_factory):
    """A trained IGOAS and its ONNX file: (config, path)."""
    from saved_models import saved_igoas

    from igoas_plugin.inference.onnx_export import export

    folder = tmp_path_factory.mktemp("igoas_onnx")
    cfg = saved_igoas(folder)
    export(cfg, str(folder / "model.onnx"))
    return cfg, str(folder / "model.onnx")


@pytest.fixture
def tiny_duke(tmp_path, monkeypatch) -> Path:
    """A data sets folder with an Occluded-Duke of 16 small images in each part."""
    root = tmp_path / "duke_root"
    tiny_data.make_tiny_duke(root)
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    return root


@pytest.fixture
def tool_command(tmp_path):
    """The command line of tools/train_net.py on tiny images, without the interpreter; pairs given win over its own."""

    def command(*pairs, flags=(), config="configs/Toy/igoas_R18.yml", tool="tools/train_net.py"):
        settings = {
            "DATASETS.NAMES": "('OccludedDuke',)", "DATASETS.TESTS": "('OccludedDuke',)",
            "INPUT.SIZE_TRAIN": "[32,16]", "INPUT.SIZE_TEST": "[32,16]", "DATALOADER.NUM_WORKERS": "0",
            "SOLVER.IMS_PER_BATCH": "8", "SOLVER.MAX_EPOCH": "1", "TEST.IMS_PER_BATCH": "8",
            "OUTPUT_DIR": str(tmp_path / "run"),
        }  # fmt: skip
        settings = [word for key, value in settings.items() if key not in pairs for word in (key, value)]
        return [str(ROOT / tool), "--config-file", str(ROOT / config), *flags, *pairs, *settings]

    return command


@pytest.fixture
def start_tool(tool_command):
    """Runs tools/train_net.py in a process of its own, as a user does: where the process is the subject of a test."""

    def run(*pairs, launcher=(), **given):
        command = [sys.executable, *launcher, *tool_command(*pairs, **given)]
        return subprocess.run(command, capture_output=True, text=True, timeout=1800)

    return run


@pytest.fixture
def run_tool(tool_command, start_tool):
    """Runs tools/train_net.py, or another tool, on tiny images in this process: what subprocess.run() would return.

    A run of several processes is started in a process of its own, unless `process` is False: a mistake is told before.
    """

    def run(*pairs, launcher=(), process=None, **given):
        if process or (process is None and (launcher or "--num-gpus" in given.get("flags", ()))):
            return start_tool(*pairs, launcher=launcher, **given)
        return run_in_process(tool_command(*pairs, **given))

    return run


@pytest.fixture
def call_tool():
    """Runs a tool with exactly the words given: what subprocess.run() would return, in this process by default."""

    def run(name, *words, process=False):
        command = [str(word) for word in (ROOT / "tools" / f"{name}.py", *words)]
        if process:
            return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300)
        return run_in_process(command)

    return run


@pytest.fixture
def host_log(caplog):
    """caplog for what the host and the plugin log: their logger propagates until the host sets it up, then no more."""
    logger = logging.getLogger("fastreid")
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)
    logger.propagate = propagate


@pytest.fixture(autouse=True, scope="module")
def no_memory_kept():
    """What the runs of a file have freed goes back to the system: core/allocator.py keeps it for the next step."""
    yield
    gc.collect()
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


@pytest.fixture(autouse=True)
def no_handlers_left():
    """Each run of the host adds handlers to its logger, for good."""
    yield
    logger = logging.getLogger("fastreid")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    setup_logger.cache_clear()
