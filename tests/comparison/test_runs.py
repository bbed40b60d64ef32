"""Which runs a comparison has, where they are, and what is not mixed up."""

import json
import os
import sys

import pytest

from igoas_plugin.comparison import training
from igoas_plugin.comparison.runs import names_of, plan
from igoas_plugin.comparison.training import seconds_of, train
from igoas_plugin.errors import InputError

A, B = "configs/Toy/igoas_R18.yml", "configs/Toy/bagtricks_R18.yml"


def test_every_config_has_every_seed_in_a_folder_of_its_own_seed_by_seed(tmp_path):
    runs = plan([A, B], 2, str(tmp_path), ["SOLVER.MAX_EPOCH", "1"])
    assert [(run.name, run.seed) for run in runs] == [
        ("igoas_R18", 0), ("bagtricks_R18", 0), ("igoas_R18", 1), ("bagtricks_R18", 1),
    ]  # fmt: skip
    assert runs[3].folder == str(tmp_path / "bagtricks_R18" / "seed1")
    assert (runs[3].cfg.SEED, runs[3].cfg.SOLVER.MAX_EPOCH, runs[3].cfg.MODEL.META_ARCHITECTURE) == (1, 1, "Baseline")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("paths, names", [
    (["a/x.yml"], ["x"]),
    (["a/x.yml", "a/y.yml"], ["x", "y"]),
    (["a/x.yml", "b/x.yml"], ["a-x", "b-x"]),
    (["a/b/x.yml", "c/b/x.yml", "c/b/y.yml"], ["a-b-x", "c-b-x", "c-b-y"]),
])  # fmt: skip
def test_names_are_as_short_as_they_can_be(paths, names):
    assert names_of(paths) == names


def test_a_config_given_twice_is_refused():
    with pytest.raises(InputError, match="given twice"):
        names_of([A, os.path.abspath(A)])


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
        InputError, match=r"igoas_R18/seed0 holds a run of another config \(SOLVER.MAX_EPOCH is 5, not 2\)"
    ):
        plan([A], 1, str(tmp_path), ["SOLVER.MAX_EPOCH", "2"])


def test_identities_that_the_host_has_counted_are_no_other_config(tmp_path):
    [run] = plan([A], 1, str(tmp_path), [])
    written(run, lambda text: text.replace("NUM_CLASSES: 0", "NUM_CLASSES: 64"))
    assert plan([A], 1, str(tmp_path), [])[0].begun
    with pytest.raises(InputError, match="MODEL.HEADS.NUM_CLASSES is 64, not 70"):
        plan([A], 1, str(tmp_path), ["MODEL.HEADS.NUM_CLASSES", "70"])


@pytest.mark.parametrize("text", ["[", "SEED: 1", "no config"])
def test_a_damaged_config_is_one_line(text, tmp_path):
    [run] = plan([A], 1, str(tmp_path), [])
    written(run, lambda _: text)
    with pytest.raises(InputError, match="config.yaml is damaged, or of another version: remove"):
        plan([A], 1, str(tmp_path), [])


# One run


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts a script in the place of tools/train_net.py; gives a run."""

    def make(script):
        path = tmp_path / "fake.py"
        path.write_text(script)
        monkeypatch.setattr(training, "TRAIN_NET", str(path))
        return plan([A], 1, str(tmp_path / "out"), [])[0]

    return make


FINISH = "import sys; open(sys.argv[-1] + '/results.json', 'w').write('{}')"


def test_what_a_run_prints_is_kept_and_its_progress_told(fake):
    run, told = fake(f"print('  eta: 1  epoch/iter: 0/19  x'); print('epoch/iter: 3/121 '); {FINISH}"), []
    assert train(run, lambda *at: told.append(at)) == ""
    assert told == [(0, 19), (3, 121)]
    with open(os.path.join(run.folder, "console.txt")) as file:
        assert file.read().splitlines()[1] == "epoch/iter: 3/121 "
    assert len(seconds_of(run.folder)) == 1 and seconds_of(run.folder)[0] > 0


def test_the_last_words_of_a_run_that_fails_are_given_and_its_time_is_added(fake):
    run = fake("import sys; print('one'); print('igoas_plugin: two', file=sys.stderr); sys.exit(2)")
    assert train(run, print) == train(run, print) == "exit code 2: igoas_plugin: two"
    assert len(seconds_of(run.folder)) == 2


def test_a_run_without_results_has_failed_whatever_its_exit_code(fake):
    assert train(fake(""), print) == "exit code 0: no output"


def test_a_run_goes_on_from_its_checkpoint_with_the_keys_of_the_comparison(fake):
    run = fake(f"import json, sys; json.dump(sys.argv[1:], open(sys.argv[-1] + '/words', 'w')); {FINISH}")
    train(run, print)
    with open(os.path.join(run.folder, "words")) as file:
        words = json.load(file)
    assert words == ["--config-file", A, "--resume", "SEED", "0", "OUTPUT_DIR", run.folder]


def test_the_tool_is_where_the_package_expects_it():
    assert os.path.isfile(training.TRAIN_NET) and sys.executable
