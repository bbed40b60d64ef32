"""Training and test of several configs over several seeds, as tools/compare.py."""

import argparse
import os
import shlex
import sys
import time
from collections import deque
from collections.abc import Callable

from tqdm import tqdm

from igoas_plugin.core.command_line import errors_in_one_line, stop_on_sigterm
from igoas_plugin.core.files import write_atomically
from igoas_plugin.preflight import check_settings
from igoas_plugin.reports.comparison.cost import Cost, Workload, cost_of, seconds_per_step, workload_of
from igoas_plugin.reports.comparison.measures import rows_of
from igoas_plugin.reports.comparison.plots import write_plots
from igoas_plugin.reports.comparison.runs import Run, inputs_of, plan, refuse_other_inputs
from igoas_plugin.reports.comparison.table import as_csv, markdown
from igoas_plugin.reports.comparison.training import train

BUSY_SECONDS = 5.0  # pause before a run that another process is training is tried again


def estimate(runs: list[Run], loads: dict[str, Workload], costs: dict[str, Cost | None]) -> None:
    """Prints each run with its state and its duration, estimated from a few steps."""
    measured = [run for run in runs if run.seed == 0 and costs[run.name] is not None]
    seconds = {
        run.name: loads[run.name].seconds(*seconds_per_step(run.cfg))
        for run in tqdm(measured, desc="measuring", unit="config", disable=None, leave=False)
    }
    for run in runs:
        state = "done" if run.done else "begun" if run.begun else "new"
        if run.name not in seconds:
            print(f"{run.title}: {state}, its model cannot be built: the run will fail, {run.folder}")
            continue
        print(f"{run.title}: {state}, about {seconds[run.name] / 60:.1f} minutes in all, {run.folder}")
    total = sum(seconds.get(run.name, 0) for run in runs if not run.done)
    print(f"To do: about {total / 3600:.1f} hours, without the loading of images and the optimiser")


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
                print(f"{run.title} failed, {line}", file=sys.stderr)
            report(failures)
        bar.update()
    bar.close()
    return failures


def train_with_bar(run: Run, load: Workload, inputs: dict) -> str | None:
    """Trains a run behind a progress bar; returns the same as train()."""
    with tqdm(total=load.epochs * load.iterations, desc=run.title, unit="it", disable=None, leave=False) as bar:
        return train(run, inputs, progress=lambda done: bar.update(done - bar.n))


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
    costs = {name: cost_or_none(run.cfg) for name, run in first.items()}
    if args.dry_run:
        estimate(runs, loads, costs)
        return

    def report(failures: dict[str, str]) -> str:
        return write_reports(runs, costs, failures, args.output)

    if any(run.done for run in runs):
        report({})
    failures = run_all(runs, loads, inputs, report)
    print(report(failures))
    print(f"Table and plots are in {args.output}")
    sys.exit(1 if failures else 0)
