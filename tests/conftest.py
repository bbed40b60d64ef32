import ctypes
import gc
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # from the Makefile; a process that a test starts would print more warnings
    os.environ.pop("PYTHONWARNDEFAULTENCODING", None)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read by torch: a waiting thread takes no core

import pytest  # noqa: E402
import torch  # noqa: E402

import igoas_plugin  # noqa: E402  # first: it patches fast-reid

sys.path.insert(0, str(Path(__file__).parent))
import tiny_data  # noqa: E402
from fastreid.utils.logger import setup_logger  # noqa: E402
from in_process import run_in_process  # noqa: E402

from igoas_plugin.core.extensions import IMPORTED  # noqa: E402
from igoas_plugin.fastreid_fixes import amp  # noqa: E402

# a second thread costs more than it saves on tensors this small, most of all on busy cores
torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def imports_of_one_test():
    """Forgets the modules that a test names in IMPORTS: a process that a later test starts would import them."""
    before = dict(IMPORTED)
    yield
    IMPORTED.clear()
    IMPORTED.update(before)


@pytest.fixture(scope="session")
def raw_host(tmp_path_factory) -> dict:
    """Returns what fast-reid does without the plugin: {name of the fault: what was seen}."""
    script = Path(__file__).parent / "fastreid_fixes" / "raw_host.py"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "CUDA_VISIBLE_DEVICES": "",  # most of the faults occur on a machine without a GPU
    }
    folder = tmp_path_factory.mktemp("raw_host")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def data_root(tmp_path, monkeypatch) -> Path:
    """Makes a folder of data sets with TinyReID, sets it as FASTREID_DATASETS, and returns it."""
    root = tmp_path / "datasets"
    tiny_data.make_tiny_data(root)
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    return root


@pytest.fixture
def baseline_cfg(tmp_path, data_root):
    """Returns the config of a run of fast-reid's Baseline on TinyReID that takes seconds."""
    cfg = igoas_plugin.get_cfg()
    tiny_data.tiny_settings(cfg, tmp_path / "run")
    cfg.SEED = 1
    return cfg


@pytest.fixture
def igoas_cfg(baseline_cfg):
    """Returns the same with IGOAS as Base-IGOAS.yml sets it, without freezing."""
    baseline_cfg.MODEL.META_ARCHITECTURE = "IGOAS"
    baseline_cfg.MODEL.HEADS.NAME = "IGOASHead"
    baseline_cfg.MODEL.LOSSES.CE.EPSILON = 0.1
    baseline_cfg.MODEL.HEADS.EMBEDDING_DIM = 32
    baseline_cfg.MODEL.HEADS.NUM_CLASSES = tiny_data.IDENTITIES
    return baseline_cfg


@pytest.fixture(params=[True, False], ids=["with bfloat16", "without bfloat16"])
def dtype_of_cpu(request, monkeypatch) -> torch.dtype:
    """Returns the dtype of mixed precision on a CPU that has bfloat16 instructions, and on one that has none.

    Any CPU runs both paths: without the instructions torch emulates bfloat16.
    """
    monkeypatch.setattr(amp, "has_bfloat16", lambda: request.param)
    amp.amp_dtype.cache_clear()
    yield torch.bfloat16 if request.param else torch.float32
    amp.amp_dtype.cache_clear()


@pytest.fixture(scope="session")
def igoas_onnx(tmp_path_factory):
    """Makes a trained IGOAS and its ONNX file, and returns (config, path)."""
    from saved_models import saved_igoas

    from igoas_plugin.inference.onnx_export import export

    folder = tmp_path_factory.mktemp("igoas_onnx")
    cfg = saved_igoas(folder)
    export(cfg, str(folder / "model.onnx"))
    return cfg, str(folder / "model.onnx")


@pytest.fixture
def tiny_duke(tmp_path, monkeypatch) -> Path:
    """Makes a folder of data sets with an Occluded-Duke of 16 small images in each part, as data_root()."""
    root = tmp_path / "duke_root"
    tiny_data.make_tiny_duke(root)
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    return root


@pytest.fixture
def tool_command(tmp_path):
    """Returns a function that makes a command of tools/train_net.py on tiny images; its pairs replace settings."""

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
    """Returns a function that runs tools/train_net.py in its own process, for tests whose subject is the process."""

    def run(*pairs, launcher=(), **given):
        command = [sys.executable, *launcher, *tool_command(*pairs, **given)]
        return subprocess.run(command, capture_output=True, text=True, timeout=1800)

    return run


@pytest.fixture
def run_tool(tool_command, start_tool):
    """Returns a function that runs a tool on tiny images in this process, with the result of subprocess.run().

    A run of several processes starts in its own process, unless `process` is False, as for a mistake found before.
    """

    def run(*pairs, launcher=(), process=None, **given):
        if process or (process is None and (launcher or "--num-gpus" in given.get("flags", ()))):
            return start_tool(*pairs, launcher=launcher, **given)
        return run_in_process(tool_command(*pairs, **given))

    return run


@pytest.fixture
def call_tool():
    """Returns a function that runs a tool with exactly the given words, with the result of subprocess.run()."""

    def run(name, *words, process=False):
        command = [str(word) for word in (ROOT / "tools" / f"{name}.py", *words)]
        if process:
            return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300)
        return run_in_process(command)

    return run


@pytest.fixture
def host_log(caplog):
    """Returns caplog for the log of fast-reid and the plugin, whose logger stops propagating once it is set up."""
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
    """Returns the memory that a file's runs have freed to the system; core/allocator.py keeps it for the next step."""
    yield
    gc.collect()
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


@pytest.fixture(autouse=True)
def no_handlers_left():
    """Removes the handlers that each run of fast-reid adds to its logger."""
    yield
    logger = logging.getLogger("fastreid")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    setup_logger.cache_clear()
