"""Evaluation over all severities and kinds of occlusion, as tools/occlusion_curve.py."""

import argparse
import os

from igoas_plugin.config import load_cfg
from igoas_plugin.core.command_line import errors_in_one_line, log_to_console
from igoas_plugin.core.errors import InputError
from igoas_plugin.core.files import check_output
from igoas_plugin.datasets.occluded_market.occluded_market_1501 import market_in
from igoas_plugin.evaluation.results import recorded_settings, shown_name
from igoas_plugin.inference.trained import check_trained
from igoas_plugin.preflight import check_model
from igoas_plugin.reports.severity_curve import occlusion_curve, plot, write_csv


def models_of(given: list[tuple[str, list[str]]]) -> dict:
    """Returns {name of a model: its config} from its config file and KEY VALUE pairs; raises InputError for doubles."""
    models = {}
    for file, opts in given:
        cfg = load_cfg(file, opts)
        name = shown_name(os.path.splitext(os.path.basename(file))[0], recorded_settings(cfg))
        if name in models:
            name = f"{name} {cfg.MODEL.WEIGHTS}"
        if name in models:
            raise InputError(f"{file} with MODEL.WEIGHTS {cfg.MODEL.WEIGHTS} is given twice")
        models[name] = cfg
    return models


@errors_in_one_line()
def run(args: argparse.Namespace) -> None:
    """Runs the command and ends the process with its exit code.

    Args:
        args: command line of tools/occlusion_curve.py.
    """
    log_to_console()
    models, root = models_of(args.models), os.getenv("FASTREID_DATASETS", "datasets")
    check_output(args.output)
    market_in(root)
    for cfg in models.values():
        check_trained(cfg)
        check_model(cfg)
    os.makedirs(args.output, exist_ok=True)
    points, files = [], {kind: os.path.join(args.output, f"occlusion_curve.{kind}") for kind in ("csv", "png")}
    for name, cfg in models.items():
        points += occlusion_curve(name, cfg, root)
        write_csv(points, files["csv"])
        plot(points, files["png"])
    print("\n".join(files.values()))
