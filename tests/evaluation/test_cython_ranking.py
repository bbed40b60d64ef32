import igoas_plugin  # first: it mends the host

# isort: split
import json
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fastreid.evaluation import ReidEvaluator, rank, rank_cylib, roc

from igoas_plugin.checkpoint import imagenet
from igoas_plugin.evaluation import cython_ranking, host_metrics
from igoas_plugin.fastreid_fixes import images, regnet_files, transforms

PACKAGE = Path(rank_cylib.__file__).parent
NO_COMPILER = "import sys; sys.exit('rank_cy.c:1:10: fatal error: Python.h: No such file')"


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """The host as on a machine where nothing is built yet; returns its cache folder, which is empty."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(rank_cylib, "__path__", [str(PACKAGE)])
    for module, function in ((rank, "evaluate_cy"), (roc, "evaluate_roc_cy")):
        monkeypatch.setattr(module, "IS_CYTHON_AVAI", False)
        monkeypatch.setattr(module, function, None, raising=False)
    for name in cython_ranking.MODULES:
        monkeypatch.setitem(sys.modules, f"{rank_cylib.__name__}.{name}", None)
        monkeypatch.delitem(sys.modules, f"{rank_cylib.__name__}.{name}")
    cython_ranking.compile_helper.cache_clear()
    yield cache
    cython_ranking.compile_helper.cache_clear()


def host_ranks():
    cfg = igoas_plugin.get_cfg()
    cfg.TEST.RANKING = "host"
    return cfg


@pytest.fixture(scope="session")
def build(pytestconfig) -> Path:
    """A real build: the first run of the tests makes it, in about 20 seconds, later ones find it again."""
    folder = Path(pytestconfig.cache.mkdir("ranking"), cython_ranking.builds_folder().name)
    kept = [each for each in folder.glob("[!.]*") if cython_ranking.is_intact(each)]
    return kept[0] if kept else cython_ranking.build_into(folder)


@pytest.fixture
def built(fresh, build) -> Path:
    """The host with its Cython ranking."""
    assert cython_ranking.load(build)
    return build


def random_gallery(seed: int, queries: int = 20, gallery: int = 80, people: int = 6):
    draw = np.random.default_rng(seed)
    return (
        draw.random((queries, gallery), dtype=np.float32),
        draw.integers(people, size=queries),
        draw.integers(people, size=gallery),
        draw.integers(3, size=queries),
        draw.integers(3, size=gallery),
    )


def warnings_of(host_log) -> list[str]:
    return [record.getMessage() for record in host_log.records if record.levelno == logging.WARNING]


def test_without_the_plugin_make_works_inside_the_package_and_its_failure_ends_the_run(raw_host):
    assert raw_host["failed_make"] == {"exit": 1, "inside": True}


def test_without_the_plugin_importing_the_rankings_warns_twice(raw_host):
    assert raw_host["warnings_at_import_of_ranking"] == 2


@pytest.mark.parametrize("gallery", [80, 12, 5])
def test_cython_and_python_rank_alike(built, gallery):
    for seed in range(5):
        distances = random_gallery(seed, gallery=gallery)
        for by_cython, by_python in zip(
            rank.evaluate_rank(*distances, use_cython=True),
            rank.evaluate_rank(*distances, use_cython=False),
            strict=True,
        ):
            np.testing.assert_allclose(by_cython, by_python, rtol=1e-5, atol=1e-6)


def test_cython_and_python_agree_on_the_roc(built):
    for seed in range(5):
        distances = random_gallery(seed)
        scores, labels = roc.evaluate_roc(*distances, use_cython=True)
        expected_scores, expected_labels = roc.evaluate_roc(*distances, use_cython=False)
        np.testing.assert_allclose(scores, expected_scores, rtol=1e-6)
        np.testing.assert_array_equal(labels, expected_labels)


def test_the_host_imports_the_build_by_its_own_name(built):
    from fastreid.evaluation.rank_cylib.rank_cy import evaluate_cy

    assert rank.evaluate_cy is evaluate_cy
    assert rank.IS_CYTHON_AVAI and roc.IS_CYTHON_AVAI


def test_a_cached_build_needs_neither_a_compiler_nor_a_warning(fresh, build, monkeypatch, host_log):
    shutil.copytree(build, cython_ranking.builds_folder() / "kept")
    monkeypatch.setattr(cython_ranking, "BUILD", NO_COMPILER)
    cython_ranking.compile_helper()
    assert rank.IS_CYTHON_AVAI
    assert rank_cylib.__path__[0] == str(cython_ranking.builds_folder() / "kept")
    assert warnings_of(host_log) == []


def test_a_torn_build_is_not_loaded_but_replaced(fresh, build, monkeypatch, host_log):
    torn = cython_ranking.builds_folder() / "torn"
    shutil.copytree(build, torn)
    library = torn / cython_ranking.LIBRARIES[0]
    library.write_bytes(library.read_bytes()[: library.stat().st_size // 2])
    monkeypatch.setattr(cython_ranking, "build_into", lambda folder: shutil.copytree(build, folder / "anew"))
    cython_ranking.compile_helper()
    assert rank.IS_CYTHON_AVAI
    assert [path.name for path in cython_ranking.builds_folder().iterdir()] == ["anew"]
    assert warnings_of(host_log) == []


def test_an_unfinished_build_of_another_process_is_left_alone(fresh, build):
    shutil.copytree(build, cython_ranking.builds_folder() / ".building-other")
    assert not cython_ranking.load_cached(cython_ranking.builds_folder())
    assert not rank.IS_CYTHON_AVAI


def test_libraries_of_another_machine_do_not_harm(fresh, monkeypatch, host_log):
    foreign = cython_ranking.builds_folder() / "foreign"
    foreign.mkdir(parents=True)
    for library in cython_ranking.LIBRARIES:
        (foreign / library).write_bytes(b"not a library of this machine")
    (foreign / cython_ranking.SUMS).write_text(json.dumps(cython_ranking.sums_of(foreign)))
    monkeypatch.setattr(cython_ranking, "BUILD", NO_COMPILER)
    cython_ranking.compile_helper()
    assert not rank.IS_CYTHON_AVAI
    assert rank_cylib.__path__ == [str(PACKAGE)]
    assert len(warnings_of(host_log)) == 1


@pytest.mark.parametrize(
    "build_script, seconds, said",
    [
        (NO_COMPILER, 600, "Python.h: No such file"),
        ("import no_such_cython", 600, "No module named 'no_such_cython'"),
        ("import os; os.abort()", 600, "exit status -6"),
        ("import time; time.sleep(600)", 1, "more than 1 s"),
        ("", 600, "No such file or directory"),  # it says that it has built, but there is nothing
    ],
)
def test_a_failed_build_is_told_once_and_python_ranks(fresh, monkeypatch, host_log, build_script, seconds, said):
    monkeypatch.setattr(cython_ranking, "BUILD", build_script)
    monkeypatch.setattr(cython_ranking, "BUILD_SECONDS", seconds)
    for _ in range(2):
        ReidEvaluator(host_ranks(), num_query=1)
    assert len(warnings_of(host_log)) == 1
    assert said in warnings_of(host_log)[0]
    assert "\n" not in warnings_of(host_log)[0]
    assert list(cython_ranking.builds_folder().iterdir()) == []
    assert len(rank.evaluate_rank(*random_gallery(0))[0]) == 50


def test_a_cache_that_cannot_be_written_is_told_once_and_python_ranks(fresh, monkeypatch, host_log):
    fresh.write_text("a file where the cache folder should be")
    for _ in range(2):
        ReidEvaluator(host_ranks(), num_query=1)
    assert len(warnings_of(host_log)) == 1
    assert "XDG_CACHE_HOME" in warnings_of(host_log)[0]
    assert len(rank.evaluate_rank(*random_gallery(0))[0]) == 50


def test_a_missing_home_folder_is_no_reason_to_fail(fresh, monkeypatch, host_log):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", homeless)
    cython_ranking.build_ranking_outside_the_package()
    cython_ranking.compile_helper()
    assert len(warnings_of(host_log)) == 1


def homeless(path):
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.slow
def test_two_processes_that_build_at_once_both_rank_by_cython(tmp_path):
    code = (
        "import igoas_plugin; from igoas_plugin.fastreid_fixes import cython_ranking; cython_ranking.compile_helper(); "
        "from fastreid.evaluation import rank; print(rank.IS_CYTHON_AVAI)"
    )
    before = sorted(os.listdir(PACKAGE))
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONWARNINGS": "default"}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert out.split() == [b"True"], err.decode()
        assert b"Cython" not in err
    assert sorted(os.listdir(PACKAGE)) == before
    (folder,) = Path(tmp_path, "igoas_plugin", "ranking").iterdir()
    assert [cython_ranking.is_intact(build) for build in folder.iterdir()] == [True, True]


@pytest.mark.fault
@pytest.mark.skipif(sys.platform != "linux", reason="needs a safe fork")  # a build needs no torch
def test_what_a_killed_build_left_is_removed_by_the_next_one(fresh, build, monkeypatch, tmp_path):
    folder, compiler = cython_ranking.builds_folder(), tmp_path / "compiler"
    begins = f"import os, time; open('half.c', 'w').close(); os.symlink(str(os.getpid()), {str(compiler)!r})"
    monkeypatch.setattr(cython_ranking, "BUILD", f"{begins}; time.sleep(600)")
    killed = multiprocessing.get_context("fork").Process(target=cython_ranking.build_into, args=[folder])
    killed.start()
    deadline = time.monotonic() + 600
    while not compiler.is_symlink() and time.monotonic() < deadline:
        time.sleep(0.05)
    (left,) = folder.iterdir()
    assert (left / "half.c").exists()
    killed.kill()
    killed.join(60)
    os.kill(int(os.readlink(compiler)), signal.SIGKILL)
    assert left.is_dir()

    copies = "; ".join(f"shutil.copy({str(build / library)!r}, '.')" for library in cython_ranking.LIBRARIES)
    monkeypatch.setattr(cython_ranking, "BUILD", f"import shutil; {copies}")
    cython_ranking.compile_helper()
    assert rank.IS_CYTHON_AVAI
    (built,) = folder.iterdir()
    assert built != left and cython_ranking.is_intact(built)


@pytest.mark.parametrize(
    "replacement",
    [
        images.read_image,
        host_metrics.aqe,
        host_metrics.compute_euclidean_distance,
        host_metrics.evaluate_rank,
        imagenet.build_backbone,
        regnet_files.merge_regnet_file,
        cython_ranking.compile_helper,
        host_metrics.FlatIndex,
        host_metrics.compute_jaccard_distance,
        transforms.to_tensor,
    ],
    ids=lambda replacement: replacement.__qualname__,
)
def test_what_replaces_the_host_can_be_sent_to_spawned_processes(replacement):
    assert pickle.loads(pickle.dumps(replacement)) is replacement
