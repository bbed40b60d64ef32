"""Processes of a run that train together, on GPUs and CPUs."""

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import fastreid.engine.defaults
import fastreid.evaluation.evaluator
import torch
import torch.distributed as dist
from fastreid.config import CfgNode
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from torch.nn.parallel import DistributedDataParallel

from igoas_plugin.config import load_cfg
from igoas_plugin.core.errors import InputError, LostProcess
from igoas_plugin.fastreid_fixes.device import usable_device
from igoas_plugin.fastreid_fixes.fix import fix, replace_everywhere

from .processes import CONTINUES, end_with_parent, run_together

host = sys.modules["fastreid.engine.launch"]  # the package's attribute of this name is the function

# How long a process waits for the others in a step, a gathering or a barrier before it takes one for hanging. NCCL's
# own default; all of them have the same to do there, but for the writing of a checkpoint.
COLLECTIVE_TIMEOUT = timedelta(minutes=10)
# How long the others wait for what the first process does alone, which is to rank: a big gallery takes it an hour.
FIRST_ALONE_TIMEOUT = timedelta(days=1)
FIRST_ALONE: dist.ProcessGroup | None = None  # of all processes, with that timeout


def under_torchrun() -> bool:
    """Whether torchrun started this process; other launchers set WORLD_SIZE and RANK as well."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def wants_gpus(args: tuple) -> bool:
    """Whether MODEL.DEVICE of the config, or of the command line, among the arguments is a GPU that is there."""
    device = "cuda"
    for each in args:
        if isinstance(each, CfgNode):
            device = each.MODEL.DEVICE
        elif hasattr(each, "config_file"):
            try:
                device = load_cfg(each.config_file, getattr(each, "opts", None) or ()).MODEL.DEVICE
            except InputError:  # keys of another project, which the caller's own script knows
                pass
    return usable_device(device) != "cpu"


def join_processes(rank, local_rank, world_size, local_world_size, address: str, cuda: bool) -> None:
    """Joins the process group (NCCL with GPUs, else gloo) and sets what the host's comm needs.

    Args:
        address: tcp://HOST:PORT of a store that is there already, or another init_method of torch.
    """
    global FIRST_ALONE
    if cuda and local_world_size > torch.cuda.device_count():
        raise InputError(
            f"{local_world_size} processes were asked for, but torch finds {torch.cuda.device_count()} GPUs"
        )
    if cuda:
        torch.cuda.set_device(local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:  # each with all cores, they would wait for one another
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_world_size))
    where = {"init_method": address}
    if address.startswith("tcp:"):
        where = {"store": connect(address)}
    dist.init_process_group(
        "nccl" if cuda else "gloo", **where, world_size=world_size, rank=rank, timeout=COLLECTIVE_TIMEOUT
    )
    for first in range(0, world_size, local_world_size):
        group = dist.new_group(list(range(first, first + local_world_size)))
        if first <= rank < first + local_world_size:
            comm._LOCAL_PROCESS_GROUP = group
    FIRST_ALONE = dist.new_group(backend="gloo", timeout=FIRST_ALONE_TIMEOUT)
    comm.synchronize()


def leave_processes() -> None:
    global FIRST_ALONE
    comm._LOCAL_PROCESS_GROUP = FIRST_ALONE = None
    dist.destroy_process_group()


def connect(address: str) -> dist.TCPStore:
    """A client of the store at tcp://HOST:PORT; waits for it as long as for a collective."""
    url = urlsplit(address)
    return dist.TCPStore(url.hostname, url.port, is_master=False, timeout=COLLECTIVE_TIMEOUT, wait_for_workers=False)


def open_store(dist_url: str) -> dist.TCPStore:
    """The store by which the processes of a run find one another, in this process: no port is chosen and then lost.

    Args:
        dist_url: "auto" for a free port of this machine, or tcp://HOST:PORT of this machine.

    Raises:
        InputError: the port is missing, in use or not allowed.
    """
    try:
        port = 0 if dist_url == "auto" else urlsplit(dist_url).port
        if port is None:
            raise ValueError("no port")
    except ValueError:
        raise InputError(f"--dist-url {dist_url} has no port: give tcp://HOST:PORT, or auto") from None
    try:
        return dist.TCPStore("localhost", port, is_master=True, wait_for_workers=False)
    except RuntimeError as error:  # DistNetworkError is one, and older torch raises it as no more than that
        reason = "is in use" if "EADDRINUSE" in str(error) else "cannot be opened"
        raise InputError(
            f"--dist-url {dist_url}: port {port} of this machine {reason}: name another one, or, for a run on one "
            "machine, leave --dist-url out, and a free one is taken"
        ) from None


