"""Every config file merges; a small form of each method builds, takes a training step and an evaluation step."""

from functools import cache
from pathlib import Path

import pytest
import torch
from failures import Failures
from fastreid.modeling import build_model
from fastreid.solver import build_optimizer
from fastreid.utils.events import EventStorage
from tiny_data import random_batch, use_resnet, use_tiny_backbone

from igoas_plugin.config import flat_keys, load_cfg, value_of
from igoas_plugin.preflight import check_names

CONFIGS = Path(__file__).parents[1] / "configs"
RUNS = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob("*/**/*.yml"))
BASES = sorted(path.name for path in CONFIGS.glob("*.yml"))
METHODS = ("bagtricks_R50", "agw_R50", "sbs_R50", "mgn_R50-ibn", "igoas_R50", "igoas_plus_R50")
# folder: training sets, test sets
SETTINGS = {
    "OccDuke": (("OccludedDuke",), ("OccludedDuke",)),
    "Market1501": (("Market1501",), ("Market1501",)),
    "DukeMTMC": (("DukeMTMC",), ("DukeMTMC",)),
    "MSMT17": (("MSMT17",), ("MSMT17",)),
    "PDukeMTMC": (("PDukeMTMC",), ("PDukeMTMC",)),
    "OccREID": (("Market1501",), ("OccludedREID",)),
    "OccREID_half": (("OccludedREIDHalfSplit",), ("OccludedREIDHalfSplit",)),
    "Partial": (("Market1501",), ("PartialREID", "PartialREIDOccluded", "PartialiLIDS", "PartialiLIDSUncropped")),
    "OccMarket1501": (("Market1501",), ("Market1501", *(f"OccludedMarket1501V2S{each}" for each in range(1, 6)))),
}
# One of each kind; all others differ from one of these in data sets alone, or are ablations
FULL_SIZE = [*BASES, "OccDuke/mgn_R50-ibn.yml", "OccDuke/igoas_R50-ibn.yml", "OccDuke/igoas_R101.yml",
             "OccDuke/igoas_mobilenetv2.yml", "OccDuke/igoas_R50_paper.yml", "Market1501/igoas_ViT.yml",
             "Toy/igoas_R18.yml"]  # fmt: skip


@cache
def config(name: str):
    """Returns the config of a file, read once and frozen."""
    cfg = load_cfg(str(CONFIGS / name))
    cfg.freeze()
    return cfg


def small(name: str):
    """Returns the same config with a tiny backbone; MGN needs bottlenecks."""
    cfg = config(name).clone()
    cfg.defrost()
    if cfg.MODEL.META_ARCHITECTURE == "MGN":
        use_resnet(cfg, "short")
    else:
        use_tiny_backbone(cfg)
    return cfg


def differences(name: str, parent: str) -> dict:
    """Returns the keys in which a config differs from another, except OUTPUT_DIR, with their values."""
    own, other = config(name), config(parent)
    keys = [key for key in flat_keys(own) if key != "OUTPUT_DIR" and value_of(own, key) != value_of(other, key)]
    return {key: value_of(own, key) for key in keys}


def train_and_evaluate(cfg):
    cfg.MODEL.DEVICE, cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.HEADS.NUM_CLASSES = "cpu", False, 4
    cfg.INPUT.SIZE_TRAIN = (96, 32)  # a vision transformer is built for one size
    torch.manual_seed(0)
    model = build_model(cfg).train()
    with EventStorage() as storage:
        storage.epoch = 10
        losses = model(random_batch(images=4, size=(96, 32)))  # MGN cuts the map in three
    sum(losses.values()).backward()
    assert [key for key, each in model.named_parameters() if each.requires_grad and each.grad is None] == []
    with torch.no_grad():
        descriptors = model.eval()(random_batch(images=2, size=(96, 32)))
    assert len(descriptors) == 2 and torch.isfinite(descriptors).all()


