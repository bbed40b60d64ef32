"""Faults of fast-reid without the plugin: evaluation, images and transforms, pretrained weights."""

import importlib
import io
import os
import sys
import tempfile
import types
import warnings
from pathlib import Path
from unittest import mock

import gdown
import numpy as np
import torch
from fastreid import evaluation
from fastreid.config import get_cfg
from fastreid.data.build import fast_batch_collator
from fastreid.data.common import CommDataset
from fastreid.data.data_utils import read_image
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.transforms import build_transforms
from fastreid.data.transforms.functional import to_tensor
from fastreid.evaluation import rank, rank_cylib, reid_evaluation, roc
from fastreid.evaluation.query_expansion import aqe
from fastreid.modeling.backbones import build_backbone
from fastreid.utils.compute_dist import build_dist, index_init_cpu
from PIL import Image
from raw_host import fault


def backbone(name, depth, **options):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH = f"build_{name}_backbone", depth
    for key, value in options.items():
        cfg.MODEL.BACKBONE[key] = value
    return build_backbone(cfg)


@fault
def failed_make():
    """Puts a make that fails first on PATH; returns the exit code, and whether make ran inside the package."""
    with tempfile.TemporaryDirectory() as folder:
        make = Path(folder, "make")
        make.write_text(f'#!/bin/sh\necho "$@" >{folder}/arguments\nexit 2\n')
        make.chmod(0o755)
        with mock.patch.dict(os.environ, PATH=f"{folder}{os.pathsep}{os.environ['PATH']}"):
            try:
                rank_cylib.compile_helper()
            except SystemExit as error:
                package = Path(rank_cylib.__file__).parent
                return {"exit": error.code, "inside": Path(folder, "arguments").read_text() == f"-C {package}\n"}


@fault
def warnings_at_import_of_ranking():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        importlib.reload(rank)
        importlib.reload(roc)
    return sum("Cython" in str(each.message) for each in caught)


@fault
def reranking():
    return build_dist(torch.randn(3, 8), torch.randn(9, 8), "jaccard", k1=4, k2=2).tolist()


@fault
def neighbours_of_three_images():
    index = index_init_cpu(2)
    index.add(np.eye(3, 2, dtype=np.float32))
    return index.search(np.eye(3, 2, dtype=np.float32), 5)[1].tolist()


@fault
def evaluator_with_five_gallery_images():
    with mock.patch.object(reid_evaluation, "compile_helper", lambda: None):
        evaluator = reid_evaluation.ReidEvaluator(get_cfg(), num_query=1)
    evaluator.process({"targets": torch.tensor([0, 0, 1, 2, 3, 4]), "camids": torch.arange(6)}, torch.randn(6, 4))
    return evaluator.evaluate()


@fault
def roc_of_pairs_that_are_separated():
    """Returns TPR@FPR of 12 genuine pairs below distance 0.1 and 200 impostor pairs above 0.5."""
    cfg = get_cfg()
    cfg.TEST.ROC.ENABLED = True
    with mock.patch.object(reid_evaluation, "compile_helper", lambda: None):
        evaluator = reid_evaluation.ReidEvaluator(cfg, num_query=4)
    features = torch.eye(4)[[0, 1, 2, 3, *[0, 1, 2, 3] * 3, *[3] * 50]]
    pids = torch.tensor([0, 1, 2, 3, *[0, 1, 2, 3] * 3, *range(4, 54)])
    features[16:] = torch.tensor([0.5, -0.5, 0.5, -0.5])
    evaluator.process({"targets": pids, "camids": torch.arange(len(pids))}, features)
    return [value for name, value in evaluator.evaluate().items() if "TPR" in name]


@fault
def roc_curve_of_the_visualizer():
    """Returns the largest TPR at FPR 0 of one genuine pair and two impostor pairs, of which one is nearer."""
    from fastreid.utils.visualizer import Visualizer

    drawn = Visualizer(None)
    pids = np.array([0, 1, 2])
    drawn.get_model_output(None, np.array([[0.1, 0.05, 0.9]]), pids[:1], pids, pids[:1], pids + 1)
    with tempfile.TemporaryDirectory() as folder:
        fpr, tpr, *_ = drawn.vis_roc_curve(folder)
    return float(tpr[fpr == 0].max())


@fault
def evaluate_rank_exported():
    return hasattr(evaluation, "evaluate_rank")


@fault
def distances_that_are_ranked_at_once():
    shapes, original_rank = [], rank.evaluate_rank
    with mock.patch.object(reid_evaluation, "compile_helper", lambda: None):
        evaluator = reid_evaluation.ReidEvaluator(get_cfg(), num_query=8)
    evaluator.process({"targets": torch.arange(108) % 2, "camids": torch.arange(108)}, torch.randn(108, 4))
    with mock.patch.object(rank, "evaluate_rank", lambda *args: shapes.append(args[0].shape) or original_rank(*args)):
        evaluator.evaluate()
    return shapes


@fault
def queries_that_lose_different_numbers_of_images():
    return rank.evaluate_rank(
        np.random.default_rng(0).random((2, 12)),
        q_pids=np.array([0, 1]),
        g_pids=np.arange(12) % 3,
        q_camids=np.array([0, 0]),
        g_camids=np.array([0, 0, 0] + [1, 0, 0] + [1, 1, 1] * 2),  # query 0 loses one image, query 1 two
        use_cython=False,
    )[0].tolist()


