"""tools/visualize.py: each command on tiny images, its files, its refusals."""

import json
from pathlib import Path

import pytest
import torch
from fastreid.modeling import build_model
from matplotlib.figure import Figure
from PIL import Image

ROOT = Path(__file__).parents[3]


@pytest.fixture
def visualize(call_tool):
    return lambda *words: call_tool("visualize", *words)


@pytest.fixture
def figures(monkeypatch):
    """Collects the figures that are written."""
    seen, write = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **keys: seen.append(figure) or write(figure, *args, **keys)
    )
    return seen


@pytest.fixture
def model(igoas_cfg, tmp_path):
    """Returns --config-file FILE MODEL.WEIGHTS PATH of a tiny IGOAS."""
    torch.manual_seed(0)
    torch.save({"model": build_model(igoas_cfg).state_dict()}, tmp_path / "weights.pth")
    (tmp_path / "tiny.yml").write_text(igoas_cfg.dump())
    return ["--config-file", str(tmp_path / "tiny.yml"), "MODEL.WEIGHTS", str(tmp_path / "weights.pth")]


def test_a_picture_goes_to_the_folder_of_the_run_and_its_path_is_printed(visualize, model, tmp_path):
    for words in (
        ["occlusion"],
        ["ranks", "--top", "3", "--queries", "worst"],
        ["activations", "--count", "1"],
        ["responses", "--count", "1"],  # its earlier name
        ["embedding", "--method", "pca", "--identities", "1", "2"],
    ):
        done = visualize(*words, *model)  # keys behind the values of an option
        path = tmp_path / "run" / f"{words[0]}.png"
        assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, [str(path)]), (words, done.stderr)
        with Image.open(path) as picture:
            assert min(picture.size) > 300 and len(picture.convert("L").getcolors()) > 10, words


def test_options_and_config_keys_may_come_in_any_order(visualize, model, figures, tmp_path):
    options = ["--queries", "2", "1_0_1.png", "--top", "3", "--output", tmp_path / "a.pdf"]
    for words in (
        ["ranks", *model, *options, "TEST.METRIC", "euclidean"],
        ["ranks", "TEST.METRIC", "euclidean", "--hide-junk", "--queries", "best", *model[2:], *model[:2]],
    ):
        done = visualize(*words)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF") and (tmp_path / "run" / "ranks.png").exists()
    named, best = figures
    headings = [[panel.get_title() for panel in figure.axes] for figure in figures]
    assert "TinyReID: 2 named of 8 queries" in named.get_suptitle() and "best of 8" in best.get_suptitle()
    assert all("distances: euclidean" in figure.get_suptitle() for figure in figures)
    assert len(headings[0]) == 2 * (1 + 3) and len(headings[1]) == 8 * (1 + 10)
    assert "same camera" in headings[0] and "same camera" not in headings[1]
    assert [each.split("\n")[0] for each in headings[0] if "query" in each] == ["query 2", "query 3"]


def test_curves_take_runs_and_the_run_of_a_config(visualize, model, figures, tmp_path):
    for name in ("run", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps({"iteration": 1, "total_loss": 2.0}))
    first = visualize("curves", tmp_path / "other", *model)
    second = visualize("curves", tmp_path / "other", "OUTPUT_DIR", tmp_path / "pictures")
    names = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in figures]
    assert names == [["other", "run"], ["other"]]
    paths = [done.stdout.splitlines()[-1] for done in (first, second)]
    assert paths == [str(tmp_path / "run/curves.png"), str(tmp_path / "pictures/curves.png")]


MISTAKES = [
    (["ranks", "--top", "0"], "--top must be 1 or more, got 0"),
    (["ranks", "--count", "-2"], "--count must be 1 or more, got -2"),
    (["embedding", "--seed", "-1"], "--seed must be 0 or more, got -1"),
    (["ranks", "--queries", "absent.png"], "--queries absent.png: no queries of TinyReID end with that"),
    (["ranks", "MODEL.WEIGHTS", ""], "MODEL.WEIGHTS is empty"),
    (["ranks", "MODEL.WEIGHTS", "absent.pth"], "absent.pth"),
    (["embedding", "--identities", "first"], "--identities first: TinyReID has no such identity; it has 0 to 3"),
    (["occlusion", "--output", "picture.gif"], "picture.gif: the end of its name must be png, pdf or svg"),
    (["occlusion", "MODEL.OCCLUSION.NAME", "Nothing"], "MODEL.OCCLUSION.NAME must be"),
    (["curves"], "run holds no metrics.json"),
]


def test_a_mistake_is_one_line_and_nothing_is_written(visualize, model, tmp_path):
    faults = []
    for words, message in MISTAKES:
        done = visualize(words[0], *model, *words[1:])
        line = done.stderr.strip()
        one_line = line.startswith("igoas_plugin ") and "\n" not in line and message in line
        if done.returncode != 2 or not one_line or (tmp_path / "run").exists():
            faults.append((words, done.returncode, line))
    assert faults == []


def test_curves_of_no_run_and_options_that_are_none_are_refused(visualize):
    done = visualize("curves")
    assert done.returncode == 2 and "curves of which runs" in done.stderr
    done = visualize("ranks", "--querys", "worst")
    assert done.returncode == 2 and "unrecognized arguments: --querys" in done.stderr
    done = visualize("responses", "--images", "MODEL.WEIGHTS", "x")
    assert done.returncode == 2 and "argument --images: expected at least one argument" in done.stderr


def test_a_config_of_the_project_is_drawn(visualize, tiny_duke, tmp_path):
    keys = ["DATASETS.NAMES", "('OccludedDuke',)", "OUTPUT_DIR", tmp_path / "run"]
    done = visualize("occlusion", "--config-file", ROOT / "configs/Toy/igoas_R18.yml", *keys)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "run" / "occlusion.png")), done.stderr
