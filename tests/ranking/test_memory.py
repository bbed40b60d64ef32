import os

import pytest
import torch

from igoas_plugin.ranking import memory


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_a_mapped_tensor_leaves_no_file_and_keeps_what_is_written(tmp_path, dtype):
    tensor = memory.mapped((3, 2), dtype, str(tmp_path / "new"))
    tensor.copy_(torch.arange(6).view(3, 2))
    assert os.listdir(tmp_path / "new") == []
    assert tensor.dtype == dtype and tensor.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_room_is_in_memory_up_to_the_limit_and_in_a_file_beyond_it(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(memory, "memory_limit", lambda: 4 * 6)
    monkeypatch.setattr(memory, "mapped", lambda *given: made.append(given) or "mapped")
    assert memory.room((3, 2), torch.float32, str(tmp_path)).shape == (3, 2) and not made
    assert memory.room((7,), torch.float32, str(tmp_path)) == "mapped"
    assert made == [((7,), torch.float32, str(tmp_path))]


def test_the_limit_is_a_share_of_this_machine_s_memory(monkeypatch):
    assert 2**28 < memory.memory_limit() < 2**45
    monkeypatch.delattr(os, "sysconf")
    assert memory.memory_limit() == float("inf")
