"""Runs of a comparison: names, folders, locks, and what may not be mixed."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from filelock import FileLock

from igoas_plugin.core.command_line import stop_on_sigterm
from igoas_plugin.core.errors import InputError
from igoas_plugin.engine.metrics_file import logged_lines
from igoas_plugin.reports.comparison import training
from igoas_plugin.reports.comparison.runs import inputs_of, names_of, plan, refuse_other_inputs, write_inputs
from igoas_plugin.reports.comparison.training import LOCK, commit, made_by, makers_of, seconds_of, train

ROOT = Path(__file__).parents[3]
A, B = "configs/Toy/igoas_R18.yml", "configs/Toy/bagtricks_R18.yml"


def test_every_config_has_every_seed_in_a_folder_of_its_own_seed_by_seed(tmp_path):
    runs = plan([A, B], 2, str(tmp_path), ["SOLVER.MAX_EPOCH", "1"])
    assert [(run.name, run.seed) for run in runs] == [
        ("igoas_R18", 0), ("bagtricks_R18", 0), ("igoas_R18", 1), ("bagtricks_R18", 1),
    ]  # fmt: skip
    assert runs[3].folder == str(tmp_path / "Toy" / "bagtricks_R18" / "seed1")
    assert (runs[3].cfg.SEED, runs[3].cfg.SOLVER.MAX_EPOCH, runs[3].cfg.MODEL.META_ARCHITECTURE) == (1, 1, "Baseline")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("folders, names", [
    (["a/x"], ["x"]),
    (["a/x", "a/y"], ["x", "y"]),
    (["a/x", "b/x", "b/y"], ["a-x", "b-x", "b-y"]),
])  # fmt: skip
def test_names_are_as_short_as_they_can_be(folders, names):
    assert names_of(folders) == names


def test_a_run_has_the_same_folder_whatever_else_is_compared(tmp_path):
    folders = [{run.folder for run in plan(configs, 1, str(tmp_path), [])} for configs in (
        ["configs/OccDuke/igoas_R50.yml"], ["configs/OccDuke/igoas_R50.yml", "configs/Market1501/igoas_R50.yml"],
    )]  # fmt: skip
    assert folders[0] < folders[1] and len(folders[1]) == 2


def test_configs_that_would_share_a_folder_are_refused(tmp_path):
    for part in ("a", "b"):
        (tmp_path / part / "Toy").mkdir(parents=True)
        (tmp_path / part / "Toy" / "x.yml").write_text("SEED: 0\n")
    with pytest.raises(InputError, match="two configs would write into one folder"):
        plan([str(tmp_path / "a/Toy/x.yml"), str(tmp_path / "b/Toy/x.yml")], 1, str(tmp_path), [])


def test_a_config_given_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="given twice"):
        plan([A, os.path.abspath(A)], 1, str(tmp_path), [])


@pytest.mark.parametrize("key", ["SEED", "OUTPUT_DIR"])
def test_seed_and_folder_are_the_comparison_s(key, tmp_path):
    with pytest.raises(InputError, match=f"{key} is set for each run: take --seeds and --output"):
        plan([A], 1, str(tmp_path), [key, "1"])


def written(run, change=lambda text: text):
    os.makedirs(run.folder)
    with open(os.path.join(run.folder, "config.yaml"), "w") as file:
        file.write(change(run.cfg.dump()))


def test_a_run_of_another_config_is_not_mixed_in(tmp_path):
    [run] = plan([A], 1, str(tmp_path), [])
    written(run)
    assert plan([A], 1, str(tmp_path), [])[0].begun
    with pytest.raises(
        InputError, match=r"Toy/igoas_R18/seed0 holds a run of another config \(SOLVER.MAX_EPOCH is 10, not 2\)"
    ):
        plan([A], 1, str(tmp_path), ["SOLVER.MAX_EPOCH", "2"])


def test_identities_that_the_host_has_counted_are_no_other_config(tmp_path):
    [run] = plan([A], 1, str(tmp_path), [])
    written(run, lambda text: text.replace("NUM_CLASSES: 0", "NUM_CLASSES: 64"))
    assert plan([A], 1, str(tmp_path), [])[0].begun
    with pytest.raises(InputError, match="MODEL.HEADS.NUM_CLASSES is 64, not 70"):
        plan([A], 1, str(tmp_path), ["MODEL.HEADS.NUM_CLASSES", "70"])


def test_workers_and_the_way_the_folder_is_written_are_no_other_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [run] = plan([os.path.join(ROOT, A)], 1, "out", [])
    written(run)
    assert plan([os.path.join(ROOT, A)], 1, str(tmp_path / "out"), ["DATALOADER.NUM_WORKERS", "1"])[0].begun


@pytest.mark.parametrize("key, line", [("RESIZE", "      RESIZE: bilinear\n"), ("CUTOUTS", "    CUTOUTS: ''\n")])
def test_a_key_that_came_later_had_its_default(key, line, tmp_path):
    [run] = plan([A], 1, str(tmp_path), [])
    assert line in run.cfg.dump()
    written(run, lambda text: text.replace(line, ""))
    assert plan([A], 1, str(tmp_path), [])[0].begun
    with pytest.raises(InputError, match=f"another config .*{key} is .*, not area"):
        plan([A], 1, str(tmp_path), ["MODEL.IGOAS.MASK_LOSS.RESIZE" if key == "RESIZE" else "MODEL.OCCLUSION.CUTOUTS",
                                     "area"])  # fmt: skip


@pytest.mark.parametrize("text", ["[", "no config", "- 1"])
def test_a_damaged_config_is_one_line(text, tmp_path):
    [run] = plan([A], 1, str(tmp_path), [])
    written(run, lambda _: text)
    with pytest.raises(InputError, match="config.yaml is damaged: remove"):
        plan([A], 1, str(tmp_path), [])


# One run


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Returns a function that replaces the training by a script and returns a run."""

    def make(script):
        path = tmp_path / "fake.py"
        path.write_text(script)
        monkeypatch.setattr(training, "TRAIN_NET", (sys.executable, str(path)))
        return plan([A], 1, str(tmp_path / "out"), [])[0]

    return make