def test_the_configs_are_there():
    assert {f"Base-{name}.yml" for name in ("IGOAS", "IGOAS-plus", "bagtricks", "AGW", "SBS", "MGN")} == set(BASES)
    assert {f"{folder}/{method}.yml" for folder in SETTINGS for method in METHODS} <= set(RUNS)
    assert {"Toy/igoas_R18.yml", "Toy/bagtricks_R18.yml", *FULL_SIZE} <= {*RUNS, *BASES}


def test_each_merges_and_names_what_is_registered_and_each_run_writes_to_a_folder_of_its_own_name():
    failures = Failures()
    for name in RUNS + BASES:
        with failures.of(name):
            check_names(config(name))
            assert name in BASES or config(name).OUTPUT_DIR == f"logs/{name.removesuffix('.yml')}"
    assert failures == []


def test_a_method_differs_between_data_sets_in_the_data_sets_alone():
    failures = Failures()
    for name in (f"{folder}/{method}.yml" for folder in SETTINGS for method in METHODS):
        folder, file = name.split("/")
        with failures.of(name):
            assert (config(name).DATASETS.NAMES, config(name).DATASETS.TESTS) == SETTINGS[folder]
            other = {"MODEL.OCCLUSION.EPOCHS"} if name == "OccDuke/igoas_R50.yml" else set()
            if folder == "OccREID_half":
                other = {"SOLVER.WARMUP_ITERS", "SOLVER.FREEZE_ITERS"}
            assert set(differences(name, f"Market1501/{file}")) <= {"DATASETS.NAMES", "DATASETS.TESTS", *other}
    assert failures == []


@pytest.mark.parametrize("method", METHODS)
def test_on_the_smallest_training_set_warm_up_and_freezing_end_in_the_first_third(method):
    solver = config(f"OccREID_half/{method}.yml").SOLVER
    steps = 1000 // solver.IMS_PER_BATCH * solver.MAX_EPOCH
    assert max(solver.WARMUP_ITERS, solver.FREEZE_ITERS) <= steps / 3


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_SIZE)
def test_one_of_each_kind_builds_trains_all_its_parameters_and_evaluates_at_full_size(name):
    train_and_evaluate(load_cfg(str(CONFIGS / name)))


# Tables V to IX of the paper: each row's file, and what it changes in OccDuke/igoas_R50.yml, the last row of each table
GAP, GMP = {"MODEL.IGOAS.SUPPRESSION.POOL_LAYER": "GlobalAvgPool"}, {"MODEL.IGOAS.SUPPRESSION.ATTENTION": False}
NO_MASK_LOSS = {"MODEL.IGOAS.MASK_LOSS.SCALE": 0.0}
PLAIN = {"MODEL.META_ARCHITECTURE": "OcclusionWrapper", "MODEL.HEADS.NAME": "EmbeddingHead",
         "MODEL.HEADS.EMBEDDING_DIM": 0}  # fmt: skip
ABLATIONS = {
    "table5_global_only": {"MODEL.IGOAS.DESCRIPTOR": "global"},
    "table5_suppression_only": {"MODEL.IGOAS.DESCRIPTOR": "suppression"},
    "table6_gap": {**GAP, **GMP, **NO_MASK_LOSS},
    "table6_gmp": {**GMP, **NO_MASK_LOSS},
    "table6_gmp_cbam": NO_MASK_LOSS,
    "table7_none": {"MODEL.OCCLUSION.NAME": "NoOcclusion"},
    "table7_batch_drop_block": {"MODEL.OCCLUSION.NAME": "BatchDropBlock"},
    "table7_slow_drop_block": {"MODEL.OCCLUSION.NAME": "SlowDropBlock"},
    "table7_batch_random_erasing": {"MODEL.OCCLUSION.NAME": "BatchRandomErasing"},
    "table7_random_erasing": {"MODEL.OCCLUSION.NAME": "RandomErasing", "MODEL.OCCLUSION.MASK": "ones"},
    "table7_random_drop": {"MODEL.OCCLUSION.NAME": "RandomDrop", "MODEL.OCCLUSION.MASK": "ones"},
    "table7_incremental_drop": {"MODEL.OCCLUSION.NAME": "IncrementalDrop"},
    "table8_resnet50_batch_random_erasing": {**PLAIN, "MODEL.OCCLUSION.NAME": "BatchRandomErasing"},
    "table8_resnet50_incremental_erasing": PLAIN,
    "table9_mean_weights": {"MODEL.IGOAS.ID_WEIGHTS": "mean"},
}


