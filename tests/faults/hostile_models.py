"""Settings that are valid one by one: the checks build the model or raise one line."""

import functools
import os
import tempfile
from argparse import Namespace
from pathlib import Path

import tiny_data
from fastreid.data import build_reid_test_loader, build_reid_train_loader
from hostile import Target
from hostile_overrides import KEYS, pairs_of

from igoas_plugin.config import load_cfg
from igoas_plugin.preflight import check_run

# Not the data sets, nor what only reads or writes files; SOLVER and TEST as a whole
BUILT = [key for key in KEYS if key.startswith(("MODEL.", "INPUT.", "SOLVER.", "DATALOADER.", "TEST."))]
SMALL = """MODEL.DEVICE cpu MODEL.BACKBONE.DEPTH 18x MODEL.BACKBONE.FEAT_DIM 512 MODEL.BACKBONE.PRETRAIN False
    INPUT.SIZE_TRAIN [32,16] INPUT.SIZE_TEST [32,16] DATASETS.NAMES ('TinyReID',) DATASETS.TESTS ('TinyReID',)
    DATALOADER.NUM_WORKERS 0 SOLVER.IMS_PER_BATCH 8 SOLVER.MAX_EPOCH 2 TEST.IMS_PER_BATCH 8""".split()
IGOAS = "MODEL.META_ARCHITECTURE IGOAS MODEL.HEADS.NAME IGOASHead MODEL.HEADS.EMBEDDING_DIM 32".split()

cases = pairs_of(BUILT)


@functools.cache
def data_root() -> tempfile.TemporaryDirectory:
    root = tempfile.TemporaryDirectory()
    tiny_data.make_tiny_data(root.name)
    return root


def put(case: list, folder: Path) -> list[str]:
    own = [word for pair in case for word in pair]
    return [*SMALL, *(IGOAS if len(case) % 2 else ()), "OUTPUT_DIR", str(folder / "run"), *own]


def use(words: list[str]) -> None:
    root = os.environ.get("FASTREID_DATASETS")
    os.environ["FASTREID_DATASETS"] = data_root().name
    try:
        cfg = load_cfg("", words)
        if cfg.MODEL.BACKBONE.PRETRAIN:  # no network
            cfg.MODEL.BACKBONE.PRETRAIN = False
        check_run(cfg, Namespace(eval_only=False, resume=False, num_gpus=1, num_machines=1))
        if cfg.DATALOADER.NUM_WORKERS == 0:
            for loader in (build_reid_train_loader(cfg), build_reid_test_loader(cfg, dataset_name="TinyReID")[0]):
                images = next(iter(loader))["images"]
                assert images.ndim == 4 and images.shape[1] == 3
    finally:
        os.environ.pop("FASTREID_DATASETS")
        if root is not None:
            os.environ["FASTREID_DATASETS"] = root


TARGET = Target(cases, put, use, seconds=60)
