"""Means over seeds, costs, published figures, table and plots."""

import csv
import dataclasses
import fnmatch
import io
import json
import os
from pathlib import Path

import pytest
import torch
from fastreid.evaluation import rank
from in_process import TINY_NETWORK
from PIL import Image

import igoas_plugin
from igoas_plugin.config import load_cfg
from igoas_plugin.datasets.published import PROTOCOL_OF
from igoas_plugin.preflight import build_scratch_model
from igoas_plugin.reports.comparison.cost import cost_of, seconds_per_step, workload_of
from igoas_plugin.reports.comparison.measures import Mean, rows_of
from igoas_plugin.reports.comparison.plots import bars, training_curves, write_plots
from igoas_plugin.reports.comparison.published_results import published_on
from igoas_plugin.reports.comparison.runs import plan
from igoas_plugin.reports.comparison.table import as_csv, markdown
from igoas_plugin.reports.figures.figure_file import palette

A = "configs/Market1501/igoas_R18_128x64.yml"


def finished(tmp_path, ranks=((60.0, 62.0), (64.0, 63.0)), tests="('Market1501',)"):
    """Writes finished runs of one config, with the given Rank-1 of two epochs for each seed."""
    runs = plan([A], len(ranks), str(tmp_path), ["DATASETS.TESTS", tests])
    sets = runs[0].cfg.DATASETS.TESTS
    for run, values in zip(runs, ranks, strict=True):
        os.makedirs(run.folder)
        lines = []
        for epoch, value in enumerate(values):
            names = {"Rank-1": value} if len(sets) == 1 else {f"{name}/Rank-1": value for name in sets}
            lines.append({"iteration": 200 * epoch + 199, "time": 0.5, "total_loss": 3.0 - epoch - run.seed, **names})
        metrics = {"Rank-1": values[-1], "Rank-5": 80.0, "Rank-10": 85.0, "mAP": 40.0 + run.seed, "mINP": 10.0}
        results = {name: {**metrics, "CMC": [50, 60 + run.seed]} for name in sets}
        files = {
            "metrics.json": "\n".join(map(json.dumps, lines)) + '\n{"cut off',
            "seconds.json": "[60.0, 60.0]",
            "made_by.txt": f"machine {run.seed}\n",
            "results.json": json.dumps(results),
        }
        for name, content in files.items():
            with open(os.path.join(run.folder, name), "w") as file:
                file.write(content)
    return runs


@pytest.fixture(scope="module")
def cost():
    return cost_of(load_cfg(A))


def test_means_and_sample_deviations_of_the_last_epoch(tmp_path, cost):
    [row] = rows_of(finished(tmp_path), cost)
    assert row.seeds == 2 and row.name == "igoas_R18_128x64"
    # 62 and 63: mean 62.5, deviation sqrt(2 * 0.5^2 / 1)
    assert (row.metrics["Rank-1"].mean, row.metrics["Rank-1"].deviation) == (62.5, pytest.approx(0.5**0.5))
    assert (row.metrics["mAP"].mean, row.metrics["Rank-5"]) == (40.5, Mean(80.0, 0.0))
    assert row.best.mean == 63.0  # of 62 and 64: the best epochs
    assert row.cmc == [50, 60.5]
    assert row.images_per_second.mean == 64 / 0.5 and row.minutes.mean == 2


def test_runs_that_are_not_done_are_left_out(tmp_path, cost):
    runs = finished(tmp_path)
    os.remove(os.path.join(runs[1].folder, "results.json"))
    [row] = rows_of(runs, cost)
    assert (row.seeds, row.metrics["Rank-1"]) == (1, Mean(62.0, None))
    os.remove(os.path.join(runs[0].folder, "results.json"))
    [row] = rows_of(runs, cost)
    assert (row.seeds, str(row.metrics["Rank-1"])) == (0, "")


def test_several_test_sets_are_rows_each(tmp_path, cost):
    runs = finished(tmp_path, tests="('PartialREID', 'PartialiLIDS')")
    assert [(row.data_set, row.best.mean) for row in rows_of(runs, cost)] == [("PartialREID", 63), ("PartialiLIDS", 63)]