def test_every_row_of_the_tables_has_its_file():
    assert set(ABLATIONS) == {path.stem for path in (CONFIGS / "OccDuke" / "ablation").iterdir()}


def test_a_row_differs_from_igoas_in_exactly_what_it_names():
    found = {row: differences(f"OccDuke/ablation/{row}.yml", "OccDuke/igoas_R50.yml") for row in ABLATIONS}
    assert found == ABLATIONS


def test_each_method_and_row_builds_trains_all_its_parameters_and_evaluates():
    rows = [f"OccDuke/ablation/{row}.yml" for row in ABLATIONS]
    names = [*FULL_SIZE, *rows, *(f"Robustness/{name}.yml" for name in ROBUSTNESS)]
    failures = Failures()
    for name in names:
        with failures.of(name):
            train_and_evaluate(small(name))
    assert failures == []


# The training of the released config (bfe.yaml of Vill-Lab/IGOAS), and its model
RELEASED = {
    "MODEL.META_ARCHITECTURE": "IGOAS", "MODEL.BACKBONE.NAME": "build_resnet_backbone", "MODEL.BACKBONE.NORM": "BN",
    # 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225 times 255
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53], "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "MODEL.BACKBONE.DEPTH": "50x", "MODEL.BACKBONE.PRETRAIN": True, "MODEL.BACKBONE.LAST_STRIDE": 1,
    "MODEL.BACKBONE.WITH_IBN": False, "MODEL.BACKBONE.WITH_SE": False, "MODEL.BACKBONE.WITH_NL": False,
    "MODEL.FREEZE_LAYERS": [], "SOLVER.FREEZE_ITERS": 0,
    "MODEL.HEADS.NAME": "IGOASHead", "MODEL.HEADS.EMBEDDING_DIM": 512, "MODEL.HEADS.WITH_BNNECK": False,
    "MODEL.HEADS.CLS_LAYER": "Linear", "MODEL.HEADS.SCALE": 1, "MODEL.HEADS.NORM": "BN",
    "MODEL.LOSSES.NAME": ("CrossEntropyLoss",), "MODEL.LOSSES.CE.EPSILON": 0.1, "MODEL.LOSSES.CE.SCALE": 1.0,
    "MODEL.IGOAS.STEM": "torchvision", "MODEL.IGOAS.EXTRA_BLOCK": True, "MODEL.IGOAS.DESCRIPTOR": "joint",
    "MODEL.IGOAS.GLOBAL.POOL_LAYER": "GlobalAvgPool", "MODEL.IGOAS.SUPPRESSION.POOL_LAYER": "GlobalMaxPool",
    "MODEL.IGOAS.SUPPRESSION.ATTENTION": True, "MODEL.IGOAS.MASK_LOSS.SCALE": 1.0,
    "MODEL.IGOAS.MASK_LOSS.ON": "channel_mean", "MODEL.IGOAS.MASK_LOSS.BRANCHES": ("global", "suppression"),
    "MODEL.IGOAS.MASK_LOSS.RESIZE": "bilinear", "MODEL.IGOAS.MASK_LOSS.STAGES": "last",
    "MODEL.IGOAS.ID_WEIGHTS": "adaptive",
    "MODEL.IGOAS.FREEZE_EPOCHS": 5, "MODEL.IGOAS.FREEZE_JOINT": True,
    "MODEL.OCCLUSION.NAME": "IncrementalErasing", "MODEL.OCCLUSION.PROB": 1.0, "MODEL.OCCLUSION.SCHEDULE": "released",
    "MODEL.OCCLUSION.EPOCHS": 90, "MODEL.OCCLUSION.AREA_START": 0.1, "MODEL.OCCLUSION.AREA_SLOPE": 0.4,
    "MODEL.OCCLUSION.AREA_RAMP": 55 / 90, "MODEL.OCCLUSION.AREA_FINAL": 1 / 3, "MODEL.OCCLUSION.ASPECT_MIN": 0.5,
    "MODEL.OCCLUSION.FILL": "normalised", "MODEL.OCCLUSION.TRUNCATION": 0.0,
    "INPUT.SIZE_TRAIN": [384, 128], "INPUT.SIZE_TEST": [384, 128], "INPUT.FLIP.ENABLED": True, "INPUT.FLIP.PROB": 0.5,
    **{f"INPUT.{key}.ENABLED": False for key in "PADDING REA RPT CROP CJ AFFINE AUTOAUG AUGMIX".split()},
    "DATALOADER.SAMPLER_TRAIN": "TrainingSampler",
    "DATASETS.NAMES": ("OccludedDuke",), "DATASETS.TESTS": ("OccludedDuke",),
    "DATASETS.COMBINEALL": False,
    "SOLVER.OPT": "Adam", "SOLVER.BASE_LR": 3e-4, "SOLVER.WEIGHT_DECAY": 5e-4, "SOLVER.WEIGHT_DECAY_NORM": 5e-4,
    "SOLVER.WEIGHT_DECAY_BIAS": 5e-4, "SOLVER.BIAS_LR_FACTOR": 1.0, "SOLVER.HEADS_LR_FACTOR": 1.0,
    "SOLVER.IMS_PER_BATCH": 64, "SOLVER.MAX_EPOCH": 90, "SOLVER.SCHED": "MultiStepLR", "SOLVER.STEPS": [20, 40],
    "SOLVER.GAMMA": 0.1, "SOLVER.WARMUP_ITERS": 0, "SOLVER.DELAY_EPOCHS": 0, "SOLVER.AMP.ENABLED": False,
    "SOLVER.CLIP_GRADIENTS.ENABLED": False,
    "TEST.METRIC": "cosine", "TEST.FLIP.ENABLED": False, "TEST.RERANK.ENABLED": False, "TEST.AQE.ENABLED": False,
    "TEST.PRECISE_BN.ENABLED": False,
}  # fmt: skip