@contextlib.contextmanager
def lost_connections_told() -> Iterator[None]:
    """Turns what a collective raises where another process has died or hangs into one line.

    Raises:
        LostProcess: a process has gone, or has not answered for COLLECTIVE_TIMEOUT.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not (isinstance(error, dist.DistError) or "gloo" in text):
            raise
        minutes = COLLECTIVE_TIMEOUT.total_seconds() / 60
        what = f"does not answer for {minutes:g} minutes" if "imed out" in text else "has gone"
        me = f"process {comm.get_rank()} of {comm.get_world_size()}" if dist.is_initialized() else "a process"
        raise LostProcess(f"{me} cannot go on, for another one {what}: {CONTINUES}") from error


def run_worker(local_rank, main_func, world_size, per_machine, machine_rank, address, cuda, args) -> None:
    """One process of a job: joins the others and runs `main_func`."""
    with lost_connections_told():
        join_processes(machine_rank * per_machine + local_rank, local_rank, world_size, per_machine, address, cuda)
        main_func(*args)
        leave_processes()


def launch(main_func, num_gpus_per_machine, num_machines=1, machine_rank=0, dist_url="auto", args=()):
    """The host's function of this name, for GPUs, for CPU processes (gloo), and under torchrun.

    Where one of the processes ends early, all do: see run_together(). They end with the process that called this.

    Args:
        main_func: called as ``main_func(*args)`` in every process.
        num_gpus_per_machine: processes on this machine; under torchrun it is torchrun that counts them.
        dist_url: "auto" takes a free port of this machine.

    Raises:
        InputError: the one that a process raised; or `dist_url` is in use, or cannot be reached from other machines.
        LostProcess: a process died, or does not answer.
    """
    if under_torchrun():
        rank, local_rank, world, local_world = (
            int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
        )
        end_with_parent()
        with lost_connections_told():
            join_processes(rank, local_rank, world, local_world, "env://", wants_gpus(args))
            main_func(*args)
            return leave_processes()
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        return main_func(*args)
    dist_url = dist_url or "auto"
    if num_machines > 1 and (dist_url == "auto" or "127.0.0.1" in dist_url):
        raise InputError(f"--dist-url {dist_url} is no address for several machines: give tcp://HOST:PORT of the first")
    store = None
    if machine_rank == 0 and (dist_url == "auto" or dist_url.startswith("tcp:")):
        store = open_store(dist_url)  # until all have ended
    address = f"tcp://localhost:{store.port}" if dist_url == "auto" else dist_url
    run_together(
        run_worker,
        num_gpus_per_machine,
        (main_func, world_size, num_gpus_per_machine, machine_rank, address, wants_gpus(args), args),
    )


def distribute(model, device_ids, **kwargs) -> DistributedDataParallel:
    """DistributedDataParallel; device ids are for models on a GPU only."""
    cpu = next(model.parameters()).device.type == "cpu"
    return DistributedDataParallel(model, device_ids=None if cpu else device_ids, **kwargs)


@fix
def launch_processes_without_gpus() -> None:
    """AssertionError: several processes need CUDA and NCCL, and torchrun is not known.

    The worker asserts CUDA, DDP gets a device id for a CPU model (ValueError), and the group of the local processes,
    which the host's comm asks for, is set by the host's own launcher alone. Upstream: fast-reid #485, #684.
    """
    replace_everywhere(host.launch, launch)
    fastreid.engine.defaults.DistributedDataParallel = distribute


@fix
def take_a_free_port() -> None:
    """Two runs of a user at once: the second dies or hangs, for the default of --dist-url is one port for each user.

    Now it is "auto", a free port; several machines need an address that is given, as ever.
    """
    build_parser = fastreid.engine.defaults.default_argument_parser

    @functools.wraps(build_parser)
    def default_argument_parser():
        parser = build_parser()
        parser.set_defaults(dist_url="auto")
        return parser

    replace_everywhere(build_parser, default_argument_parser)


@fix
def wait_for_the_ranking() -> None:
    """A ranking that takes longer than a collective may (10 minutes with NCCL, 30 with gloo) ends the run.

    The first process ranks alone, and the others wait for it in the next collective, which takes it for hanging. Now
    they wait in a barrier of their own that has a day; should the first process die, it ends at once.
    """
    inference = fastreid.evaluation.evaluator.inference_on_dataset

    @functools.wraps(inference)
    def inference_and_wait(*args, **kwargs):
        result = inference(*args, **kwargs)
        if FIRST_ALONE is not None:
            dist.barrier(group=FIRST_ALONE)
        return result

    replace_everywhere(inference, inference_and_wait)


BATCH_NORM = torch.nn.modules.batchnorm._BatchNorm


class AverageNormalisation(HookBase):
    """After each epoch gives every process the mean of all processes' BN running statistics.

    DDP is built with broadcast_buffers=False: each process would evaluate with statistics of its own, and the
    checkpoint would hold those of the first process.
    """

    def __init__(self, model):
        self.model = model

    def after_epoch(self):
        for module in self.model.modules():
            # frozen layers are in eval mode: a mean of equal numbers may differ from them in the last bit
            if isinstance(module, BATCH_NORM) and module.training and module.running_mean is not None:
                for statistic in (module.running_mean, module.running_var):
                    dist.all_reduce(statistic)
                    statistic /= comm.get_world_size()
