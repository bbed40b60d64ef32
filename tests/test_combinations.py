"""IGOAS and OcclusionWrapper with other components of fast-reid: every pair of choices meets in a run of its trainer.

2 epochs of 2 steps on drawn noise, with TinyBackbone; the slow ones with small backbones of fast-reid. Settings that
exclude each other are refused.
"""

import itertools
import os
from pathlib import Path

import pytest
import runs
import torch
from allpairspy import AllPairs
from tiny_data import WIDTH

from igoas_plugin.config import load_cfg
from igoas_plugin.core.errors import InputError
from igoas_plugin.preflight import (
    check_combinations,
    check_names,
    check_test_data,
    check_training,
    check_training_data,
)

CHOICES = {
    "MODEL.META_ARCHITECTURE": ["IGOAS", "OcclusionWrapper"],
    "MODEL.OCCLUSION.NAME": [
        "IncrementalErasing",
        "PatchOcclusion",
        "RandomErasing",
        "SlowDropBlock",
        "NoOcclusion",
    ],
    "MODEL.HEADS.WITH_BNNECK": [False, True],
    "MODEL.HEADS.EMBEDDING_DIM": [0, 32],
    "MODEL.HEADS.NECK_FEAT": ["before", "after"],
    "pooling": ["GlobalAvgPool", "GeneralizedMeanPooling", "GeneralizedMeanPoolingP", "ClipGlobalAvgPool"],
    "MODEL.IGOAS.SUPPRESSION.POOL_LAYER": ["GlobalMaxPool", "GeneralizedMeanPoolingP"],
    "MODEL.HEADS.CLS_LAYER": ["Linear", "ArcSoftmax", "CosSoftmax", "CircleSoftmax"],
    "losses": ["", "TripletLoss", "CircleLoss", "Cosface", "TripletLoss CircleLoss"],
    "DATALOADER.SAMPLER_TRAIN": ["NaiveIdentitySampler", "BalancedIdentitySampler", "TrainingSampler"],
    "SOLVER.OPT": ["Adam", "SGD", "AdamW"],
    "SOLVER.SCHED": ["MultiStepLR", "CosineAnnealingLR"],
    "SOLVER.WARMUP_ITERS": [0, 2],
    "frozen": [False, True],
    "TEST.PRECISE_BN.ENABLED": [False, True],
    "INPUT.AUTOAUG.ENABLED": [False, True],
    "INPUT.REA.ENABLED": [False, True],
    "SOLVER.AMP.ENABLED": [False, True],
    "SOLVER.EMA.ENABLED": [False, True],
}


BACKBONES = {"backbone": ["resnet 18x", "resnet 18x IBN", "osnet x0_25", "mobilenetv2 0.1x", "shufflenetv2 0.5x"]}


def makes_sense(chosen: dict) -> bool:
    """Returns whether choices are not refused: a pair loss needs an identity sampler."""
    return not (chosen.get("DATALOADER.SAMPLER_TRAIN") == "TrainingSampler" and chosen.get("losses"))


def missing_pairs(cases: list[dict], choices: dict) -> list[dict]:
    pairs = (
        {first: one, second: other}
        for first, second in itertools.combinations(choices, 2)
        for one, other in itertools.product(choices[first], choices[second])
    )
    return [pair for pair in pairs if makes_sense(pair) and not any(pair.items() <= case.items() for case in cases)]


def covering_cases(choices: dict) -> list[dict]:
    """Returns the cases of allpairspy, and one more for each pair that its filter made it miss."""
    rows = AllPairs(list(choices.values()), filter_func=lambda row: makes_sense(dict(zip(choices, row, strict=False))))
    cases = [dict(zip(choices, row, strict=True)) for row in rows]
    while missing := missing_pairs(cases, choices):
        cases.append(next(changed for case in cases if makes_sense(changed := {**case, **missing[0]})))
    return cases


CASES = covering_cases(CHOICES)
CASES_WITH_BACKBONES = covering_cases({**BACKBONES, **CHOICES})


def settings(case: dict) -> dict:
    """Returns the config keys of a case, of fast-reid and of the plugin."""
    chosen = dict(case)
    backbone = backbone_settings(*chosen.pop("backbone", "tiny tiny").split())
    igoas, pool, losses = chosen["MODEL.META_ARCHITECTURE"] == "IGOAS", chosen.pop("pooling"), chosen.pop("losses")
    frozen = chosen.pop("frozen")
    return {
        **chosen,
        **backbone,
        "MODEL.HEADS.NAME": "IGOASHead" if igoas else "EmbeddingHead",
        "MODEL.HEADS.SCALE": 1 if chosen["MODEL.HEADS.CLS_LAYER"] == "Linear" else 16,
        "MODEL.HEADS.MARGIN": 0.0 if chosen["MODEL.HEADS.CLS_LAYER"] == "Linear" else 0.2,
        "MODEL.HEADS.POOL_LAYER": pool,
        "MODEL.IGOAS.GLOBAL.POOL_LAYER": pool,
        "MODEL.IGOAS.FREEZE_EPOCHS": 1 if frozen and igoas else 0,
        "MODEL.FREEZE_LAYERS": ["backbone"] if frozen and not igoas else [],
        "SOLVER.FREEZE_ITERS": 2 if frozen and not igoas else 0,
        "MODEL.LOSSES.NAME": ("CrossEntropyLoss", *losses.split()),
        "TEST.PRECISE_BN.DATASET": "TinyReID",
        "TEST.PRECISE_BN.NUM_ITER": 2,
        "DATALOADER.NUM_INSTANCE": 2,
        "SOLVER.BASE_LR": 0.001,
        "INPUT.AUTOAUG.PROB": 1.0,
        "INPUT.REA.PROB": 1.0,
        "INPUT.SIZE_TRAIN": [64, 32] if "backbone" in case else [32, 16],
        "INPUT.SIZE_TEST": [64, 32] if "backbone" in case else [32, 16],
        "SEED": 0,
    }