def test_occluded_duke_is_trained_as_released():
    cfg, failures = config("OccDuke/igoas_R50.yml"), Failures()
    for key, expected in RELEASED.items():
        with failures.of(key):
            assert value_of(cfg, key) == (pytest.approx(expected) if key.startswith("MODEL.PIXEL") else expected)
    assert failures == []


def test_the_optimiser_of_the_released_recipe_is_adam_with_its_usual_betas():
    cfg = load_cfg(str(CONFIGS / "OccDuke" / "igoas_R50.yml"))
    cfg.MODEL.IGOAS.FREEZE_EPOCHS = 0  # what is frozen is not in this model
    optimizer, _ = build_optimizer(cfg, torch.nn.Linear(2, 2))
    assert isinstance(optimizer, torch.optim.Adam)
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["weight_decay"]) == (3e-4, (0.9, 0.999), 5e-4)


# Recipes of fast-reid (configs/Base-bagtricks.yml, Base-SBS.yml, Base-AGW.yml, Base-MGN.yml of JDAI-CV/fast-reid)
BAGTRICKS = {
    "MODEL.META_ARCHITECTURE": "Baseline", "MODEL.BACKBONE.LAST_STRIDE": 1, "MODEL.HEADS.WITH_BNNECK": True,
    "MODEL.HEADS.NECK_FEAT": "before", "MODEL.HEADS.POOL_LAYER": "GlobalAvgPool", "MODEL.HEADS.CLS_LAYER": "Linear",
    "MODEL.LOSSES.NAME": ("CrossEntropyLoss", "TripletLoss"), "MODEL.LOSSES.CE.EPSILON": 0.1,
    "MODEL.LOSSES.TRI.MARGIN": 0.3, "MODEL.LOSSES.TRI.HARD_MINING": True, "MODEL.LOSSES.TRI.NORM_FEAT": False,
    "INPUT.SIZE_TRAIN": [256, 128], "INPUT.REA.ENABLED": True, "INPUT.REA.PROB": 0.5, "INPUT.PADDING.ENABLED": True,
    "DATALOADER.SAMPLER_TRAIN": "NaiveIdentitySampler", "DATALOADER.NUM_INSTANCE": 4,
    "SOLVER.AMP.ENABLED": True, "SOLVER.OPT": "Adam", "SOLVER.MAX_EPOCH": 120, "SOLVER.BASE_LR": 3.5e-4,
    "SOLVER.WEIGHT_DECAY": 5e-4, "SOLVER.WEIGHT_DECAY_NORM": 5e-4, "SOLVER.IMS_PER_BATCH": 64,
    "SOLVER.SCHED": "MultiStepLR", "SOLVER.STEPS": [40, 90], "SOLVER.GAMMA": 0.1, "SOLVER.WARMUP_FACTOR": 0.1,
    "SOLVER.WARMUP_ITERS": 2000,
}  # fmt: skip
SBS = {
    "MODEL.FREEZE_LAYERS": ["backbone"], "MODEL.BACKBONE.WITH_NL": True, "MODEL.HEADS.NECK_FEAT": "after",
    "MODEL.HEADS.POOL_LAYER": "GeneralizedMeanPoolingP", "MODEL.HEADS.CLS_LAYER": "CircleSoftmax",
    "MODEL.HEADS.SCALE": 64, "MODEL.HEADS.MARGIN": 0.35, "MODEL.LOSSES.TRI.MARGIN": 0.0,
    "INPUT.SIZE_TRAIN": [384, 128], "INPUT.AUTOAUG.ENABLED": True, "INPUT.AUTOAUG.PROB": 0.1,
    "DATALOADER.NUM_INSTANCE": 16, "SOLVER.MAX_EPOCH": 60, "SOLVER.BASE_LR": 3.5e-4, "SOLVER.ETA_MIN_LR": 7e-7,
    "SOLVER.SCHED": "CosineAnnealingLR", "SOLVER.DELAY_EPOCHS": 30, "SOLVER.FREEZE_ITERS": 1000,
}  # fmt: skip


