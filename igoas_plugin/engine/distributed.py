"""Several processes that train together, on GPUs or CPUs."""

import contextlib
import functools
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
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

from .processes import RESUME_ADVICE, end_with_parent, run_together

host_launch = sys.modules["fastreid.engine.launch"].launch  # the package's attribute `launch` hides the module

# Time that a process waits for the others in a step, a gathering or a barrier, NCCL's own default. Between two
# collectives all processes do the same work, except for the writing of a checkpoint.
COLLECTIVE_TIMEOUT = timedelta(minutes=10)
# Time that the other processes wait for the ranking, which rank 0 does alone: an hour for a large gallery
RANKING_TIMEOUT = timedelta(days=1)
RANKING_GROUP: dist.ProcessGroup | None = None  # all processes, with that timeout


def under_torchrun() -> bool:
    """Returns whether torchrun started this process; WORLD_SIZE and RANK are set by other launchers too."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def wants_gpus(args: tuple) -> bool:
    """Returns whether the run uses GPUs, by the MODEL.DEVICE of a config or a command line among the arguments."""
    device = "cuda"
    for each in args:
        if isinstance(each, CfgNode):
            device = each.MODEL.DEVICE
        elif hasattr(each, "config_file"):
            try:
                device = load_cfg(each.config_file, getattr(each, "opts", None) or ()).MODEL.DEVICE
            except InputError:  # keys of another project, known to the caller's script alone
                pass
    return usable_device(device) != "cpu"


def run_rank(local_rank, first_rank, world_size, local_world_size, address, cuda, main_func, args) -> None:
    """Runs ``main_func(*args)`` in one process of a run, after it has joined the others.

    Args:
        local_rank: number of this process among those of this machine.
        first_rank: number of this machine's first process among all.
        world_size, local_world_size: number of all processes, and of those of this machine.
        address: tcp://HOST:PORT of an open store; None for the variables of torchrun.
        cuda: whether each process uses a GPU: NCCL connects them, else gloo.

    Raises:
        InputError: the machine has too few GPUs.
        LostProcess: another process has died or does not answer.
    """
    global RANKING_GROUP
    if cuda and local_world_size > torch.cuda.device_count():
        raise InputError(
            f"{local_world_size} processes were asked for, but torch finds {torch.cuda.device_count()} GPUs"
        )
    if cuda:
        torch.cuda.set_device(local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:  # processes that use all cores each slow one another down
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_world_size))
    rank = first_rank + local_rank
    with lost_process_in_one_line():
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            store=connect(address) if address else None,
            world_size=world_size,
            rank=rank,
            timeout=COLLECTIVE_TIMEOUT,
        )
        for first in range(0, world_size, local_world_size):
            group = dist.new_group(list(range(first, first + local_world_size)))
            if first == first_rank:
                comm._LOCAL_PROCESS_GROUP = group  # fast-reid's own launcher sets it
        RANKING_GROUP = dist.new_group(backend="gloo", timeout=RANKING_TIMEOUT)
        comm.synchronize()
        main_func(*args)
        comm._LOCAL_PROCESS_GROUP = RANKING_GROUP = None
        dist.destroy_process_group()


def connect(address: str) -> dist.TCPStore:
    """Returns a client of the store at tcp://HOST:PORT; waits for the store up to COLLECTIVE_TIMEOUT."""
    url = urlsplit(address)
    return dist.TCPStore(url.hostname, url.port, is_master=False, timeout=COLLECTIVE_TIMEOUT, wait_for_workers=False)


def open_store(dist_url: str) -> dist.TCPStore:
    """Opens the store by which the processes of a run find one another.

    This process keeps it open, so that no other program can take the port in between.

    Args:
        dist_url: tcp://HOST:PORT of this machine, or "auto" for a free port.

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
    except RuntimeError as error:  # a DistNetworkError, in older versions of torch a plain RuntimeError
        reason = "is in use" if "EADDRINUSE" in str(error) else "cannot be opened"
        raise InputError(
            f"--dist-url {dist_url}: port {port} of this machine {reason}: name another one, or, for a run on one "
            "machine, leave --dist-url out, and a free one is taken"
        ) from None


@contextlib.contextmanager
def lost_process_in_one_line() -> Iterator[None]:
    """Context that turns the error of a collective whose other process has died or hangs into a LostProcess."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not (isinstance(error, dist.DistError) or "gloo" in text):
            raise
        minutes = COLLECTIVE_TIMEOUT.total_seconds() / 60
        what = f"has not answered for {minutes:g} minutes" if "imed out" in text else "has ended"
        me = f"process {comm.get_rank()} of {comm.get_world_size()}" if dist.is_initialized() else "a process"
        raise LostProcess(f"{me} cannot go on because another one {what}: {RESUME_ADVICE}") from error