@fault
def query_expansion_with_six_images():
    return [feature.tolist() for feature in aqe(torch.randn(2, 4), torch.randn(4, 4), qe_k=10)]


@fault
def cuhk03_protocol_with_numpy_1_26():
    numpy = types.SimpleNamespace(**{name: value for name, value in vars(np).items() if name != "bool"})
    with mock.patch.object(rank, "np", numpy):
        zero = np.array([0])
        rank.eval_cuhk03(np.zeros((1, 1)), zero, zero, zero, zero + 1, 1)


@fault
def affine():
    cfg = get_cfg()
    cfg.INPUT.AFFINE.ENABLED = True
    build_transforms(cfg)


def pixels():
    return np.arange(18, dtype=np.uint8).reshape(2, 3, 3)


@fault
def rgb_tensor():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values = to_tensor(Image.fromarray(pixels())).tolist()
    return {"values": values, "warnings": [str(each.message) for each in caught]}


@fault
def black_and_white_tensor():
    return to_tensor(Image.fromarray(pixels()).convert("1")).tolist()


@fault
def images_of_other_modes():
    seen = {}
    for mode in ("RGBA", "CMYK", "P", "LA", "1", "L"):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/image.tiff"
            Image.fromarray(pixels()).convert(mode).save(path)
            try:
                seen[mode] = read_image(path).mode
            except Exception as error:
                seen[mode] = type(error).__name__
    image = Image.new("P", (1, 1), 7)
    image.putpalette([0] * 21 + [200, 100, 50] + [0] * 744)
    file = io.BytesIO()
    image.save(file, "PNG")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "image.png").write_bytes(file.getvalue())
        seen["orange in a palette"] = list(read_image(f"{folder}/image.png").getpixel((0, 0)))
    return seen


def without_weights(download, **options):
    """Builds a model with pretrained weights and an empty cache; returns the error and the files that are left."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, TORCH_HOME=folder):
        with mock.patch.object(gdown, "download", download):
            try:
                backbone(**{"name": "resnet", "depth": "18x", "PRETRAIN": True, **options})
                error = None
            except Exception as raised:
                error = type(raised).__name__
        return {"error": error, "left": [path.name for path in Path(folder).rglob("*.pth")]}


def half_a_file(url, output, quiet):
    Path(output).write_bytes(b"half")
    raise ConnectionError("lost")


@fault
def pretrained_weights():
    seen = {
        "dead link": without_weights(lambda url, output, quiet: None),
        "cut off": without_weights(half_a_file),
        "no link": without_weights(None, WITH_SE=True),
        "no file": without_weights(None, PRETRAIN_PATH="no/such/file.pth"),
        "builder without links": without_weights(None, name="mobilenetv2", depth="0.1x"),
    }
    with mock.patch.dict(sys.modules, gdown=None):
        seen["no gdown"] = without_weights(None)
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"model": {"backbone.conv1.weight": torch.ones(64, 3, 7, 7)}}, f"{folder}/other.pth")
        seen["nothing fits"] = without_weights(None, PRETRAIN_PATH=f"{folder}/other.pth")
    return seen


@fault
def depth_without_network():
    return backbone("resnext", "152x")


@fault
def non_local_blocks_of_resnet18():
    with warnings.catch_warnings(record=True) as caught:
        model = backbone("resnet", "18x", WITH_NL=True)
    return {"blocks": sum("NL" in name for name, _ in model.named_parameters()), "warnings": len(caught)}


@fault
def regnet_from_another_folder():
    return backbone("regnet", "200x")


@fault
def regnet_x_after_y():
    here = os.getcwd()
    os.chdir(Path(rank_cylib.__file__).parents[3])
    try:
        before = [name for name, _ in backbone("regnet", "200x").named_parameters()]
        backbone("regnet", "200y")
        return before == [name for name, _ in backbone("regnet", "200x").named_parameters()]
    finally:
        os.chdir(here)


@fault
def images_found_by_data_sets():
    """Returns the number of images below a folder with brackets, and the labels below one that looks like a name."""
    with tempfile.TemporaryDirectory() as root:
        for folder in ("data [1]/Market-1501-v15.09.15", "run_7_c3/Market-1501-v15.09.15"):
            for part in ("bounding_box_train", "query", "bounding_box_test"):
                Path(root, folder, part).mkdir(parents=True)
                Path(root, folder, part, "0002_c1s1_000451_03.jpg").touch()
        brackets, numbers = (
            DATASET_REGISTRY.get("Market1501")(root=f"{root}/{each}") for each in ("data [1]", "run_7_c3")
        )
        return {"brackets": len(brackets.query), "numbers": [labels for _, *labels in numbers.query]}


@fault
def labels_in_batches():
    """Returns the type of the identities of a batch if they are text, and the classes of two sets of one identity."""
    two_sets = [("first/1.jpg", 1, 0), ("second/1.jpg", 1, 0)]
    collated = fast_batch_collator([{"targets": "anna"}, {"targets": "otto"}])
    return {"text": type(collated["targets"]).__name__, "classes": CommDataset(two_sets).num_classes}