FINISH = "import sys; open(sys.argv[-1] + '/results.json', 'w').write('{}')"
LOG = """
import json, sys
def log(iteration):
    with open(sys.argv[-1] + "/metrics.json", "a") as file:
        file.write(json.dumps({"iteration": iteration}) + "\\n")
    print("logged", iteration, flush=True)
"""


def test_what_a_run_prints_is_kept_and_what_it_logs_is_its_progress(fake):
    run, told = fake(f"{LOG}print('begins', flush=True); log(18); log(120); {FINISH}"), []
    assert train(run, {}, lambda done, loss: told.append((done, loss))) == ""
    assert told[-1] == (121, None) and set(told) <= {(19, None), (121, None)}
    with open(os.path.join(run.folder, "console.txt")) as file:
        assert file.read().splitlines() == ["begins", "logged 18", "logged 120"]
    assert len(seconds_of(run.folder)) == 1 and seconds_of(run.folder)[0] > 0


def test_a_failed_run_gives_its_last_line_and_its_time_is_added(fake):
    run = fake("import sys; print('one'); print('igoas_plugin: two', file=sys.stderr); sys.exit(2)")
    expected = f"exit code 2: igoas_plugin: two; all of its output is in {os.path.join(run.folder, 'console.txt')}"
    assert train(run, {}, print) == train(run, {}, print) == expected
    assert len(seconds_of(run.folder)) == 2


def test_a_run_without_results_has_failed_whatever_its_exit_code(fake):
    assert train(fake(""), {}, print).startswith("exit code 0: no output; ")


def test_a_run_goes_on_from_its_checkpoint_with_the_keys_of_the_comparison(fake):
    run = fake(f"import json, sys; json.dump(sys.argv[1:], open(sys.argv[-1] + '/words', 'w')); {FINISH}")
    train(run, {}, print)
    with open(os.path.join(run.folder, "words")) as file:
        words = json.load(file)
    assert words == ["--config-file", A, "--resume", "SEED", "0", "OUTPUT_DIR", run.folder]


def test_a_run_is_started_by_the_package_not_by_a_file_of_the_checkout():
    executable, flag, module = training.TRAIN_NET
    assert (executable, flag) == (sys.executable, "-m") and find_spec(module) is not None


def test_a_run_that_another_process_trains_is_left_to_it(fake):
    run = fake(FINISH)
    os.makedirs(run.folder)
    with FileLock(os.path.join(run.folder, LOCK)):
        assert train(run, {}, print) is None
    assert not run.done
    assert train(run, {}, print) == "" and run.done


def test_a_run_that_was_finished_meanwhile_is_not_trained_again(fake):
    run = fake("raise SystemExit(1)")
    os.makedirs(run.folder)
    (Path(run.folder) / "results.json").write_text("{}")
    assert train(run, {}, print) == ""