def test_figures_without_the_camera_rule_are_marked_and_stand_in_a_table_of_their_own(tmp_path, cost):
    runs = finished(tmp_path)
    for run in runs:
        path = os.path.join(run.folder, "results.json")
        with open(path) as file:
            results = json.load(file)
        results["Market1501"]["TEST.CAMERA_RULE"] = False
        with open(path, "w") as file:
            json.dump(results, file)
    [row] = rows = rows_of(runs, cost)
    assert row.data_set == "Market1501 (without the camera rule)" and row.best.mean == 63.0
    text = markdown(rows, runs, {}, "")
    assert "## Market1501 (without the camera rule), trained on Market1501" in text and "IGOAS, TIP 2021" not in text


def test_figures_of_nfc_are_marked_and_stand_apart_from_published_ones(tmp_path, cost):
    runs = finished(tmp_path)
    for run in runs:
        path = Path(run.folder, "results.json")
        results = json.loads(path.read_text())
        results["Market1501"]["steps"] = ["NFC"]
        path.write_text(json.dumps(results))
    rows = rows_of(runs, cost)
    text = markdown(rows, runs, {}, "")
    assert "## Market1501 (NFC), trained on Market1501" in text and "IGOAS, TIP 2021" not in text
    assert [line["data_set"] for line in csv.DictReader(io.StringIO(as_csv(rows)))] == ["Market1501 (NFC)"]
    [*panels] = bars(rows, ["Market1501 (NFC)"], {rows[0].name: "C0"}).axes
    assert [panel.get_title() for panel in panels] == 2 * ["Market1501 (NFC)"]


def test_the_table_has_our_rows_and_the_published_ones_marked(tmp_path, cost):
    runs = finished(tmp_path, tests="('Market1501', 'PartialiLIDS')")
    text = markdown(rows_of(runs, cost), runs, {"logs/x/seed2": "exit code 2: no"}, "python it")
    market, partial = text.split("## ")[1:3]
    assert market.startswith("Market1501, trained on Market1501\n") and "Command: `python it`" in text
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in market.splitlines()]
    ours = next(line for line in lines if line[0] == "igoas_R18_128x64")
    assert ours[1:4] == ["2", "62.5 ± 0.7", "40.5 ± 0.7"] and ours[-2:] == ["63.0 ± 1.4", "this comparison"]
    theirs = next(line for line in lines if line[0] == "IGOAS, TIP 2021")
    assert (theirs[1], theirs[2], theirs[3], theirs[-1]) == ("", "93.4", "84.1", "published: its paper")
    assert "FastReID-DSR, 2020" in partial and "PGFA, ICCV 2019" in partial
    assert "## Failed\n\n- logs/x/seed2: exit code 2: no" in text
    assert text.endswith("The runs were made by:\n\n- machine 0\n- machine 1\n")


def test_figures_of_another_training_set_are_not_added(tmp_path, cost):
    assert published_on("PartialREID", "OccludedDuke") == []
    assert published_on("OccludedREID", "Market1501 + OccludedDuke") == []
    assert len(published_on("OccludedREID", "Market1501")) == 17


@pytest.mark.parametrize("key, value", [("NAMES", ("DukeMTMC",)), ("COMBINEALL", True)])
def test_another_training_has_a_table_of_its_own_with_its_published_rows(key, value, tmp_path, cost):
    runs = finished(tmp_path)
    other = dataclasses.replace(runs[0], name="other", cfg=runs[0].cfg.clone())
    other.cfg.DATASETS[key] = value
    rows = rows_of(runs, cost) + rows_of([other], cost)
    ours, theirs = markdown(rows, [*runs, other], {}, "").split("## ")[1:]
    assert "IGOAS, TIP 2021" in ours and "| other" not in ours
    assert "| other" in theirs and "IGOAS, TIP 2021" not in theirs
    table = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert [row["trained_on"] for row in table if row["config"] == "other"] == [
        "DukeMTMC" if key == "NAMES" else "Market1501, all images"
    ]
    assert sum(row["config"] == "IGOAS" for row in table) == 1


def test_a_model_that_cannot_be_built_has_a_row_without_costs(tmp_path):
    runs = finished(tmp_path)
    rows = rows_of(runs, None)
    assert "| 62.5 ± 0.7 |" in markdown(rows, runs, {}, "") and "flops" in as_csv(rows)


