"""OnnxPredictor returns the descriptors of Predictor, without a torch model."""

import sys
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from onnx import TensorProto, helper
from PIL import Image
from torch_versions import writes_onnx

from igoas_plugin.core.errors import InputError
from igoas_plugin.inference.fingerprint import Fingerprint
from igoas_plugin.inference.onnx_predictor import OnnxDescription, OnnxPredictor
from igoas_plugin.inference.predictor import Predictor
from igoas_plugin.inference.search.gallery_file import GalleryFile
from igoas_plugin.inference.search.indexing import index_folder


def pictures(count=3) -> list[np.ndarray]:
    """Returns pictures of other sizes than the images of a model."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (60 + 10 * index, 37, 3), dtype=np.uint8) for index in range(count)]


@writes_onnx
def test_pictures_of_any_size_and_kind_get_the_descriptors_of_the_predictor(igoas_onnx, tmp_path):
    cfg, path = igoas_onnx
    first, *others = pictures()
    Image.fromarray(first).save(tmp_path / "first.png")
    Image.fromarray(first).convert("L").save(tmp_path / "grey.jpg")
    given = [tmp_path / "first.png", *others, str(tmp_path / "grey.jpg")]
    predictor, found = Predictor(cfg), OnnxPredictor(path)
    descriptors = found(given)
    np.testing.assert_allclose(descriptors, predictor(given), rtol=0, atol=1e-4)  # largest difference of an export
    assert descriptors.shape == (4, 64) and descriptors.dtype == np.float32
    for one in (given[0], first, Image.fromarray(first)):
        np.testing.assert_allclose(found(one), descriptors[:1], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found(iter(given)), descriptors, rtol=0, atol=1e-4)
    assert (found.width, found.size, found.batch) == (predictor.width, predictor.size, predictor.batch)
    assert found.fingerprint == predictor.fingerprint and not found.fingerprint.differences(predictor.fingerprint)
    torch.testing.assert_close(found.read(first), predictor.read(first), rtol=0, atol=0)


@writes_onnx
def test_no_model_of_torch_is_built_and_no_checkpoint_read(igoas_onnx, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a model was built")

    monkeypatch.setattr("igoas_plugin.inference.trained.build_model", refuse)
    monkeypatch.setattr(META_ARCH_REGISTRY, "get", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(torch.nn.Module, "__call__", refuse_models(torch.nn.Module.__call__))
    assert OnnxPredictor(igoas_onnx[1])(pictures()).shape == (3, 64)


def refuse_models(call):
    """Allows calls of modules that resize pictures, as those of torchvision."""

    def checked(self, *args, **kwargs):
        assert type(self).__module__.startswith("torchvision."), type(self)
        return call(self, *args, **kwargs)

    return checked


def named_once_more(model) -> None:
    model.producer_name = "another program"


def shuffled(model) -> None:
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim == 4:
            mixed = np.random.default_rng(0).permutation(values.ravel()).reshape(values.shape)
            tensor.CopyFrom(onnx.numpy_helper.from_array(mixed, tensor.name))


def quantised(model) -> None:
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim == 4:
            step = np.abs(values).max() / 7  # 4 bits
            coarse = (np.round(values / step) * step).astype(values.dtype)
            tensor.CopyFrom(onnx.numpy_helper.from_array(coarse, tensor.name))


@writes_onnx
@pytest.mark.parametrize("change, agrees", [(named_once_more, True), (shuffled, False), (quantised, False)])
def test_a_file_that_was_changed_is_the_same_model_only_if_its_descriptors_are(change, agrees, igoas_onnx, tmp_path):
    cfg, path = igoas_onnx
    model = onnx.load(path)
    change(model)
    onnx.save(model, tmp_path / "changed.onnx")
    exported, changed = OnnxPredictor(path), OnnxPredictor(tmp_path / "changed.onnx")
    assert not exported.fingerprint.altered
    assert changed.fingerprint == replace(exported.fingerprint, altered=True)
    (tmp_path / "crops").mkdir()
    Image.fromarray(pictures(1)[0]).save(tmp_path / "crops/a.png")
    index_folder(str(tmp_path / "crops"), str(tmp_path / "gallery.index"), Predictor(cfg))
    with GalleryFile(str(tmp_path / "gallery.index")) as file:
        file.require(exported)
        with nullcontext() if agrees else pytest.raises(InputError, match=r"changed after its export.*\d away, more"):
            file.require(changed)


def test_a_file_without_a_digest_counts_as_changed(tmp_path):
    path = mean_colours(tmp_path / "model.onnx")
    model = onnx.load(path)
    helper.set_model_props(model, {each.key: each.value for each in model.metadata_props if each.key != "digest"})
    onnx.save(model, path)
    assert OnnxPredictor(path).fingerprint == Fingerprint("1f", {}, altered=True)


# A small file, whose descriptors are the mean colours


def mean_colours(path, metadata=True, **described) -> str:
    described = {
        "plugin_version": "0", "input": "uint8", "size": [8, 4], "mean": [0] * 3, "std": [1] * 3,
        "descriptor_width": 3, "opset": 18, "batch": 2, "fingerprint": Fingerprint("1f", {}),
        "reading": {"INPUT.SIZE_TEST": [8, 4], "INPUT.CROP.ENABLED": False, "INPUT.CROP.SIZE": [2, 2]}, **described,
    }  # fmt: skip
    kind = TensorProto.UINT8 if described["input"] == "uint8" else TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["descriptors"], keepdims=0),
    ]
    images = helper.make_tensor_value_info("images", kind, ["batch", 3, *described["size"]])
    descriptors = helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["batch", 3])
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    graph = helper.make_graph(nodes, "mean colours", [images], [descriptors], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if metadata:
        helper.set_model_props(model, OnnxDescription(**described).as_metadata())
    onnx.save(model, path)
    return str(path)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_pictures_are_described_in_batches_and_in_their_order(kind, tmp_path, monkeypatch):
    predictor = OnnxPredictor(mean_colours(tmp_path / "model.onnx", input=kind))
    sizes, describe = [], OnnxPredictor.describe
    monkeypatch.setattr(OnnxPredictor, "describe", lambda *args: sizes.append(len(args[1])) or describe(*args))
    plain = [np.full((9, 9, 3), colour, np.uint8) for colour in ((0, 1, 2), (3, 4, 5), (255, 254, 253))]
    assert predictor(plain).tolist() == [[0, 1, 2], [3, 4, 5], [255, 254, 253]] and sizes == [2, 1]
    assert predictor([]).shape == (0, 3)


def test_pictures_are_cut_where_an_evaluation_cuts_them(tmp_path):
    reading = {"INPUT.SIZE_TEST": [8, 8], "INPUT.CROP.ENABLED": True, "INPUT.CROP.SIZE": [4, 2]}
    predictor = OnnxPredictor(mean_colours(tmp_path / "model.onnx", size=[4, 2], reading=reading))
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[2:6, 3:5] = 200  # the middle
    assert predictor.read(picture).shape == (3, 4, 2) and predictor([picture]).tolist() == [[200, 200, 200]]


# Refusals


def test_a_file_that_is_missing_or_no_model_is_refused(tmp_path, capfd):
    with pytest.raises(InputError, match="absent.onnx does not exist: name a file that tools/export.py wrote"):
        OnnxPredictor(tmp_path / "absent.onnx")
    for content in (b"", b"no model", open(mean_colours(tmp_path / "cut.onnx"), "rb").read()[:100]):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(InputError, match="model.onnx cannot be opened as an ONNX model: ") as caught:
            OnnxPredictor(tmp_path / "model.onnx")
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("spoilt", [{}, {"size": "no JSON"}, {"fingerprint": '{"weights": "1f"}'}])
def test_a_model_that_is_not_of_the_tool_is_refused(spoilt, tmp_path):
    path = mean_colours(tmp_path / "model.onnx", metadata=bool(spoilt))
    if spoilt:
        model = onnx.load(path)
        helper.set_model_props(model, {each.key: each.value for each in model.metadata_props} | spoilt)
        onnx.save(model, path)
    with pytest.raises(InputError, match="model.onnx has no metadata that say how to use it: give a file"):
        OnnxPredictor(path)


def test_onnxruntime_is_named_where_it_is_missing(tmp_path, monkeypatch):
    path = mean_colours(tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="^onnxruntime must be installed for this: pip install onnxruntime$"):
        OnnxPredictor(path)
