import igoas_plugin  # first: it patches fast-reid

# isort: split
from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.modeling import build_model
from fastreid.modeling.heads import REID_HEADS_REGISTRY, EmbeddingHead
from fastreid.utils.checkpoint import Checkpointer
from tiny_data import TinyReID, make_tiny_duke, make_tiny_market
from torch import nn

from igoas_plugin.config import load_cfg
from igoas_plugin.core.errors import InputError
from igoas_plugin.preflight import (
    build_scratch_model,
    check_amp,
    check_device,
    check_model,
    check_run,
    check_settings,
    check_test_data,
    check_training,
    check_training_data,
)


class OccludedHead(EmbeddingHead):
    """Head with class weights under a name of its own, as that of fast-reid's project PartialReID."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.weight_occ = nn.Parameter(torch.zeros(cfg.MODEL.HEADS.NUM_CLASSES, cfg.MODEL.BACKBONE.FEAT_DIM))


def test_class_weights_under_any_name_pass_the_check_of_an_evaluation(baseline_cfg, tmp_path, monkeypatch):
    monkeypatch.setitem(REID_HEADS_REGISTRY._obj_map, "OccludedHead", OccludedHead)
    baseline_cfg.MODEL.HEADS.NAME, baseline_cfg.MODEL.WEIGHTS = "OccludedHead", str(tmp_path / "trained.pth")
    torch.save({"model": build_scratch_model(baseline_cfg, identities=4).state_dict()}, baseline_cfg.MODEL.WEIGHTS)
    check_model(baseline_cfg)
    Checkpointer(build_model(baseline_cfg)).load(baseline_cfg.MODEL.WEIGHTS)  # as the evaluation does


def test_a_data_set_of_one_camera_cannot_be_ranked(tiny_duke):
    check_test_data("OccludedDuke")
    for path in tiny_duke.glob("*/*/*_c2_*"):
        path.unlink()
    with pytest.raises(
        InputError, match="of another camera in the gallery, .* different camera ids, or set TEST.CAMERA_RULE False"
    ):
        check_test_data("OccludedDuke")
    check_test_data("OccludedDuke", camera_rule=False)
    for path in tiny_duke.glob("*/bounding_box_test/*"):
        path.rename(path.with_name(path.name.replace("000", "100", 1)))
    with pytest.raises(InputError, match="no query has an image of its identity in the gallery$"):
        check_test_data("OccludedDuke", camera_rule=False)


def test_without_the_camera_rule_a_query_in_the_gallery_is_told(data_root, host_log):
    check_test_data("TinyReID")
    assert not host_log.records
    check_test_data("TinyReID", camera_rule=False)
    [record] = host_log.records
    assert "8 of 8 queries are gallery images too, and each of them finds itself first" in record.getMessage()


def test_nfc_is_warned_of_where_most_people_have_one_gallery_image(tiny_duke, host_log):
    gallery = tiny_duke / "Occluded_Duke" / "bounding_box_test"
    check_test_data("OccludedDuke", nfc=True)
    for pid in (1, 2):  # two of four people keep one image, then a third one
        for path in sorted(gallery.glob(f"000{pid}_*"))[1:]:
            path.unlink()
    check_test_data("OccludedDuke", nfc=True)
    assert not [record for record in host_log.records if "TEST.NFC" in record.getMessage()]
    for path in sorted(gallery.glob("0003_*"))[1:]:
        path.unlink()
    check_test_data("OccludedDuke")
    assert not [record for record in host_log.records if "TEST.NFC" in record.getMessage()]
    check_test_data("OccludedDuke", nfc=True)
    [line] = [record.getMessage() for record in host_log.records if "TEST.NFC" in record.getMessage()]
    assert line.startswith("data set OccludedDuke: 3 of 4 people in the gallery have one image")
    assert "set TEST.NFC.ENABLED False for this set, or raise TEST.NFC.SIMILARITY" in line


def test_queries_that_have_no_match_are_counted_and_the_first_is_named(tiny_duke, host_log):
    for path in (tiny_duke / "Occluded_Duke" / "bounding_box_test").glob("0002_*"):
        path.unlink()
    check_test_data("OccludedDuke")
    [line] = [record.getMessage() for record in host_log.records if "no image of their identity" in record.getMessage()]
    assert "data set OccludedDuke: 4 of 16 queries have no image" in line
    assert line.endswith(str(tiny_duke / "Occluded_Duke" / "query" / "0002_c1_f0000001.jpg"))


def test_a_query_folder_without_an_image_is_refused(tiny_duke):
    for path in (tiny_duke / "Occluded_Duke" / "query").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no images in .*query"):
        check_test_data("OccludedDuke")


def test_a_set_for_testing_is_no_training_set(monkeypatch):
    monkeypatch.setattr("igoas_plugin.datasets.reading.open_data", lambda name, **kwargs: SimpleNamespace(train=[]))
    cfg = igoas_plugin.get_cfg()
    cfg.DATASETS.NAMES = ("PartialREID",)
    with pytest.raises(
        InputError, match="training set PartialREID has no training images, because .*such as Market1501"
    ):
        check_training_data(cfg)


def test_a_test_set_whose_images_are_trained_on_is_named_in_one_warning(data_root, host_log):
    make_tiny_duke(data_root)
    make_tiny_market(data_root)
    cfg = igoas_plugin.get_cfg()
    cfg.SOLVER.IMS_PER_BATCH = 8
    begin, whole = "images of query or gallery of ", " are trained on too (DATASETS.COMBINEALL): "
    cases = {
        # DATASETS.NAMES, TESTS, COMBINEALL: what the warning begins with
        (("OccludedDuke",), ("OccludedDuke", "Market1501"), True): f"{begin}OccludedDuke{whole}",
        # the gallery of OccludedMarket1501 is that of Market1501
        (("Market1501",), ("OccludedMarket1501", "Market1501", "Market1501"), True): (
            f"{begin}OccludedMarket1501, Market1501{whole}"
        ),
        (("TinyReID",), ("TinyReID",), False): f"{begin}TinyReID are trained on too: ",
        (("OccludedDuke",), ("OccludedDuke",), False): None,
        (("OccludedDuke",), ("Market1501",), True): None,
    }
    for (names, tests, combineall), expected in cases.items():
        cfg.DATASETS.NAMES, cfg.DATASETS.TESTS, cfg.DATASETS.COMBINEALL = names, tests, combineall
        host_log.clear()
        check_training_data(cfg, {name: check_test_data(name) for name in tests})
        lines = [line for record in host_log.records if "trained on" in (line := record.getMessage())]
        assert len(lines) == bool(expected) and all(line.startswith(expected) for line in lines), (names, tests)


def test_each_data_set_is_listed_once_for_each_use(baseline_cfg, monkeypatch):
    opened = []

    class Listed(TinyReID):
        def __init__(self, root="datasets", **kwargs):
            opened.append(root)
            super().__init__(root, **kwargs)

    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "Listed", Listed)
    baseline_cfg.DATASETS.NAMES, baseline_cfg.DATASETS.TESTS = ("Listed",), ("Listed", "Listed")
    for eval_only, times in ((False, 2), (True, 1)):
        opened.clear()
        check_run(baseline_cfg, Namespace(eval_only=eval_only, resume=False, num_gpus=1, num_machines=1))
        assert len(opened) == times, eval_only


def test_the_data_of_precise_bn_must_serve_the_sampler_too(monkeypatch):
    identities = {"Large": 8, "Small": 4}

    def opened(name, **kwargs):
        return SimpleNamespace(train=[("a.png", index % identities[name], 0) for index in range(16)])

    monkeypatch.setattr("igoas_plugin.datasets.reading.open_data", opened)
    cfg = igoas_plugin.get_cfg()
    cfg.DATASETS.NAMES, cfg.DATALOADER.SAMPLER_TRAIN = ("Large",), "BalancedIdentitySampler"
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE = 16, 2
    cfg.TEST.PRECISE_BN.DATASET = "Small"
    assert check_training_data(cfg) == (8, 16)
    cfg.TEST.PRECISE_BN.ENABLED = True
    with pytest.raises(InputError, match="= 8 identities, TEST.PRECISE_BN.DATASET Small has 4"):
        check_training_data(cfg)


@pytest.mark.parametrize(
    "name, processes, message",
    [
        ("cuda:0", 2, "cuda:0 is one GPU for 2 processes of this machine: set it to cuda"),
        ("cuda:2", 1, "MODEL.DEVICE is cuda:2, but torch finds 2 GPUs"),
        ("gpu", 1, "MODEL.DEVICE must be cpu, cuda or cuda:N, got gpu"),
    ],
)
def test_a_device_that_cannot_be_is_refused_on_a_machine_with_two_gpus(monkeypatch, name, processes, message):
    monkeypatch.setattr("igoas_plugin.preflight.usable_device", lambda name: name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_device("cuda", 2)
    check_device("cuda:1", 1)
    with pytest.raises(InputError, match=message):
        check_device(name, processes)


def test_a_type_that_the_device_has_not_is_refused(baseline_cfg):
    for dtype in ("auto", "bfloat16"):
        baseline_cfg.SOLVER.AMP.DTYPE = dtype
        check_amp(baseline_cfg)
    baseline_cfg.SOLVER.AMP.DTYPE = "float16"
    with pytest.raises(InputError, match="float16 needs a GPU, and the model is on the CPU: take bfloat16 or auto"):
        check_amp(baseline_cfg)
    baseline_cfg.SOLVER.AMP.DTYPE = "float8"
    with pytest.raises(InputError, match="SOLVER.AMP.DTYPE"):
        check_amp(baseline_cfg)


@pytest.mark.parametrize(
    "pairs, message",
    [
        (["INPUT.SIZE_TRAIN", "[0,0]"], r"INPUT.SIZE_TRAIN must be height and width, .* got \[0, 0\]"),
        (["INPUT.SIZE_TRAIN", "[32]"], "INPUT.SIZE_TRAIN must be height and width"),
        (["INPUT.SIZE_TEST", "[0,0]"], "INPUT.SIZE_TEST must be height and width"),
        (["INPUT.SIZE_TEST", "[32]"], "INPUT.SIZE_TEST must be height and width"),
        (
            ["MODEL.BACKBONE.NAME", "build_vit_backbone", "INPUT.SIZE_TEST", "[384,128]"],
            r"a vision transformer takes images of one size, and INPUT.SIZE_TEST is \[384, 128\]: .* \[256, 128\]",
        ),
        (["MODEL.PIXEL_MEAN", "['a']"], "MODEL.PIXEL_MEAN must be three numbers, one for each channel"),
        (["MODEL.PIXEL_STD", "['a', 1, 1]"], "MODEL.PIXEL_STD must be three numbers, one for each channel"),
        (["MODEL.PIXEL_STD", f"[1, 1, {10**400}]"], "MODEL.PIXEL_STD must be three numbers, one for each channel"),
        (["MODEL.PIXEL_STD", "[1.0, 0.0, 1.0]"], "MODEL.PIXEL_STD must be more than 0"),
        (["DATALOADER.NUM_WORKERS", "-1"], "DATALOADER.NUM_WORKERS must be 0 or more, got -1"),
        (["TEST.RERANK.ENABLED", "True", "TEST.RERANK.K1", "0"], "TEST.RERANK.K1 must be 1 or more, got 0"),
        (["TEST.RERANK.ENABLED", "True", "TEST.RERANK.K2", "0"], "TEST.RERANK.K2 must be 1 or more, got 0"),
        (["TEST.NFC.K", "0"], "TEST.NFC.K must be 1 or more, got 0"),
        (["TEST.NFC.SIDES", "query"], "TEST.NFC.SIDES must be gallery or both, got query"),
        (["TEST.NFC.SIMILARITY", "1.5"], "TEST.NFC.SIMILARITY must be -1 to 1, got 1.5"),
        (["SOLVER.STEPS", "('a',)"], r"SOLVER.STEPS must be epochs, integers from 0, got \('a',\)|\['a'\]"),
        (["SOLVER.CHECKPOINT_KEEP", "-1"], "SOLVER.CHECKPOINT_KEEP must be 0 or more, got -1"),
        (["SOLVER.NONFINITE_LIMIT", "-1"], "SOLVER.NONFINITE_LIMIT must be 0 or more, got -1"),
        (["SOLVER.EMA.DECAY", "1.0"], r"SOLVER.EMA.DECAY must stay in \[0, 1\), got 1.0"),
        (["SOLVER.EMA.DECAY", "-0.1"], r"SOLVER.EMA.DECAY must stay in \[0, 1\), got -0.1"),
        (["SOLVER.EMA.START", "-1"], "SOLVER.EMA.START must be 0 or more, got -1"),
        (["OUTPUT_DIR", ""], "OUTPUT_DIR '' cannot be written"),
    ],
)
def test_a_setting_that_no_run_could_use_is_refused_in_one_line(pairs, message):
    with pytest.raises(InputError, match=message):
        check_settings(load_cfg("", ["MODEL.DEVICE", "cpu", *pairs]))


def test_an_average_that_would_begin_after_the_run_is_refused(baseline_cfg):
    baseline_cfg.SOLVER.EMA.START = baseline_cfg.SOLVER.MAX_EPOCH = 2
    check_training(baseline_cfg, identities=4, images=16, resume=False)
    baseline_cfg.SOLVER.EMA.ENABLED = True
    with pytest.raises(InputError, match="SOLVER.EMA.START 2 leaves no epoch of SOLVER.MAX_EPOCH 2 to average"):
        check_training(baseline_cfg, identities=4, images=16, resume=False)


def test_a_crop_takes_images_of_any_size():
    sizes = ["INPUT.SIZE_TRAIN", "[0]", "INPUT.SIZE_TEST", "[256]", "MODEL.PIXEL_STD", "[127.5]"]
    check_settings(load_cfg("", ["MODEL.DEVICE", "cpu", "INPUT.CROP.ENABLED", "True", *sizes]))
