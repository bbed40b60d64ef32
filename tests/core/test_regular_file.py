"""A pipe, a device or a folder in place of a file: one line says so, and no reader waits for what never comes."""

import os
import signal

import pytest
import torch
from fastreid.utils.checkpoint import Checkpointer
from torch import nn

from igoas_plugin.checkpoint.checkpoint_file import load_file
from igoas_plugin.checkpoint.convert import convert_checkpoint, convert_pretrained
from igoas_plugin.core.errors import InputError, OutputError
from igoas_plugin.core.files import open_regular
from igoas_plugin.datasets.prepare.sources import Folder, open_source
from igoas_plugin.evaluation.results import summarize
from igoas_plugin.inference.search.gallery_file import GalleryFile
from igoas_plugin.inference.trained import identities_of

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")


@pytest.fixture
def pipe(tmp_path):
    """Makes a pipe of a name, into which nothing is ever written; who waits for it is woken up."""
    handles = []

    def make(name):
        os.mkfifo(tmp_path / name)
        handles.append(os.open(tmp_path / name, os.O_RDWR))
        return str(tmp_path / name)

    def woken(*_):
        pytest.fail("it waits for the pipe")

    before = signal.signal(signal.SIGALRM, woken)
    signal.alarm(20)
    yield make
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    for handle in handles:
        os.close(handle)


READERS = {
    "a checkpoint": ("a.pth", load_file),
    "a checkpoint whose identities count": ("a.pth", identities_of),
    "a .safetensors": ("a.safetensors", load_file),
    "weights to convert": ("a.pth", lambda path: convert_checkpoint(path, f"{path}.safetensors")),
    "a .safetensors to convert": ("a.safetensors", lambda path: convert_checkpoint(path, f"{path}.pth")),
    "ImageNet weights": ("a.pth", lambda path: convert_pretrained(path, f"{path}.out")),
    "a wheel": ("a.whl", lambda path: convert_pretrained(path, f"{path}.out")),
    "a gallery index": ("a.index", GalleryFile),
    "results": ("results.json", lambda path: summarize([os.path.dirname(path)])),
    "an image of a source": ("a.jpg", lambda path: Folder(os.path.dirname(path)).read("a.jpg")),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_is_refused_by_every_reader(reader, pipe):
    name, read = READERS[reader]
    path = pipe(name)
    with pytest.raises(InputError, match=f"{name}.*it is no regular file") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", READERS)
def test_a_folder_is_refused_by_every_reader(reader, tmp_path):
    name, read = READERS[reader]
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=name) as caught:
        read(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_device_is_refused():
    with pytest.raises(InputError, match="checkpoint /dev/zero cannot be read: it is no regular file"):
        load_file("/dev/zero")


def test_a_pipe_as_an_archive_to_prepare_from_is_refused(pipe):
    with pytest.raises(InputError, match="a.zip is neither a folder nor a .zip or .rar archive"):
        open_source(pipe("a.zip")).__enter__()


def test_the_host_s_loading_of_a_pipe_is_refused(pipe):
    with pytest.raises(InputError, match="a.pth does not exist"):
        Checkpointer(nn.Linear(1, 1)).load(pipe("a.pth"))


@pytest.mark.parametrize("name", ["a\0.pth", "a\0.safetensors"])
def test_a_null_character_in_a_path_is_one_line(name, tmp_path):
    with pytest.raises(InputError, match=r"checkpoint .*a\\x00.* cannot be read: its path holds a null character"):
        load_file(str(tmp_path / name))


def test_a_null_character_in_the_path_of_what_is_converted_to_is_one_line(tmp_path):
    torch.save({"model": {"a": torch.ones(1)}}, tmp_path / "a.pth")
    for target in ("b\0.safetensors", "b\0/c.safetensors"):
        with pytest.raises(OutputError, match=r"cannot write .*b\\x00.*: its path holds a null character"):
            convert_checkpoint(str(tmp_path / "a.pth"), str(tmp_path / target))


def test_a_file_is_opened_as_by_open(tmp_path):
    (tmp_path / "a").write_text("one\ntwo\n")
    with open_regular(tmp_path / "a", "r") as file:
        assert file.read() == "one\ntwo\n"
    with open_regular(tmp_path / "a", "rb+") as file:
        file.write(b"O")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"One\ntwo\n"
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "absent")