def launch(main_func: Callable, num_gpus_per_machine, num_machines=1, machine_rank=0, dist_url="auto", args=()):
    """Replaces fast-reid's function: also starts processes on CPUs (gloo), and runs under torchrun.

    If one process ends early, all of them end: see run_together(). They also end with the calling process.

    Args:
        main_func: called as ``main_func(*args)`` in every process.
        num_gpus_per_machine: number of processes on this machine; torchrun's own number takes precedence.
        num_machines: number of machines.
        machine_rank: number of this machine, 0 for the first.
        dist_url: tcp://HOST:PORT of the first machine, or "auto" for a free port of this machine.
        args: arguments of `main_func`.

    Raises:
        InputError: a process raised it, or other machines cannot reach `dist_url`, or its port is in use.
        LostProcess: a process has died or does not answer.
    """
    if under_torchrun():
        rank, local_rank, world_size, local_world_size = (
            int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
        )
        end_with_parent()
        cuda = wants_gpus(args)
        return run_rank(local_rank, rank - local_rank, world_size, local_world_size, None, cuda, main_func, args)
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        return main_func(*args)
    dist_url = dist_url or "auto"
    if num_machines > 1 and (dist_url == "auto" or "127.0.0.1" in dist_url):
        raise InputError(f"--dist-url {dist_url} is no address for several machines: give tcp://HOST:PORT of the first")
    store = open_store(dist_url) if machine_rank == 0 else None  # stays open until all processes have ended
    address = f"tcp://localhost:{store.port}" if dist_url == "auto" else dist_url
    first_rank, count = machine_rank * num_gpus_per_machine, num_gpus_per_machine
    run_together(run_rank, count, (first_rank, world_size, count, address, wants_gpus(args), main_func, args))


def distribute(model, device_ids, **kwargs) -> DistributedDataParallel:
    """Returns DistributedDataParallel of a model, without device ids if the model is on the CPU."""
    cpu = next(model.parameters()).device.type == "cpu"
    with warnings.catch_warnings():
        # fast-reid gives it; torch's newer option would also send the buffers of rank 0 to the others at the start
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        return DistributedDataParallel(model, device_ids=None if cpu else device_ids, **kwargs)


@fix
def launch_processes_without_gpus() -> None:
    """AssertionError: several processes need CUDA and NCCL, and torchrun is not supported.

    The worker asserts CUDA, DDP gets a device id for a CPU model (ValueError), and only fast-reid's own launcher sets
    the group of the local processes, which its comm needs. Upstream: fast-reid #485, #684.
    """
    replace_everywhere(host_launch, launch)
    fastreid.engine.defaults.DistributedDataParallel = distribute


def serialize_to_tensor(data, group) -> torch.Tensor:
    """Replaces comm._serialize_to_tensor; the pickled bytes of any object, on the device of the group's backend."""
    device = "cpu" if dist.get_backend(group) == "gloo" else "cuda"
    return torch.frombuffer(bytearray(pickle.dumps(data)), dtype=torch.uint8).to(device)


@fix
def exchange_objects_without_typed_storage() -> None:
    """Each of several processes warns that TypedStorage is deprecated, when they exchange an object first."""
    comm._serialize_to_tensor = serialize_to_tensor


@fix
def take_a_free_port() -> None:
    """The second of two runs of a user dies or hangs, because the default of --dist-url is one port for each user.

    The default is now "auto", a free port. Several machines need an explicit address, as before.
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
    """A ranking that takes longer than the timeout of a collective (10 minutes with NCCL, 30 with gloo) ends the run.

    Rank 0 ranks alone, and the others wait in the next collective, which times out. Now they wait in a barrier with a
    timeout of a day, which ends at once if rank 0 dies.
    """
    inference = fastreid.evaluation.evaluator.inference_on_dataset

    @functools.wraps(inference)
    def inference_and_wait(*args, **kwargs):
        result = inference(*args, **kwargs)
        if RANKING_GROUP is not None:
            dist.barrier(group=RANKING_GROUP)
        return result

    replace_everywhere(inference, inference_and_wait)


BATCH_NORM = torch.nn.modules.batchnorm._BatchNorm


class AverageNormalisation(HookBase):
    """Hook that averages the running statistics of BatchNorm over all processes after each epoch.

    fast-reid builds DDP with broadcast_buffers=False, so each process would evaluate with its own statistics, and the
    checkpoint would hold those of rank 0.
    """

    def __init__(self, model):
        self.model = model

    def after_epoch(self):
        for module in self.model.modules():
            # not of frozen layers, which are in eval mode: the mean of equal numbers may differ in the last bit
            if isinstance(module, BATCH_NORM) and module.training and module.running_mean is not None:
                for statistic in (module.running_mean, module.running_var):
                    dist.all_reduce(statistic)
                    statistic /= comm.get_world_size()
