"""Images that are deleted, cut off or overwritten while a run reads them."""

import os
import random
import re
from pathlib import Path

import pytest
from faulty_runs import faulty_run, wait_for

SECONDS = 600  # a run must have ended by then; on an idle machine it takes a few, and a stuck one never ends
COPIES = 25  # of the 16 images of a part: 400, of which 1 % are 4


def many_images(folder: Path, copies: int = COPIES) -> list[Path]:
    for path in list(folder.iterdir()):
        for copy in range(1, copies):
            content = path.read_bytes()
            path.with_name(f"{path.stem}{copy:03}.jpg").write_bytes(content)
    return sorted(folder.iterdir())


def damage(paths: list[Path]) -> list[Path]:
    """One image in a hundred is deleted, cut off or overwritten."""
    chosen = random.Random(0).sample(paths, len(paths) // 100)
    for number, path in enumerate(chosen):
        if number % 3 == 0:
            path.unlink()
        elif number % 3 == 1:
            os.truncate(path, 300)
        else:
            path.write_text("<html>404</html>")
    return chosen


def names_one_of(line: str, damaged: list[Path]) -> bool:
    reasons = r"(there is no such file|.*truncated.*|it is no image, or of a kind that is not opened)"
    return any(
        re.fullmatch(rf"igoas_plugin \S+: {re.escape(str(path))} cannot be read: {reasons}", line) for path in damaged
    )


@pytest.mark.fault
def test_a_training_stops_in_one_line_that_names_the_file(tool_command, tiny_duke, tmp_path):
    paths = many_images(tiny_duke / "Occluded_Duke" / "bounding_box_train")
    pairs = ("DATALOADER.NUM_WORKERS", "2", "SOLVER.MAX_EPOCH", "10000", "TEST.EVAL_PERIOD", "10000")
    with faulty_run(tool_command(*pairs), tmp_path) as run:
        wait_for(lambda: run.workers() and run.says("  iter "))
        damaged = damage(paths)
        run.ends(SECONDS)
        assert run.process.returncode == 1
        assert names_one_of(run.last_lines()[-1], damaged), run.last_lines()
        assert "Traceback" not in run.stderr.read_text() + run.log.read_text()
        wait_for(lambda: not run.left(), seconds=120)


@pytest.mark.fault
def test_a_training_that_skips_goes_on_and_counts_them_at_the_end(tool_command, tiny_duke, tmp_path):
    paths = many_images(tiny_duke / "Occluded_Duke" / "bounding_box_train")
    pairs = ("DATALOADER.NUM_WORKERS", "2", "SOLVER.MAX_EPOCH", "10", "DATALOADER.ON_ERROR", "skip")
    with faulty_run(tool_command(*pairs, "SOLVER.IMS_PER_BATCH", "40"), tmp_path) as run:
        wait_for(lambda: run.workers() and run.says("  iter "))
        damaged = damage(paths)
        run.ends(SECONDS)
        assert run.process.returncode == 0, run.last_lines()
        log = run.log.read_text()
        # every later epoch reads every image: all that were damaged are met
        assert f"{len(damaged)} of 400 images could not be read by this process" in log
        assert all(f"{path} cannot be read" in log for path in damaged)
        wait_for(lambda: not run.left(), seconds=120)


@pytest.mark.fault
def test_an_evaluation_stops_in_one_line_that_names_the_file(tool_command, tiny_duke, tmp_path):
    paths = many_images(tiny_duke / "Occluded_Duke" / "bounding_box_test", 400)  # so that it lasts
    pairs = ("DATALOADER.NUM_WORKERS", "2", "DATALOADER.ON_ERROR", "skip")  # of a test set, nothing may be skipped
    with faulty_run(tool_command(*pairs, flags=["--eval-only"]), tmp_path) as run:
        wait_for(run.workers)
        damaged = damage(paths)
        run.ends(SECONDS)
        assert run.process.returncode == 1
        assert names_one_of(run.last_lines()[-1], damaged), run.last_lines()
        wait_for(lambda: not run.left(), seconds=120)
