import os
import sys

import fastreid.engine.defaults
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from fastreid.config import CfgNode
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from torch.nn.parallel import DistributedDataParallel

from igoas_plugin.config import load_cfg
from igoas_plugin.errors import InputError

from .device import usable_device
from .fix import fix, replace_everywhere
from .hooks import extend_hooks, insert_before_evaluation

host = sys.modules["fastreid.engine.launch"]  # the package's attribute of this name is the function


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


def join_processes(rank, local_rank, world_size, local_world_size, dist_url: str, cuda: bool) -> None:
    """Joins the process group (NCCL with GPUs, else gloo) and sets what the host's comm needs."""
    if cuda and local_world_size > torch.cuda.device_count():
        raise InputError(
            f"{local_world_size} processes were asked for, but torch finds {torch.cuda.device_count()} GPUs"
        )
    if cuda:
        torch.cuda.set_device(local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:  # each with all cores, they would wait for one another
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_world_size))
    dist.init_process_group("nccl" if cuda else "gloo", init_method=dist_url, world_size=world_size, rank=rank)
    for first in range(0, world_size, local_world_size):
        group = dist.new_group(list(range(first, first + local_world_size)))
        if first <= rank < first + local_world_size:
            comm._LOCAL_PROCESS_GROUP = group
    comm.synchronize()


def leave_processes() -> None:
    comm._LOCAL_PROCESS_GROUP = None
    dist.destroy_process_group()


def run_worker(local_rank, main_func, world_size, per_machine, machine_rank, dist_url, cuda, args, errors) -> None:
    """One process of a job: joins the others, runs `main_func`; an InputError goes to the parent, which tells it."""
    try:
        join_processes(machine_rank * per_machine + local_rank, local_rank, world_size, per_machine, dist_url, cuda)
        main_func(*args)
        leave_processes()
    except InputError as error:
        errors.put(str(error))
        sys.exit(2)


def launch(main_func, num_gpus_per_machine, num_machines=1, machine_rank=0, dist_url=None, args=()):
    """The host's function of this name, for GPUs, for CPU processes (gloo), and under torchrun.

    Args:
        main_func: called as ``main_func(*args)`` in every process.
        num_gpus_per_machine: processes on this machine; under torchrun it is torchrun that counts them.
        dist_url: "auto" takes a free port of this machine.

    Raises:
        InputError: the one that a process raised; or `dist_url` cannot be reached from other machines.
    """
    if under_torchrun():
        rank, local_rank, world, local_world = (
            int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
        )
        join_processes(rank, local_rank, world, local_world, "env://", wants_gpus(args))
        main_func(*args)
        return leave_processes()
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        return main_func(*args)
    if num_machines > 1 and (dist_url == "auto" or "127.0.0.1" in dist_url):
        raise InputError(f"--dist-url {dist_url} is no address for several machines: give tcp://HOST:PORT of the first")
    if dist_url == "auto":
        dist_url = f"tcp://127.0.0.1:{host._find_free_port()}"
    errors = mp.get_context("spawn").SimpleQueue()
    try:
        mp.spawn(
            run_worker,
            args=(main_func, world_size, num_gpus_per_machine, machine_rank, dist_url, wants_gpus(args), args, errors),
            nprocs=num_gpus_per_machine,
        )
    except (mp.ProcessExitedException, mp.ProcessRaisedException):
        if not errors.empty():
            raise InputError(errors.get()) from None
        raise


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


BATCH_NORM = torch.nn.modules.batchnorm._BatchNorm


class AverageNormalisation(HookBase):
    """After each epoch gives every process the mean of all processes' BN running statistics."""

    def __init__(self, model):
        self.model = model

    def after_epoch(self):
        for module in self.model.modules():
            # frozen layers are in eval mode: a mean of equal numbers may differ from them in the last bit
            if isinstance(module, BATCH_NORM) and module.training and module.running_mean is not None:
                for statistic in (module.running_mean, module.running_var):
                    dist.all_reduce(statistic)
                    statistic /= comm.get_world_size()


@fix
def share_normalisation_statistics() -> None:
    """Each process evaluates with BN statistics of its own, and the checkpoint holds those of the first process.

    DDP is built with broadcast_buffers=False. Their mean over all processes is what every process evaluates and saves.
    """

    def add(trainer, hooks):
        if comm.get_world_size() == 1:
            return hooks
        return insert_before_evaluation(hooks, AverageNormalisation(trainer.model))

    extend_hooks(add)
