import json
from pathlib import Path

import pytest
import torch
from fastreid.modeling import build_model
from fastreid.utils.checkpoint import Checkpointer
from fill import fill

import igoas_plugin
from igoas_plugin.checkpoint.convert import convert_checkpoint
from igoas_plugin.checkpoint.released_igoas import convert_reference_state_dict
from igoas_plugin.core.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reference():
    shapes = json.loads((Path(__file__).parents[1] / "data" / "reference_state_dict.json").read_text())
    return {name: torch.from_numpy(fill(name, tuple(shape))) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def model():
    cfg = igoas_plugin.get_cfg()
    cfg.merge_from_file(str(ROOT / "configs" / "OccDuke" / "igoas_R50.yml"))
    cfg.MODEL.DEVICE, cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.HEADS.NUM_CLASSES = "cpu", False, 16
    return build_model(cfg)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_name_and_shape_of_the_original_finds_its_place(reference, model, prefix):
    converted = convert_reference_state_dict({prefix + name: tensor for name, tensor in reference.items()})
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {name: tuple(tensor.shape) for name, tensor in converted.items()} == ours
    assert torch.equal(
        converted["suppression_branch.attention_after.spatial.weight"],
        reference["att_module2.conv_after_concat.weight"],
    )


def test_the_tool_s_file_loads_into_the_model(reference, model, call_tool, tmp_path):
    source, target = tmp_path / "model.pth.tar-90", tmp_path / "igoas.pth"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in reference.items()}, "epoch": 90}, source)
    done = call_tool("convert_checkpoint", source, target)
    assert done.returncode == 0 and f"{len(reference)} tensors" in done.stdout, done.stderr
    Checkpointer(model).load(str(target))
    assert torch.equal(model.heads.joint_classifier.weight, reference["classifier3.weight"])
    again = call_tool("convert_checkpoint", source, target)
    assert again.returncode == 2 and "exists: remove it" in again.stderr and "Traceback" not in again.stderr


@pytest.fixture
def names(reference):
    """Names of the original with small tensors: a file is refused by its names."""
    return {name: torch.zeros(1) for name in reference}


def broken(names, kind):
    state = dict(names)
    if kind == "a part is missing":
        state = {name: tensor for name, tensor in state.items() if not name.startswith("res_part2")}
    if kind == "a tensor is missing":
        del state["layer3.5.bn2.running_var"]
    if kind == "a deeper network":
        state["layer3.6.conv1.weight"] = torch.zeros(1)
    if kind == "no tensor":
        state["layer0.0.weight"] = 1
    return {"no dict": {"state_dict": 1}, "nothing": {"state_dict": {}}}.get(kind, {"state_dict": state})


@pytest.mark.parametrize(
    "kind, message",
    [
        (
            "a part is missing",
            r"not a complete state dict of the original IGOAS: it lacks res_part2.*\(\d+ tensors missing",
        ),
        ("a tensor is missing", r"it lacks layer3.5.bn2.running_var \(1 tensors missing\)"),
        ("a deeper network", r"it has layer3.6.conv1.weight \(1 unknown names\)"),
        ("nothing", "in.pth holds no weights; save the state_dict"),
        ("no dict", "state_dict is of the type int, not a tensor"),
        ("no tensor", "layer0.0.weight is of the type int, not a tensor"),
    ],
)
def test_anything_else_is_refused_and_nothing_is_written(names, tmp_path, kind, message):
    torch.save(broken(names, kind), tmp_path / "in.pth")
    with pytest.raises(InputError, match=message):
        convert_checkpoint(str(tmp_path / "in.pth"), str(tmp_path / "out.pth"))
    assert [path.name for path in tmp_path.iterdir()] == ["in.pth"]