def backbone_settings(family: str, depth: str, ibn: str = "") -> dict:
    widths = {"tiny": WIDTH, "18x": 512, "x0_25": 128, "0.1x": 1280, "0.5x": 1024}
    return {
        "MODEL.BACKBONE.NAME": f"build_{family}_backbone",
        "MODEL.BACKBONE.DEPTH": depth,
        "MODEL.BACKBONE.WITH_IBN": bool(ibn),
        "MODEL.BACKBONE.FEAT_DIM": widths[depth],
    }


def test_every_pair_of_choices_that_makes_sense_is_in_a_case():
    for cases, choices in ((CASES, CHOICES), (CASES_WITH_BACKBONES, {**BACKBONES, **CHOICES})):
        assert missing_pairs(cases, choices) == [] and all(map(makes_sense, cases))


def ids(case: dict) -> str:
    return "-".join(str(value) for value in list(case.values())[:3])


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_it_passes_the_checks_trains_and_evaluates(case, baseline_cfg):
    assert_trains_and_evaluates(case, baseline_cfg)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES_WITH_BACKBONES, ids=ids)
def test_it_passes_the_checks_trains_and_evaluates_with_backbones_of_fast_reid(case, baseline_cfg):
    assert_trains_and_evaluates(case, baseline_cfg)


def assert_trains_and_evaluates(case, baseline_cfg):
    for key, value in settings(case).items():
        node = baseline_cfg
        *path, last = key.split(".")
        for step in path:
            node = node[step]
        node[last] = value
    check_names(baseline_cfg)
    check_combinations(baseline_cfg)
    check_test_data("TinyReID")
    check_training(baseline_cfg, *check_training_data(baseline_cfg), resume=False)
    trainer = runs.start(baseline_cfg)
    before = runs.weights(trainer)
    results = trainer.train()
    assert 0 <= results["Rank-1"] <= 100 and 0 < results["mAP"] <= 100
    after = runs.weights(trainer)
    assert all(torch.isfinite(value).all() for value in after.values())
    moved = [name for name in before if before[name].is_floating_point() and not torch.equal(before[name], after[name])]
    assert any(name.startswith("backbone.") and "weight" in name for name in moved)
    assert any(name.startswith("heads.") for name in moved)
    losses = [line["total_loss"] for line in runs.logged(baseline_cfg) if "total_loss" in line]
    assert losses and all(abs(loss) < 1e4 for loss in losses)
    assert os.path.isfile(os.path.join(baseline_cfg.OUTPUT_DIR, "model_final.pth"))


# Settings that exclude each other: what is refused, with which message, and the cure that the message names

REFUSED = {
    "a pair loss without an identity sampler": (
        ["MODEL.LOSSES.NAME", "('CrossEntropyLoss', 'TripletLoss')"],
        "TripletLoss compares images of one identity, but DATALOADER.SAMPLER_TRAIN TrainingSampler",
        ["DATALOADER.SAMPLER_TRAIN", "NaiveIdentitySampler"],
    ),
    "a pair loss with one image of each identity": (
        ["MODEL.LOSSES.NAME", "('CrossEntropyLoss', 'Cosface')", "DATALOADER.SAMPLER_TRAIN", "BalancedIdentitySampler",
         "DATALOADER.NUM_INSTANCE", "1"],
        "Cosface compares images of one identity, but a batch holds DATALOADER.NUM_INSTANCE 1 image of each",
        ["DATALOADER.NUM_INSTANCE", "4"],
    ),
    "a cosine classification layer without a scale": (
        ["MODEL.HEADS.CLS_LAYER", "ArcSoftmax"], "ArcSoftmax gives cosines", ["MODEL.HEADS.SCALE", "30"],
    ),
    "the suppression loss on both stages without occluded images": (
        ["MODEL.META_ARCHITECTURE", "IGOAS", "MODEL.IGOAS.MASK_LOSS.STAGES", "both", "MODEL.OCCLUSION.MASK", "ones"],
        "no image is occluded or the mask is 1 everywhere",
        ["MODEL.IGOAS.MASK_LOSS.STAGES", "last"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_combination_is_refused_with_the_reason_and_the_cure_helps(name):
    settings, message, cure = REFUSED[name]
    with pytest.raises(InputError, match=f"MODEL.*{message}.*(take|set)"):
        check_combinations(load_cfg("", settings))
    check_combinations(load_cfg("", [*settings, *cure]))


def test_the_documentation_lists_each_of_them():
    text = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
    assert [name for name in REFUSED if name not in text] == []


BOTH = ["MODEL.META_ARCHITECTURE", "IGOAS", "MODEL.IGOAS.MASK_LOSS.STAGES", "both"]


@pytest.mark.parametrize("key, value", [("NAME", "NoOcclusion"), ("NAME", "BatchDropBlock"), ("PROB", "0")])
def test_both_stages_of_the_suppression_loss_need_a_block_that_occludes_images(key, value):
    with pytest.raises(InputError, match="no image is occluded"):
        check_combinations(load_cfg("", [*BOTH, f"MODEL.OCCLUSION.{key}", value]))


@pytest.mark.parametrize("off", [["MODEL.IGOAS.MASK_LOSS.SCALE", "0"], ["MODEL.IGOAS.MASK_LOSS.BRANCHES", "()"]])
def test_a_suppression_loss_that_is_switched_off_is_not_refused(off):
    check_combinations(load_cfg("", [*BOTH, "MODEL.OCCLUSION.MASK", "ones", *off]))
