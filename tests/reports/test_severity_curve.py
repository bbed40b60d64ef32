"""tools/occlusion_curve.py: every severity and kind, the benchmark's own figures, several models in one file."""

import csv
import json
import re

import numpy as np
import pytest
import torch
from in_process import TINY_NETWORK
from PIL import Image
from tiny_data import make_tiny_market

import igoas_plugin  # noqa: F401  (patches fast-reid)

# isort: split
from fastreid.modeling import build_model

from igoas_plugin.cli.occlusion_curve import models_of
from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.occluded_market.occlude import KINDS, kind_of
from igoas_plugin.reports import severity_curve as module
from igoas_plugin.reports.severity_curve import Point, mixed_kinds, plot, read_csv, write_csv

SETTINGS = ("DATASETS.TESTS", "('OccludedMarket1501',)", "DATASETS.NAMES", "('Market1501',)")


@pytest.fixture
def market(tmp_path, monkeypatch):
    root = tmp_path / "datasets"
    make_tiny_market(root)
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    return root


def save_weights(path, seed) -> str:
    cfg = igoas_plugin.config.load_cfg("configs/Toy/igoas_R18.yml", list(TINY_NETWORK))
    cfg.MODEL.HEADS.NUM_CLASSES = 1
    torch.manual_seed(seed)
    torch.save({"model": build_model(cfg).state_dict()}, path)
    return str(path)


def rows_of(folder):
    with open(folder / "occlusion_curve.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_one_model_gives_a_row_a_kind_and_severity_and_the_benchmark_s_own_figures(run_tool, market, tmp_path):
    weights = save_weights(tmp_path / "weights.pth", seed=0)
    curve = tmp_path / "curve"
    done = run_tool(
        *("MODEL.WEIGHTS", weights, *SETTINGS, *TINY_NETWORK),
        tool="tools/occlusion_curve.py",
        flags=["--output", str(curve)],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = rows_of(curve)
    assert [(row["kind"], row["hidden share %"]) for row in rows] == [
        (kind, share) for kind in KINDS for share in ("0", "5", "10", "15", "23", "32")
    ]
    assert {row["model"] for row in rows} == {"igoas_R18"}
    by_point = {(row["kind"], int(row["hidden share %"])): row for row in rows}
    assert len({tuple(by_point[kind, 0][metric] for metric in ("Rank-1", "mAP")) for kind in KINDS}) == 1
    assert not (market / "OccludedMarket1501").exists()  # the curve writes no images
    # the registered names give the same figures: as files, through fast-reid's own evaluation
    names = {"Market1501": 0, "OccludedMarket1501V2S3": 15, "OccludedMarket1501V2S5": 32}
    pairs = ("MODEL.WEIGHTS", weights, "DATASETS.TESTS", str(tuple(names)), *TINY_NETWORK)
    done = run_tool(*pairs, flags=["--eval-only"])
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    for name, share in names.items():
        for metric in ("Rank-1", "Rank-5", "mAP", "mINP"):
            assert float(by_point["all", share][metric]) == pytest.approx(results[name][metric], abs=0.0051)
    picture = np.asarray(Image.open(curve / "occlusion_curve.png").convert("RGB"))
    assert picture.shape[0] > 500 and picture.shape[1] > 1000 and picture.std() > 10


TOY = ["--config-file", "configs/Toy/igoas_R18.yml"]
MISTAKES = [
    (["--output", "x"], "give each model as --config-file FILE MODEL.WEIGHTS PATH"),
    (["MODEL.WEIGHTS", "a.pth"], "give each model as --config-file FILE MODEL.WEIGHTS PATH"),
    (["--config-file"], "give each model as --config-file FILE MODEL.WEIGHTS PATH"),
    (TOY, "MODEL.WEIGHTS is empty"),
    ([*TOY, "TEST.NFC.K", "0"], "TEST.NFC.K must be 1 or more, got 0"),
    ([*TOY, "MODEL.WEIGHTS", "absent.pth"], "absent.pth does not exist"),
    (3 * TOY, "is given twice"),
]


def test_a_mistake_is_one_line(call_tool, market):
    faults = []
    for words, message in MISTAKES:
        done = call_tool("occlusion_curve", *words)
        line = done.stderr.strip().splitlines()[-1]
        if done.returncode != 2 or not re.match(r"igoas_plugin \S+: ", line) or message not in line:
            faults.append((words, done.returncode, line))
    assert faults == []


def test_a_model_with_and_without_nfc_is_two_lines():
    nfc = ["TEST.NFC.ENABLED", "True"]
    models = models_of([(TOY[1], []), (TOY[1], nfc), (TOY[1], [*nfc, "TEST.NFC.SIDES", "both"])])
    assert [*models] == ["igoas_R18", "igoas_R18 (NFC)", "igoas_R18 (transductive: NFC of query and gallery)"]


def test_the_kind_all_takes_each_query_from_the_kind_that_its_name_gives_it():
    kinds = np.array([kind_of(f"{identity:04d}_c1s1_000001_00") for identity in range(40)])
    single = {
        kind: {"feats": torch.full((40, 2), float(number)), "pids": torch.arange(40), "camids": torch.zeros(40)}
        for number, kind in enumerate(KINDS[1:])
    }
    mixed = mixed_kinds(single, kinds)
    assert mixed["feats"][:, 0].tolist() == [float(KINDS[1:].index(kind)) for kind in kinds]
    assert torch.equal(mixed["pids"], torch.arange(40))
    assert single["rectangle"]["feats"].unique().tolist() == [0.0]  # the parts are not modified


def points(model):
    metrics = dict.fromkeys(("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP"), 12.345)
    return [Point(model, kind, share, metrics) for kind in KINDS for share in range(6)]


def test_several_models_are_lines_of_one_file_and_one_plot(tmp_path, monkeypatch):
    both = points("a") + points("b")
    write_csv(both, str(tmp_path / "occlusion_curve.csv"))
    rows = rows_of(tmp_path)
    assert len(rows) == 60 and {row["model"] for row in rows} == {"a", "b"} and rows[0]["mAP"] == "12.35"
    lines = []
    import matplotlib.axes

    draw = matplotlib.axes.Axes.plot
    monkeypatch.setattr(
        matplotlib.axes.Axes, "plot", lambda *args, **kwargs: lines.append(kwargs["label"]) or draw(*args, **kwargs)
    )
    plot(both, str(tmp_path / "occlusion_curve.png"))
    assert lines == 2 * len(KINDS) * ["a", "b"]
    assert {path.name for path in tmp_path.iterdir()} == {"occlusion_curve.csv", "occlusion_curve.png"}
    assert module.COLUMNS[:3] == ("model", "kind", "hidden share %")


def test_a_file_of_points_is_read_as_it_was_written(tmp_path):
    write_csv(points("a, b"), str(tmp_path / "occlusion_curve.csv"))
    [first, *_] = found = read_csv(str(tmp_path / "occlusion_curve.csv"))
    assert len(found) == 30 and first == Point("a, b", "all", 0, dict.fromkeys(first.metrics, 12.35))


@pytest.mark.parametrize(
    "content",
    ["", "model,kind\na,b\n", "model,kind,hidden share %,Rank-1,Rank-5,Rank-10,mAP,mINP\na,odd,9,1,1,1,1,1\n"],
)
def test_another_file_is_no_file_of_points(tmp_path, content):
    (tmp_path / "curve.csv").write_text(content)
    with pytest.raises(InputError, match="curve.csv is damaged: remove it, or write it again"):
        read_csv(str(tmp_path / "curve.csv"))
