import errno
import os

import pytest
import torch

from igoas_plugin.core.errors import InputError
from igoas_plugin.evaluation.ranking import memory


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_a_mapped_tensor_leaves_no_file_and_keeps_what_is_written(tmp_path, dtype):
    tensor = memory.allocate_in_file((3, 2), dtype, str(tmp_path / "new"))
    tensor.copy_(torch.arange(6).view(3, 2))
    assert os.listdir(tmp_path / "new") == []
    assert tensor.dtype == dtype and tensor.tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted in /proc")
def test_mapped_tensors_keep_no_file_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    kept = [memory.allocate_in_file((10,), torch.float32, str(tmp_path)) for _ in range(50)]
    assert len(os.listdir("/proc/self/fd")) == before and len(kept) == 50


def test_a_disk_without_room_is_one_line(tmp_path, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=f"{tmp_path} has no room for 4 MB of descriptors.* another OUTPUT_DIR"):
        memory.allocate_in_file((1000, 1000), torch.float32, str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_a_tensor_is_in_memory_up_to_the_limit_and_in_a_file_beyond_it(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(memory, "allocate_in_file", lambda *given: made.append(given) or "mapped")
    assert memory.allocate((3, 2), torch.float32, str(tmp_path), 4 * 6).shape == (3, 2) and not made
    assert memory.allocate((7,), torch.float32, str(tmp_path), 4 * 6) == "mapped"
    assert made == [((7,), torch.float32, str(tmp_path))]


def test_the_limit_is_a_share_of_the_memory_of_the_machine_or_of_the_container(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CONTAINER", tmp_path / "memory.max")
    of_machine = memory.memory_limit()
    assert 2**28 < of_machine < 2**45
    for written, expected in (("max", of_machine), (str(2**20), 2**18), (str(2**60), of_machine)):
        memory.CONTAINER.write_text(written)
        assert memory.memory_limit() == expected
    monkeypatch.delattr(os, "sysconf")
    assert memory.memory_limit() == float("inf")
