import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import igoas_plugin  # before the host: it mends it

sys.path.insert(0, str(Path(__file__).parent))
import tiny_data  # noqa: E402
from fastreid.utils.logger import setup_logger  # noqa: E402

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def raw_host(tmp_path_factory) -> dict:
    """What the published host does without the plugin: {name of the fault: what was seen}."""
    script = Path(__file__).parent / "host" / "raw_host.py"
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
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
    baseline_cfg.MODEL.HEADS.EMBEDDING_DIM = 32
    baseline_cfg.MODEL.HEADS.NUM_CLASSES = tiny_data.IDENTITIES
    return baseline_cfg


@pytest.fixture
def host_log(caplog):
    """What the host and the plugin log; their logger does not propagate to pytest's."""
    logger = logging.getLogger("fastreid")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def no_handlers_left():
    """Each run of the host adds handlers to its logger, for good."""
    yield
    logger = logging.getLogger("fastreid")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    setup_logger.cache_clear()
