"""Checkpoints with altered bytes."""

import functools
import io
from pathlib import Path

import torch
from fastreid.utils.checkpoint import Checkpointer
from hostile import Target
from hypothesis import strategies as st
from torch import nn

from igoas_plugin.checkpoint.checkpoint_file import load_file

places = st.one_of(st.floats(0, 1), st.floats(0.9, 1), st.floats(0, 0.3))  # the names are at both ends
cases = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), places, st.integers(1, 255)),
        st.tuples(
            st.just("set"), places, st.sampled_from([bytes(8), b"\xff" * 4, b"\x80\x02", b"cos\nsystem\n", b"PK\5\6"])
        ),
        st.tuples(st.just("truncate"), places),
        st.tuples(st.just("remove"), places, st.integers(1, 99)),
        st.tuples(st.just("move"), places, places, st.integers(1, 400)),
    ),
    max_size=3,
)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


@functools.cache
def whole() -> bytes:
    file = io.BytesIO()
    torch.save({"model": model().state_dict(), "epoch": 3, "metric": 0.5, "lr_sched": {"gamma": 0.1}}, file)
    return file.getvalue()


def change(content: bytes, what: str, start: float, *how) -> bytes:
    at = int(start * max(len(content) - 1, 0))
    if what == "flip":
        return content[:at] + bytes(byte ^ how[0] for byte in content[at : at + 1]) + content[at + 1 :]
    if what == "set":
        return content[:at] + how[0] + content[at + len(how[0]) :]
    if what == "truncate":
        return content[:at]
    if what == "remove":
        return content[:at] + content[at + how[0] :]
    other = int(how[0] * max(len(content) - 1, 0))
    return content[:at] + content[other : other + how[1]] + content[at + how[1] :]


def put(case: list, folder: Path) -> str:
    content = whole()
    for each in case:
        content = change(content, *each)
    path = folder / "model.pth"
    path.write_bytes(content)
    return str(path)


def use(path: str) -> None:
    given, read = torch.load(io.BytesIO(whole()), weights_only=True), load_file(path)
    assert read.keys() == given.keys() and read["model"].keys() == given["model"].keys()
    assert all(torch.equal(tensor, given["model"][name]) for name, tensor in read["model"].items())
    loaded = model()
    Checkpointer(loaded).load(path)
    assert all(torch.equal(tensor, given["model"][name]) for name, tensor in loaded.state_dict().items())


TARGET = Target(cases, put, use)
