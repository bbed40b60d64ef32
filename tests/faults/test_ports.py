"""Port by which the processes of a run find one another: a free one, or a given one that is not in use."""

import re
import socket

import pytest
import torch.distributed as dist
from fastreid.engine import default_argument_parser, launch

from igoas_plugin.core.errors import InputError
from igoas_plugin.engine.distributed import connect, open_store


def never_called():
    raise AssertionError("a run has started")


@pytest.fixture
def used_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_that_is_not_given_is_a_free_one(raw_host):
    fixed = raw_host["default_dist_url"]
    assert re.fullmatch(r"tcp://127.0.0.1:\d+", fixed[0]) and fixed[0] == fixed[1]
    assert default_argument_parser().parse_args([]).dist_url == "auto"
    assert default_argument_parser().parse_args(["--dist-url", "tcp://a:1"]).dist_url == "tcp://a:1"


def test_runs_at_once_have_ports_of_their_own_which_nobody_can_take_between():
    stores = [open_store("auto") for _ in range(3)]
    assert len({store.port for store in stores}) == 3
    for index, store in enumerate(stores):
        connect(f"tcp://localhost:{store.port}").set("run", str(index))
    assert [store.get("run") for store in stores] == [b"0", b"1", b"2"]
    with pytest.raises(OSError), socket.create_server(("", stores[0].port)):
        pass


def test_a_given_port_that_is_in_use_is_one_line(used_port):
    with pytest.raises(InputError) as refused:
        launch(never_called, 2, dist_url=f"tcp://127.0.0.1:{used_port}")
    assert str(refused.value) == (
        f"--dist-url tcp://127.0.0.1:{used_port}: port {used_port} of this machine is in use: name another one, or, "
        "for a run on one machine, leave --dist-url out, and a free one is taken"
    )


def test_the_first_of_several_machines_refuses_a_port_in_use_too(used_port):
    with pytest.raises(InputError, match=f"port {used_port} of this machine is in use"):
        launch(never_called, 1, 2, 0, f"tcp://{socket.gethostname()}:{used_port}")


@pytest.mark.parametrize("dist_url", ["auto", "tcp://127.0.0.1:29500"])
def test_several_machines_need_an_address_that_all_can_reach(dist_url):
    with pytest.raises(InputError, match=f"^--dist-url {dist_url} is no address for several machines: give tcp://HOST"):
        launch(never_called, 1, 2, 0, dist_url)


@pytest.mark.parametrize("dist_url", ["tcp://127.0.0.1", "tcp://127.0.0.1:http", "tcp://127.0.0.1:99999"])
def test_an_address_without_a_port_is_one_line(dist_url):
    with pytest.raises(InputError, match=f"^--dist-url {dist_url} has no port: give tcp://HOST:PORT, or auto$"):
        launch(never_called, 2, dist_url=dist_url)


def test_a_port_is_free_again_after_the_run():
    store = open_store("auto")
    port = store.port
    del store
    assert isinstance(open_store(f"tcp://127.0.0.1:{port}"), dist.TCPStore)
