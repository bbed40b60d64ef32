"""Training and test of several configs over several seeds, as tools/compare.py."""

import argparse
import contextlib
import math
import os
import shlex
import sys
import time
from collections import deque
from collections.abc import Callable

from tqdm import tqdm

from igoas_plugin.core.command_line import errors_in_one_line, stop_on_sigterm
from igoas_plugin.core.files import write_atomically
from igoas_plugin.evaluation.results import TRAINED, read_results, shown_name
from igoas_plugin.preflight import check_settings
from igoas_plugin.reports.comparison.cost import Cost, Workload, cost_of, seconds_per_step, workload_of
from igoas_plugin.reports.comparison.measures import rows_of
from igoas_plugin.reports.comparison.plots import write_plots
from igoas_plugin.reports.comparison.runs import Run, inputs_of, plan, refuse_other_inputs
from igoas_plugin.reports.comparison.table import as_csv, markdown
from igoas_plugin.reports.comparison.training import seconds_of, train

BUSY_SECONDS = 5.0  # pause before a run that another process is training is tried again


def estimate(runs: list[Run], loads: dict[str, Workload]) -> None:
    """Prints each run with its state and its duration, estimated from a step and a test batch of each config."""
    seconds = {}
    for run in tqdm([run for run in runs if run.seed == 0], desc="measuring", unit="config", disable=None, leave=False):
        with contextlib.suppress(Exception):  # the run will report why
            seconds[run.name] = loads[run.name].seconds(*seconds_per_step(run.cfg))
    for run in runs:
        state = "done" if run.done else "begun" if run.begun else "new"
        if run.name not in seconds:
            print(f"{run.title}: {state}, its model cannot be built: the run will fail, {run.folder}")
            continue
        print(f"{run.title}: {state}, about {duration(seconds[run.name])} in all, {run.folder}")
    total = sum(seconds.get(run.name, 0) for run in runs if not run.done)
    print(f"To do: about {duration(total)}, without the loading of images and the optimiser")


def duration(seconds: float) -> str:
    """Returns a duration in minutes, from an hour on in hours.

    Example:
        >>> duration(20), duration(12 * 60), duration(90 * 60)
        ('1 min', '12 min', '1.5 h')
    """
    return f"{max(1, round(seconds / 60))} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def run_all(
    runs: list[Run], loads: dict[str, Workload], inputs: dict[str, dict], report: Callable[[dict[str, str]], object]
) -> dict[str, str]:
    """Trains all unfinished runs, and waits for those that another process is training.

    Args:
        runs: runs of all configs.
        loads, inputs: {name of a config: its workload, its inputs}.
        report: is called after each run with the failures so far.

    Returns:
        {folder of a failed run: the last line that it printed}.
    """
    failures, waiting, announced = {}, deque(runs), set()
    bar = tqdm(total=len(runs), desc="runs", unit="run", disable=None)
    while waiting:
        run = waiting.popleft()
        if not run.done:
            if bar.disable and run.folder not in announced:  # no terminal: one line for each run
                print(f"{run.title}: {run.folder}", flush=True)
                announced.add(run.folder)
            line = train_with_bar(run, loads[run.name], inputs[run.name])
            if line is None:
                waiting.append(run)
                time.sleep(BUSY_SECONDS)
                continue
            if line:
                failures[run.folder] = line
            bar.write(f"{run.title} failed, {line}" if line else result_of(run), sys.stderr if line else sys.stdout)
            report(failures)
        bar.update()
    bar.close()
    return failures


def train_with_bar(run: Run, load: Workload, inputs: dict) -> str | None:
    """Trains a run and shows its progress; returns the same as train().

    On a terminal the progress is a bar, else a line at each tenth of the run.
    """
    total = load.epochs * load.iterations
    with tqdm(total=total, desc=run.title, unit="it", disable=None, leave=False, dynamic_ncols=True) as bar:
        tenth = 0

        def progress(done: int, loss: float | None) -> None:
            nonlocal tenth
            shown = "" if loss is None else f"loss {loss:.4g}"
            if not bar.disable:
                bar.set_postfix_str(shown, refresh=False)
                bar.update(done - bar.n)
            elif 10 * done // total > tenth:
                tenth = 10 * done // total
                print(f"{run.title}: iter {done:,}/{total:,}  {shown}".rstrip(), flush=True)

        return train(run, inputs, progress)


def result_of(run: Run) -> str:
    """Returns a line with the metrics of a finished run on each test set, and its duration."""
    metrics = "; ".join(
        f"{shown_name(name, values)} Rank-1 {values.get('Rank-1', math.nan):.1f}, mAP {values.get('mAP', math.nan):.1f}"
        for name, values in read_results(os.path.join(run.folder, TRAINED)).items()
    )
    return f"{run.title}: {metrics}, {duration(sum(seconds_of(run.folder)))}"


def cost_or_none(cfg) -> Cost | None:
    """Returns the cost of a config; None if its model cannot be built: its run will report why."""
    try:
        return cost_of(cfg)
    except Exception:
        return None


def write_reports(runs: list[Run], costs: dict[str, Cost | None], failures: dict[str, str], output: str) -> str:
    """Writes table and plots of the finished runs; returns the table."""
    rows = [row for name, cost in costs.items() for row in rows_of([run for run in runs if run.name == name], cost)]
    table = markdown(rows, runs, failures, shlex.join(["python", *sys.argv]))
    os.makedirs(output, exist_ok=True)
    for name, text in (("results.md", table), ("results.csv", as_csv(rows))):
        write_atomically(os.path.join(output, name), lambda file, text=text: file.write(text.encode()))
    write_plots(rows, runs, output)
    return table


@errors_in_one_line()
def run(args: argparse.Namespace) -> None:
    """Runs the command and ends the process with its exit code.

    Args:
        args: command line of tools/compare.py.
    """
    stop_on_sigterm()
    runs = plan(args.configs, args.seeds, args.output, args.opts)
    first = {run.name: run for run in runs if run.seed == 0}
    for run in first.values():
        check_settings(run.cfg)
    loads = {name: workload_of(run.cfg) for name, run in first.items()}
    inputs = {name: inputs_of(run, loads[name].images) for name, run in first.items()}
    for run in runs:
        refuse_other_inputs(run, inputs[run.name])
    if args.dry_run:
        estimate(runs, loads)
        return
    costs = {name: cost_or_none(run.cfg) for name, run in first.items()}

    def report(failures: dict[str, str]) -> str:
        return write_reports(runs, costs, failures, args.output)

    if any(run.done for run in runs):
        report({})
    failures = run_all(runs, loads, inputs, report)
    print(report(failures))
    print(f"Table and plots are in {args.output}")
    sys.exit(1 if failures else 0)