AGW = {
    **BAGTRICKS, "MODEL.BACKBONE.WITH_NL": True, "MODEL.HEADS.POOL_LAYER": "GeneralizedMeanPooling",
    "MODEL.LOSSES.TRI.MARGIN": 0.0, "MODEL.LOSSES.TRI.HARD_MINING": False,
}  # fmt: skip
MGN = {
    **SBS, "MODEL.META_ARCHITECTURE": "MGN", "MODEL.FREEZE_LAYERS": ["backbone", "b1", "b2", "b3"],
    "MODEL.BACKBONE.WITH_NL": False, "MODEL.HEADS.EMBEDDING_DIM": 256,
}  # fmt: skip


@pytest.mark.parametrize(
    "name, expected",
    [("Base-bagtricks.yml", BAGTRICKS), ("Base-SBS.yml", SBS), ("Base-AGW.yml", AGW), ("Base-MGN.yml", MGN)],
)
def test_the_recipes_of_fast_reid_are_unchanged(name, expected):
    assert {key: value_of(config(name), key) for key in expected} == expected


def test_what_is_compared_on_market1501_sees_the_same_images_for_the_same_time():
    compared = ("INPUT.", "SOLVER.MAX_EPOCH", "SOLVER.STEPS", "SEED")
    changed = differences("Market1501/igoas_R18_128x64.yml", "Market1501/bagtricks_R18_128x64.yml")
    assert [key for key in changed if key.startswith(compared)] == []
    assert [key for key in flat_keys(load_cfg("")) if key.startswith(compared)] != []


