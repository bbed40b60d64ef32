"""Tries thousands of hostile inputs: python tests/faults/fuzz.py --what images --cases 10000 --seed 1

Each case must end in time with a result or an error of the plugin. Cases run in a process of their own, so that a crash
of the interpreter or a hang outside Python is counted too. A seed determines the cases. Any other end of a case is
printed, and the exit code is 1.
"""

import argparse
import contextlib
import faulthandler
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import igoas_plugin  # noqa: E402, F401  (first: it patches fast-reid)

# isort: split
from hostile import every_case, outcome, peak_megabytes  # noqa: E402

KINDS = ("images", "names", "overrides", "models", "yaml", "checkpoints", "indexes")
PROCESS = 1000  # cases of one process


def target_of(kind: str):
    return importlib.import_module(f"hostile_{kind}").TARGET


def try_cases(kind: str, count: int, seed: int, path: str) -> None:
    """Tries cases in this process, and notes each in a file before and after it is tried."""
    target, stderr = target_of(kind), os.dup(2)
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as notes, open(os.devnull, "w") as devnull:
        os.dup2(devnull.fileno(), 2)  # messages of C libraries

        def note(**what) -> None:
            notes.write(json.dumps(what) + "\n")
            notes.flush()

        def see(case) -> None:
            note(case=repr(case)[:2000])
            faulthandler.dump_traceback_later(15 * target.seconds, exit=True, file=stderr)
            try:
                note(ended=outcome(target, case))
            except BaseException as error:  # any other end is a finding
                note(ended="else", why=f"{type(error).__name__}: {error}"[:2000])
            faulthandler.cancel_dump_traceback_later()

        faulthandler.enable(file=stderr)
        every_case(target, count, seed, see)
        note(megabytes=peak_megabytes())


def count_cases(kind: str, count: int, seed: int) -> tuple[Counter, float]:
    """Returns the number of cases by their end, and the peak memory in MB; prints the findings."""
    ended, megabytes, done, part = Counter(), 0.0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "notes")
        while done < count:
            size = min(PROCESS, count - done)
            words = [kind, "--cases", str(size), "--seed", str(seed * 1000 + part), "--notes", str(notes)]
            process = subprocess.run([sys.executable, __file__, "--what", *words])
            last, finished = "before the first case", 0
            for line in notes.read_text().splitlines() if notes.exists() else ():
                seen = json.loads(line)
                last, megabytes = seen.get("case", last), max(megabytes, seen.get("megabytes", 0))
                if "ended" in seen:
                    finished += 1
                    ended[seen["ended"]] += 1
                    if seen["ended"] == "else":
                        print(f"{kind}: {seen['why']}\n    {last}", flush=True)
            if process.returncode:
                ended["else"] += 1
                finished += 1
                print(f"{kind}: the process ended with {process.returncode}\n    {last}", flush=True)
            with contextlib.suppress(FileNotFoundError):
                notes.unlink()
            done, part = done + max(finished, 1), part + 1
    return ended, megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=KINDS, default=KINDS, help="kinds of input (all)")
    parser.add_argument("--cases", type=int, default=1000, help="of each kind (1000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--notes", help=argparse.SUPPRESS)  # notes of a process that this command starts
    args = parser.parse_args()
    if args.notes:
        return try_cases(args.what[0], args.cases, args.seed, args.notes)
    rows, wrong = ["what          seed   cases  result  own error  anything else  seconds  peak MB"], 0
    for kind in args.what:
        started = time.monotonic()
        ended, megabytes = count_cases(kind, args.cases, args.seed)
        wrong += ended["else"]
        rows.append(
            f"{kind:12} {args.seed:5} {ended.total():7} {ended['result']:7} {ended['own error']:10} {ended['else']:14} "
            f"{time.monotonic() - started:8.0f} {megabytes:8.0f}"
        )
    print("\n".join(rows))
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