def test_the_mean_of_ten_draws_is_added_to_draws_alone():
    assert published_on("OccludedREIDHalfSplit", "OccludedREIDHalfSplit") == []
    [row] = published_on("OccludedREIDHalfSplit3", "OccludedREIDHalfSplit3")
    assert row.metrics == {"Rank-1": 81.1, "Rank-5": 91.6}


def test_every_published_row_is_of_a_registered_protocol_with_a_source():
    from fastreid.data.datasets import DATASET_REGISTRY

    from igoas_plugin.reports.comparison import published_results

    with (published_results.files(published_results.__package__) / "published_results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 40 and "OccludedREIDHalfSplit0" in PROTOCOL_OF
    for row in rows:
        for name in (row["data_set"], row["trained_on"]):
            assert fnmatch.filter(DATASET_REGISTRY._obj_map, name), name
        assert row["source"]
        figures = [float(row[metric]) for metric in ("Rank-1", "Rank-5", "mAP") if row[metric]]
        assert figures and all(0 < figure <= 100 for figure in figures)


def test_a_method_without_a_published_rank_1_stands_first_with_its_map():
    first, second = published_on("OccludedDuke", "OccludedDuke")[:2]
    assert (first.title, first.metrics) == ("ProFD, MM 2024", {"mAP": 63.1}) and second.metrics["Rank-1"] == 47.0


def test_methods_that_use_the_whole_gallery_are_marked_in_every_table(tmp_path, cost):
    runs = finished(tmp_path, tests="('OccludedREID',)")
    rows = rows_of(runs, cost)
    marked = [row.title for row in published_on("OccludedREID", "Market1501") if "Pose2ID" in row.title]
    assert marked == [f"{name} + Pose2ID (transductive), CVPR 2025" for name in ("BPBreID", "KPR")]
    assert all(f"| {title} " in markdown(rows, runs, {}, "") for title in marked)
    assert as_csv(rows).count(" + Pose2ID (transductive)") == 2
    assert "transductive" in markdown(rows, runs, {}, "").split("Published rows are")[1]


def test_fast_reids_model_zoo_stands_beside_its_methods_on_market1501():
    zoo = [row for row in published_on("Market1501", "Market1501") if row.source == "model zoo of JDAI-CV/fast-reid"]
    assert [(row.title, row.metrics["Rank-1"], row.metrics["mAP"]) for row in zoo] == [
        ("BoT (ResNet-50)", 94.4, 86.1),
        ("AGW (ResNet-50)", 95.3, 88.2),
        ("SBS (ResNet-50)", 95.4, 88.2),
        ("SBS (ResNet-50-IBN)", 95.7, 89.3),
        ("MGN (ResNet-50-IBN)", 95.8, 89.8),
    ]


def test_the_csv_has_all_numbers(tmp_path, cost):
    runs = finished(tmp_path)
    rows = list(csv.DictReader(io.StringIO(as_csv(rows_of(runs, cost)))))
    assert (rows[0]["config"], rows[0]["Rank-1_mean"], rows[0]["mAP_mean"]) == ("igoas_R18_128x64", "62.5", "40.5")
    assert float(rows[0]["Rank-1_std"]) == pytest.approx(0.5**0.5) and int(rows[0]["flops"]) == cost.flops
    assert (rows[1]["config"], rows[1]["source"], rows[1]["seeds"]) == ("IGOAS", "published: its paper", "")


def test_three_plots_are_written(tmp_path, cost):
    runs = finished(tmp_path, tests="('PartialREID', 'PartialiLIDS')")
    write_plots(rows_of(runs, cost), runs, str(tmp_path))
    for name in ("bars.png", "cmc.png", "training.png"):
        with Image.open(tmp_path / name) as image:
            assert len(image.convert("L").getcolors()) > 10


def test_what_was_logged_from_where_a_training_went_on_or_began_anew_is_left_out(tmp_path, cost):
    runs = finished(tmp_path, ranks=((60.0, 62.0),))
    with open(os.path.join(runs[0].folder, "metrics.json"), "a") as file:
        file.write('"}\n' + json.dumps({"iteration": 199, "time": 0.5, "total_loss": 8.0}))
    figure = training_curves(runs, palette([runs[0].name]))
    [line] = figure.axes[0].lines
    assert line.get_xdata().tolist() == [200] and line.get_ydata().tolist() == [8.0]


def test_nothing_is_plotted_where_nothing_is_done(tmp_path, cost):
    runs = plan([A], 1, str(tmp_path), [])
    write_plots(rows_of(runs, cost), runs, str(tmp_path))
    assert not os.listdir(tmp_path)


# Costs


def test_parameters_are_those_of_the_descriptor_and_operations_are_counted():
    cfg = load_cfg("configs/Toy/bagtricks_R18.yml")
    cfg.MODEL.HEADS.NUM_CLASSES = 700
    model = build_scratch_model(cfg, identities=2)
    assert model.heads.weight.shape == (700, 512)
    cost = cost_of(cfg)
    assert cost.parameters == sum(each.numel() for each in model.parameters()) - 700 * 512
    # the stem's 7x7 convolution alone: 64 x 32 places, 64 filters of 3 x 7 x 7, two operations each
    assert cost.flops > 2 * 64 * 32 * 64 * 3 * 49


def test_a_descriptor_of_one_branch_costs_parameters_and_operations_of_one():
    cfg = load_cfg("configs/Toy/igoas_R18.yml")
    joint = cost_of(cfg)
    cfg.MODEL.IGOAS.DESCRIPTOR = "global"
    one = cost_of(cfg)
    assert one.parameters < 0.7 * joint.parameters and one.flops < 0.8 * joint.flops


@pytest.mark.parametrize("amp", [False, True])
def test_the_time_of_a_step_is_measured(amp):
    cfg = load_cfg("configs/Toy/igoas_R18.yml", list(TINY_NETWORK))
    cfg.SOLVER.IMS_PER_BATCH, cfg.TEST.IMS_PER_BATCH, cfg.SOLVER.AMP.ENABLED = 2, 2, amp
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [32, 16]
    assert all(seconds > 0 for seconds in seconds_per_step(cfg, steps=1))


@pytest.mark.gpu
def test_the_time_of_a_step_is_measured_on_a_gpu():
    cfg = load_cfg("configs/Toy/igoas_R18.yml", ["MODEL.DEVICE", "cuda"])
    assert all(seconds > 0 for seconds in seconds_per_step(cfg, steps=1))


def test_the_workload_counts_steps_and_evaluations(data_root):
    cfg = igoas_plugin.get_cfg()
    cfg.DATASETS.NAMES, cfg.DATASETS.TESTS = ("TinyReID",), ("TinyReID", "TinyReID")
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_EPOCH, cfg.TEST.EVAL_PERIOD, cfg.TEST.IMS_PER_BATCH = 6, 7, 3, 5
    load = workload_of(cfg)
    # 16 images: 2 steps; evaluated after epochs 3, 6 and 7; 8 queries and 16 of the gallery in batches of 5, then the
    # queries alone: the second set has the same gallery
    assert load[:4] == (7, 2, 3, 5 + 2)
    assert load.images == {
        "training identities": 4,
        "training images": 16,
        "TinyReID queries": 8,
        "TinyReID gallery": 16,
    }
    assert load.seconds(step=2.0, test_batch=0.5) == 7 * 2 * 2 + 3 * 7 * 0.5
    cfg.TEST.EVAL_PERIOD = 0
    assert workload_of(cfg).evaluations == 1


def test_the_whole_curve_of_each_data_set_is_in_the_results(tmp_path):
    import numpy as np

    from igoas_plugin.evaluation.results import save_results
    from igoas_plugin.fastreid_fixes.dense_ranking import RECENT_CMC

    cfg = igoas_plugin.get_cfg()
    cfg.OUTPUT_DIR, cfg.DATASETS.TESTS = str(tmp_path), ("X", "Y")
    RECENT_CMC.clear()
    pids, camids = np.arange(60), np.zeros(60, dtype=int)
    for wrong in (0, 3):
        distances = np.full((1, 60), 9.0, dtype=np.float32)
        distances[0, : wrong + 1] = np.arange(wrong + 1)
        rank.evaluate_rank(distances, pids[wrong : wrong + 1], pids, camids[:1] + 1, camids)
    path = save_results({"X": {"Rank-1": 100.0}, "Y": {"Rank-1": 0.0}}, cfg)
    with open(path) as file:
        saved = json.load(file)
    assert saved["X"]["CMC"] == [100.0] * 50 and saved["Y"]["CMC"] == [0.0] * 3 + [100.0] * 47
    assert torch.tensor(saved["Y"]["CMC"]).diff().min() >= 0