PLUS = {
    "MODEL.BACKBONE.WITH_IBN": True, "MODEL.HEADS.EMBEDDING_DIM": 0, "MODEL.HEADS.WITH_BNNECK": True,
    "MODEL.OCCLUSION.NAME": "MixedOcclusion", "MODEL.OCCLUSION.PER_IMAGE": True, "MODEL.OCCLUSION.FILL": "pixel",
    "MODEL.OCCLUSION.TRUNCATION": 0.5, "MODEL.IGOAS.EXTRA_BLOCK": False, "MODEL.IGOAS.ID_WEIGHTS": "mean",
    "MODEL.IGOAS.IMAGES": "both", "MODEL.IGOAS.STRIPE.ENABLED": True, "MODEL.IGOAS.DESCRIPTOR": "all",
    "MODEL.IGOAS.MASK_LOSS.RESIZE": "area", "INPUT.PADDING.ENABLED": True, "INPUT.CJ.ENABLED": True,
    "INPUT.CJ.BRIGHTNESS": 0.3, "INPUT.CJ.CONTRAST": 0.3, "INPUT.CJ.SATURATION": 0.3, "INPUT.CJ.HUE": 0.05,
    "SOLVER.BASE_LR": 0.0006, "SOLVER.IMS_PER_BATCH": 32, "SOLVER.WARMUP_ITERS": 500,
}  # fmt: skip


def test_igoas_plus_differs_from_the_released_recipe_in_what_it_comments_on():
    assert differences("Base-IGOAS-plus.yml", "Base-IGOAS.yml") == PLUS


# What is tested on whole, occluded and partial bodies: each file and what it changes in another
ROBUSTNESS = {
    "bagtricks_R50_incremental_erasing": (
        "bagtricks_R50", {"MODEL.META_ARCHITECTURE": "OcclusionWrapper", "INPUT.REA.ENABLED": False},
    ),
    "igoas_R50_no_mask_loss": ("igoas_R50", NO_MASK_LOSS),
    "baseline_R50_trained_as_igoas_plus": (
        "igoas_plus_R50", {"MODEL.META_ARCHITECTURE": "Baseline", "MODEL.HEADS.NAME": "EmbeddingHead"},
    ),
    "baseline_R50_occluded_as_igoas_plus": (
        "baseline_R50_trained_as_igoas_plus",
        {"MODEL.META_ARCHITECTURE": "OcclusionWrapper", "MODEL.OCCLUSION.PROB": 0.5},
    ),
    "igoas_R50_trained_as_igoas_plus": (
        "igoas_R50", {key: PLUS[key] for key in PLUS if key.startswith(("MODEL.BACKBONE", "INPUT", "SOLVER"))},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROBUSTNESS)
def test_a_row_of_the_comparison_differs_in_exactly_what_it_names(name):
    parent, changed = ROBUSTNESS[name]
    assert differences(f"Robustness/{name}.yml", f"Robustness/{parent}.yml") == changed


@pytest.mark.parametrize("method", ["bagtricks_R50", "igoas_R50", "igoas_plus_R50"])
def test_the_methods_are_compared_on_whole_occluded_and_partial_bodies(method):
    tests = (*SETTINGS["OccMarket1501"][1], "PartialREID", "PartialREIDOccluded", "PartialiLIDS")
    assert differences(f"Robustness/{method}.yml", f"Market1501/{method}.yml") == {"DATASETS.TESTS": tests}


PAPER = {
    "MODEL.OCCLUSION.SCHEDULE": "paper", "MODEL.OCCLUSION.AREA_FINAL": 0.33, "MODEL.OCCLUSION.FILL": "pixel",
    "MODEL.LOSSES.CE.EPSILON": 0.0, "MODEL.IGOAS.EXTRA_BLOCK": False, "MODEL.IGOAS.FREEZE_JOINT": False,
    "MODEL.IGOAS.MASK_LOSS.ON": "feature_map", "MODEL.IGOAS.MASK_LOSS.BRANCHES": ("suppression",),
    "MODEL.IGOAS.MASK_LOSS.STAGES": "both",
}  # fmt: skip


def test_the_paper_s_config_differs_from_the_released_one_in_exactly_the_seven_points():
    assert differences("OccDuke/igoas_R50_paper.yml", "OccDuke/igoas_R50.yml") == PAPER
