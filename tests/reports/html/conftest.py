"""Small run with everything that a page can show, evaluated once for all tests of this folder."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import tiny_data
from bs4 import BeautifulSoup
from PIL import Image
from saved_run import COMMAND, MARKUP, NO_TEXT, save_run, save_weights

import igoas_plugin
from igoas_plugin.datasets.occluded_market.occlude import KINDS
from igoas_plugin.evaluation.results import METRICS
from igoas_plugin.inference.trained import build_trained
from igoas_plugin.reports.html.run_evaluation import evaluate, page_of
from igoas_plugin.reports.html.run_folder import open_run
from igoas_plugin.reports.severity_curve import Point, write_csv


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory):
    """Makes a run with markup in its name and in the names of two images, and a severity curve of two models."""
    root = tmp_path_factory.mktemp("report")
    tiny_data.make_tiny_data(root)
    images, rng = root / "TinyReID", np.random.default_rng(0)
    for path in sorted(images.iterdir()):  # noise: some queries are answered well, some badly
        Image.fromarray(rng.integers(0, 256, (32, 16, 3), dtype=np.uint8)).save(path)
    (images / "0_0_0.png").rename(images / MARKUP)
    os.rename(images / "1_0_0.png", os.path.join(os.fsencode(images), NO_TEXT))
    cfg = igoas_plugin.get_cfg()
    tiny_data.tiny_settings(cfg, root / "elsewhere")
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "IGOAS", "MODEL.HEADS.NAME", "IGOASHead", "SEED", 1])
    cfg.MODEL.HEADS.EMBEDDING_DIM, cfg.MODEL.HEADS.NUM_CLASSES = 32, tiny_data.IDENTITIES
    folder = save_run(cfg, root / "run <b> & co")
    save_weights(cfg, folder / "model_final.pth")
    points = [
        Point(model, kind, share, dict.fromkeys(METRICS, 60.0 - share))
        for model in ("one", "<two>")
        for kind in KINDS
        for share in range(0, 60, 10)
    ]
    write_csv(points, str(folder / "occlusion_curve.csv"))
    logged = [{"iteration": step, "total_loss": 2.0 - step, "mAP": 12.0} for step in (0, 1)]
    (folder / "metrics.json").write_text("\n".join(map(json.dumps, logged)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(root))
        yield folder


@pytest.fixture(scope="session")
def opened_run(hostile_run):
    run = open_run(str(hostile_run), [])
    run.cfg.OUTPUT_DIR = str(hostile_run)
    return run


@pytest.fixture(scope="session")
def test_sets(opened_run):
    """Evaluates that run on its test set."""
    return evaluate(opened_run, build_trained(opened_run.cfg), count=2)


@pytest.fixture(scope="session")
def page(opened_run, test_sets) -> str:
    """Renders the page, with the test set twice under two names."""
    [tested] = test_sets
    other = replace(tested, retrieval=replace(tested.retrieval, name="Another <set>"))
    return page_of(opened_run, [tested, other], "0" * 64, COMMAND).decode()


@pytest.fixture(scope="session")
def soup(page) -> BeautifulSoup:
    return BeautifulSoup(page, "html.parser")
