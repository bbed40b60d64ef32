"""Evaluates models on OccludedMarket1501 over all severities and kinds of occlusion: a CSV file and a plot.

python tools/occlusion_curve.py --config-file FILE MODEL.WEIGHTS PATH [KEY VALUE ...]
                               [--config-file FILE MODEL.WEIGHTS PATH ...] [--output FOLDER]
"""

import argparse
import os

from igoas_plugin.config import load_cfg
from igoas_plugin.core.command_line import errors_in_one_line, log_to_console
from igoas_plugin.core.errors import InputError
from igoas_plugin.core.files import check_output
from igoas_plugin.datasets.occluded_market.occluded_market_1501 import market_in
from igoas_plugin.inference.trained import check_trained
from igoas_plugin.preflight import check_model
from igoas_plugin.reports.severity_curve import occlusion_curve, plot, write_csv


def models_of(words: list[str]) -> dict:
    """Returns {name of a model: its config} from ``--config-file FILE KEY VALUE ... --config-file FILE ...``."""
    if words[:1] != ["--config-file"] or words[-1] == "--config-file":
        raise InputError("give each model as --config-file FILE MODEL.WEIGHTS PATH, with further KEY VALUE pairs")
    starts = [index for index, word in enumerate(words) if word == "--config-file"]
    groups = [words[start + 1 : end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
    models = {}
    for file, *opts in groups:
        cfg = load_cfg(file, opts)
        name = os.path.splitext(os.path.basename(file))[0]
        if name in models:
            name = f"{name} {cfg.MODEL.WEIGHTS}"
        if name in models:
            raise InputError(f"{file} with MODEL.WEIGHTS {cfg.MODEL.WEIGHTS} is given twice")
        models[name] = cfg
    return models


@errors_in_one_line()
def run() -> None:
    """Runs the command line and ends the process with its exit code."""
    log_to_console()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", default="logs/occlusion_curve", help="folder of the results (default: %(default)s)")
    args, words = parser.parse_known_args()
    models, root = models_of(words), os.getenv("FASTREID_DATASETS", "datasets")
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
