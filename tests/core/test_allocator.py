import ctypes
import inspect
import subprocess
import sys

import pytest
import torch
from runs import start

from igoas_plugin.core import allocator
from igoas_plugin.core.allocator import keep_freed_memory
from igoas_plugin.engine.trainer import Trainer

# Runs in its own process, because freed memory of other tests would be reused in this one. The script contains the
# source of the function, because importing the plugin takes seconds.
PAGES = f"""
import ctypes, resource

M_TRIM_THRESHOLD, M_MMAP_MAX = {allocator.M_TRIM_THRESHOLD}, {allocator.M_MMAP_MAX}

{inspect.getsource(keep_freed_memory)}
BLOCK = 2**26  # bytes, more than glibc keeps by itself

def new_pages():
    for _ in range(12):  # the first holes may be some bytes too small for the next block; seen: seven of them
        bytearray(BLOCK)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(BLOCK)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / BLOCK

usual = new_pages()
keep_freed_memory()
print(usual, new_pages())
"""


HAS_MALLOPT = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")


@pytest.mark.skipif(not HAS_MALLOPT, reason="only glibc can be told to keep memory")
def test_a_freed_block_is_used_again():
    done = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    usual, kept = map(float, done.stdout.split())
    assert usual > 0.9  # each page is a fault: what the fix is for
    assert kept < 0.1


@pytest.fixture
def told(monkeypatch) -> list:
    """Returns a list that grows when the process is told to keep its memory."""
    seen = []
    monkeypatch.setattr(allocator, "keep_freed_memory", lambda: seen.append("keep"))
    return seen


def test_a_training_on_the_cpu_keeps_its_memory(baseline_cfg, told):
    trainer = start(baseline_cfg)
    trainer._hooks.clear()  # among them evaluations, which tell it too
    trainer.max_epoch, trainer._last_eval_results = 0, {}
    assert told == []
    trainer.train()
    assert told == ["keep"]


@pytest.mark.parametrize("model, expected", [(torch.nn.Linear(1, 1), ["keep"]), (torch.nn.Identity(), [])])
def test_an_evaluation_on_the_cpu_keeps_its_memory(baseline_cfg, told, model, expected):
    baseline_cfg.DATASETS.TESTS = ()
    assert Trainer.test(baseline_cfg, model) == {}
    assert told == expected  # a model without parameters, such as one of another runtime, is on no device


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())
    assert keep_freed_memory() is None