FORK = multiprocessing.get_context("fork")  # a new process would take seconds to import torch


def compare_in_a_process(script, output, told) -> None:
    """Compares one run, and puts a word into the queue for each line of its progress."""
    training.TRAIN_NET = (sys.executable, script)
    stop_on_sigterm()
    training.train(plan([A], 1, output, [])[0], {}, lambda *at: told.put("going on"))


WAIT = f"""
import os, time
{LOG}
log(0)
open(sys.argv[-1] + "/pid", "w").write(str(os.getpid()))
log(1)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
def test_a_comparison_that_is_stopped_stops_its_training(tmp_path):
    (tmp_path / "fake.py").write_text(WAIT)
    told, output = FORK.Queue(), str(tmp_path / "out")
    process = FORK.Process(target=compare_in_a_process, args=(str(tmp_path / "fake.py"), output, told))
    process.start()
    folder = plan([A], 1, output, [])[0].folder
    while logged_lines(folder) != [{"iteration": 0}, {"iteration": 1}]:  # then the process id is written too
        assert told.get(timeout=600) == "going on"
    training_pid = int((Path(folder) / "pid").read_text())
    process.terminate()
    process.join(600)
    assert process.exitcode == 128 + signal.SIGTERM and not is_running(training_pid)
    assert seconds_of(folder)[0] >= 0  # written while the training ran


# Inputs


def test_a_run_on_other_images_or_weights_is_not_mixed_in(tmp_path):
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"one")
    [run] = plan([A], 1, str(tmp_path), ["MODEL.BACKBONE.PRETRAIN_PATH", str(weights)])
    images = {"training images": 10, "X queries": 2}
    inputs = inputs_of(run, images)
    assert len(inputs) == 3
    written(run)
    refuse_other_inputs(run, {})  # started by hand: it has no inputs.json
    os.remove(Path(run.folder) / "config.yaml")
    write_inputs(run, {**inputs, "training images": 5})
    write_inputs(run, inputs)  # the run failed before it began, so the earlier inputs do not count
    (Path(run.folder) / "config.yaml").write_text(run.cfg.dump())
    write_inputs(run, inputs)
    with pytest.raises(InputError, match=r"other data or weights \(training images: 10 then, 20 now\)"):
        refuse_other_inputs(run, {**inputs, "training images": 20})
    with pytest.raises(InputError, match=r"\(X queries: 2 then, None now\)"):
        write_inputs(run, {name: value for name, value in inputs.items() if name != "X queries"})
    weights.write_bytes(b"two")
    with pytest.raises(InputError, match="MODEL.BACKBONE.PRETRAIN_PATH: "):
        refuse_other_inputs(run, inputs_of(run, images))
    (Path(run.folder) / "inputs.json").write_text("{")
    with pytest.raises(InputError, match="inputs.json is damaged: remove"):
        refuse_other_inputs(run, inputs)


def test_a_run_that_would_go_on_with_other_inputs_fails_and_is_not_started(fake):
    run = fake(FINISH)
    written(run)
    (Path(run.folder) / "inputs.json").write_text('{"training images": 10}')
    assert "other data or weights (training images: 10 then, 20 now)" in train(run, {"training images": 20}, print)
    assert not run.done


def test_versions_and_machine_are_written_for_each_attempt_and_reported_once(fake):
    run = fake("raise SystemExit(1)")
    for _ in range(2):
        train(run, {}, print)
    [line] = makers_of([run])
    assert line == made_by("cpu") and "fastreid 1.4.0, torch 2" in line and line.endswith("CPU threads")
    assert len((Path(run.folder) / "made_by.txt").read_text().splitlines()) == 2


def test_the_commit_is_that_of_the_package_s_own_checkout_and_tells_of_changes(tmp_path):
    def git(*words):
        author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", "-C", tmp_path, *author, *words], check=True, capture_output=True, text=True
        ).stdout

    (tmp_path / "part").mkdir()
    assert commit(str(tmp_path)) == ""
    git("init")
    (tmp_path / "other.txt").write_text("1")
    git("add", ".")
    git("commit", "-m", "one")
    assert commit(str(tmp_path)) == f" (commit {git('rev-parse', '--short', 'HEAD').strip()})"
    (tmp_path / "other.txt").write_text("2")
    assert commit(str(tmp_path)).endswith("-dirty)")
    assert commit(str(tmp_path / "part")) == ""  # such as site-packages in a project's folder


def test_without_git_there_is_no_commit(monkeypatch, tmp_path):
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    assert commit(str(tmp_path)) == ""
