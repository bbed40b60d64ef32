import resource

import pytest
import torch
from fastreid.evaluation import inference_on_dataset
from runs import start

from igoas_plugin.host import kept_memory
from igoas_plugin.host.kept_memory import glibc, keep_freed_memory, keep_on_cpu

pytestmark = pytest.mark.skipif(glibc() is None, reason="only glibc can be told to keep memory")
BLOCK = 2**26  # bytes, more than glibc keeps by itself
PAGE = resource.getpagesize()


@pytest.fixture(autouse=True)
def usual_memory():
    keep_freed_memory(False)
    yield
    keep_freed_memory(False)


def new_pages() -> float:
    """Pages that the system hands out for a block, as a share of its own, when such blocks were freed just before."""
    for _ in range(3):  # the first hole may be some bytes too small for the next block
        torch.ones(BLOCK, dtype=torch.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(BLOCK, dtype=torch.uint8)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / (BLOCK / PAGE)


def test_a_freed_block_is_used_again_and_given_back_when_told():
    assert new_pages() > 0.9  # each page is a fault: what the fix is for
    keep_freed_memory()
    assert new_pages() < 0.1
    keep_freed_memory(False)
    assert new_pages() > 0.9


def test_a_training_on_the_cpu_keeps_its_memory(baseline_cfg):
    start(baseline_cfg)
    assert new_pages() < 0.1


def test_an_evaluation_on_the_cpu_keeps_its_memory():
    class Nothing:
        def reset(self): ...
        def process(self, inputs, outputs): ...
        def evaluate(self): ...

    class Loader(list):
        dataset = [None]

    inference_on_dataset(torch.nn.Linear(1, 1), Loader(), Nothing())
    assert new_pages() < 0.1


def test_a_model_without_parameters_is_evaluated_too():
    keep_on_cpu(torch.nn.Identity())
    assert new_pages() > 0.9


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(kept_memory, "glibc", lambda: None)
    keep_freed_memory()
    monkeypatch.undo()
    assert new_pages() > 0.9
