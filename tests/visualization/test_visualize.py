"""tools/visualize.py: each command on tiny images, its files, what it refuses."""

import importlib.util
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fastreid.modeling import build_model
from PIL import Image

from igoas_plugin.errors import InputError

TOOL = Path(__file__).parents[2] / "tools" / "visualize.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("visualize_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(igoas_cfg, tmp_path):
    """--config-file FILE MODEL.WEIGHTS PATH of a tiny IGOAS."""
    torch.manual_seed(0)
    torch.save({"model": build_model(igoas_cfg).state_dict()}, tmp_path / "weights.pth")
    (tmp_path / "tiny.yml").write_text(igoas_cfg.dump())
    return ["--config-file", str(tmp_path / "tiny.yml"), "MODEL.WEIGHTS", str(tmp_path / "weights.pth")]


@pytest.mark.parametrize(
    "words",
    [
        ["occlusion"],
        ["ranks", "--top", "3", "--queries", "worst"],
        ["responses", "--count", "1"],
        ["embedding", "--method", "pca", "--identities", "1", "2"],
    ],
)
def test_a_picture_goes_to_the_folder_of_the_run_and_its_path_is_printed(tool, model, words, tmp_path, capsys):
    tool.main([*words, *model])  # the keys follow the values of an option
    path = tmp_path / "run" / f"{words[0]}.png"
    assert capsys.readouterr().out.splitlines()[-1] == str(path)
    with Image.open(path) as picture:
        assert min(picture.size) > 300 and len(picture.convert("L").getcolors()) > 10


def test_options_and_config_keys_may_come_in_any_order(tool, model, monkeypatch):
    given = []
    monkeypatch.setattr(tool, "save_figure", lambda figure, path: given.append(path))
    monkeypatch.setattr(
        tool, "ranks_picture", lambda cfg, *args, junk: given.extend([cfg.TEST.RERANK.ENABLED, *args, junk])
    )
    tool.main(
        ["ranks", *model, "--queries", "2", "a.png", "--top", "3", "--output", "a.pdf", "TEST.RERANK.ENABLED", "True"]
    )
    assert given == [True, ["2", "a.png"], 8, 3, 0, True, "a.pdf"]
    given.clear()
    tool.main(["ranks", "TEST.RERANK.ENABLED", "True", "--hide-junk", "--queries", "best", *model[2:], *model[:2]])
    assert given[:-1] == [True, ["best"], 8, 10, 0, False]


def test_curves_take_runs_and_the_run_of_a_config(tool, model, tmp_path, monkeypatch):
    for name in ("run", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps({"iteration": 1, "total_loss": 2.0}))
    figures = []
    monkeypatch.setattr(tool, "save_figure", lambda figure, path: figures.append((figure, path)))
    tool.main(["curves", str(tmp_path / "other"), *model])
    tool.main(["curves", str(tmp_path / "other"), "OUTPUT_DIR", str(tmp_path / "pictures")])
    names = [[text.get_text() for text in figure.legends[0].get_texts()] for figure, _ in figures]
    assert names == [["other", "run"], ["other"]]
    assert [path for _, path in figures] == [str(tmp_path / "run/curves.png"), str(tmp_path / "pictures/curves.png")]


@pytest.mark.parametrize(
    "words, message",
    [
        (["ranks", "--top", "0"], "--top must be 1 or more, got 0"),
        (["ranks", "--count", "-2"], "--count must be 1 or more, got -2"),
        (["embedding", "--seed", "-1"], "--seed must be 0 or more, got -1"),
        (["ranks", "--queries", "absent.png"], "--queries absent.png: no query of TinyReID has that name"),
        (["ranks", "MODEL.WEIGHTS", ""], "MODEL.WEIGHTS is empty"),
        (["ranks", "MODEL.WEIGHTS", "absent.pth"], "absent.pth"),
        (["embedding", "--identities", "first"], "--identities first: an identity is a whole number"),
        (["responses", "--images", "MODEL.WEIGHTS", "x"], "--images has no value: MODEL.WEIGHTS is a config key"),
        (["occlusion", "--output", "picture.gif"], "picture.gif: the end of its name must be png, pdf or svg"),
        (["occlusion", "MODEL.OCCLUSION.NAME", "Nothing"], "MODEL.OCCLUSION.NAME must be"),
        (["curves"], "run holds no metrics.json"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(tool, model, words, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        tool.main([words[0], *model, *words[1:]])
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_curves_of_no_run_and_options_that_are_none_are_refused(tool, capsys):
    with pytest.raises(InputError, match="curves of which runs"):
        tool.main(["curves"])
    with pytest.raises(SystemExit):
        tool.main(["ranks", "--querys", "worst"])
    assert "unrecognized arguments: --querys" in capsys.readouterr().err


def test_the_command_line_works_as_a_user_types_it(tiny_duke, tmp_path):
    keys = ["DATASETS.NAMES", "('OccludedDuke',)", "OUTPUT_DIR", str(tmp_path / "run")]
    command = [
        sys.executable,
        str(TOOL),
        "occlusion",
        "--config-file",
        str(TOOL.parents[1] / "configs/Toy/igoas_R18.yml"),
    ]
    done = subprocess.run([*command, *keys], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "run" / "occlusion.png")), done.stderr


def test_a_mistake_on_the_command_line_is_told_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "occlusion", "--count", "0"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(TOOL), run_name="__main__")
    [line] = capsys.readouterr().err.splitlines()
    assert (
        caught.value.code == 2
        and line.startswith("igoas_plugin ")
        and line.endswith("--count must be 1 or more, got 0")
    )
