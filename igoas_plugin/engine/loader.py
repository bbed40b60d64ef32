"""Data loaders on any device, and what is logged where one of their workers dies."""

import functools
import os
import re
import shutil
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import fastreid.data.build
import torch
from fastreid.config import CfgNode, configurable
from fastreid.data.common import CommDataset
from fastreid.data.data_utils import DataLoaderX as HostLoader
from fastreid.utils import comm
from torch.utils.data import DataLoader, default_collate

from igoas_plugin.core.errors import InputError, LostWorker, PluginError, raised_elsewhere
from igoas_plugin.core.randomness import GivenBack
from igoas_plugin.fastreid_fixes.device import usable_device
from igoas_plugin.fastreid_fixes.fix import fix, replace_everywhere
from igoas_plugin.fastreid_fixes.transforms import with_bytes

from .processes import end_with_parent
from .repeatable_data import NumberedSampler, RepeatableDataset
from .unreadable_images import SkippingDataset, skipping

host = fastreid.data.build
root = host._root  # as the host or follow_environment() set it
build_host_train_loader, build_host_test_loader = host.build_reid_train_loader, host.build_reid_test_loader


def in_float32(batch: dict) -> dict:
    """The batch with its images, which come as bytes, in float32 as models expect them, still in [0, 255]."""
    images = batch.get("images") if isinstance(batch, dict) else None
    is_bytes = isinstance(images, torch.Tensor) and images.dtype == torch.uint8
    return {**batch, "images": images.float()} if is_bytes else batch


class DataLoaderX(DataLoader):
    """The host's loader for any device: batches of its dict form, tensors already on `device`.

    torch's own workers fetch ahead; with CUDA the copy of the next batch overlaps the step on a side stream.
    """

    def __init__(self, local_rank: int, **kwargs):
        cuda = torch.cuda.is_available()
        super().__init__(**{**kwargs, "pin_memory": kwargs.get("pin_memory", False) and cuda})
        self.device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
        self._begin = self.worker_init_fn

    def __iter__(self):
        batches = self._batches()
        if self.device.type != "cuda":
            yield from batches
            return
        stream = torch.cuda.Stream(self.device)
        ahead = self._to_device(next(batches, None), stream)
        while ahead is not None:
            torch.cuda.current_stream(self.device).wait_stream(stream)
            batch, ahead = ahead, self._to_device(next(batches, None), stream)
            for value in batch.values():
                if isinstance(value, torch.Tensor):  # the allocator must not reuse it before the step is done
                    value.record_stream(torch.cuda.current_stream(self.device))
            yield batch

    def _batches(self):
        try:
            with lost_workers_in_one_line():
                self.worker_init_fn = functools.partial(begin_worker, os.getpid(), self._begin)
                with GivenBack():  # torch draws a seed for the workers: not from what a run's first step draws from
                    batches = super().__iter__()
                mend_handler()
                for batch in batches:
                    if data_set := skipping(self.dataset):
                        data_set.report()
                    yield batch if self.device.type == "cuda" else in_float32(batch)
        except PluginError as error:
            raise raised_elsewhere(error.args[0]) or error from None

    def _to_device(self, batch: dict | None, stream: torch.cuda.Stream) -> dict | None:
        if batch is None:
            return None
        with torch.cuda.stream(stream):
            moved = {
                key: value.to(self.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
                for key, value in batch.items()
            }
            return in_float32(moved)

    def shutdown(self) -> None:
        """Part of the host's interface; there is no thread of ours to stop."""


def cfg_of(args: tuple, kwargs: dict) -> CfgNode | None:
    given = args[0] if args else kwargs.get("cfg")
    return given if isinstance(given, CfgNode) else None


def prepare_loader(loader: DataLoaderX, cfg: CfgNode | None) -> None:
    if cfg is not None:
        device = torch.device(usable_device(cfg.MODEL.DEVICE))
        if device.type == "cpu" or device.index is not None:  # else the process's own GPU
            loader.device = device
            loader.pin_memory = loader.pin_memory and device.type == "cuda"


def follow_environment() -> None:
    """Sets the host's root of the data sets to FASTREID_DATASETS as it is now, unless a script has set another root."""
    global root
    if host._root == root:
        host._root = root = os.getenv("FASTREID_DATASETS", "datasets")


def train_loader_arguments(cfg, **kwargs):
    arguments = host._train_loader_from_config(cfg, **kwargs)
    data_set, sampler = with_bytes(arguments["train_set"]), arguments["sampler"]
    if cfg.get("DATALOADER", {}).get("ON_ERROR") == "skip":
        data_set = SkippingDataset(data_set)
    seed = cfg.get("SEED", -1)
    if seed < 0:
        seed = comm.shared_random_seed()
    elif hasattr(sampler, "_seed"):  # of a sampler of the host, which drew one
        sampler._seed = seed
    return {**arguments, "train_set": RepeatableDataset(data_set, seed), "sampler": NumberedSampler(sampler, seed)}


configured_train_loader = configurable(from_config=train_loader_arguments)(build_host_train_loader.__wrapped__)


def build_reid_train_loader(*args, **kwargs):
    """The host's function of this name; refuses a set that is smaller than one batch (it would train nothing).

    Raises:
        InputError: SOLVER.IMS_PER_BATCH is larger than the training set.
    """
    follow_environment()
    cfg = cfg_of(args, kwargs)
    loader = configured_train_loader(*args, **kwargs)
    if cfg is not None and cfg.SOLVER.IMS_PER_BATCH > len(loader.dataset):
        raise InputError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH} but the training set {cfg.DATASETS.NAMES} has only "
            f"{len(loader.dataset)} images: an epoch would have no step; lower SOLVER.IMS_PER_BATCH"
        )
    prepare_loader(loader, cfg)
    return loader


def test_loader_arguments(cfg, **kwargs):
    arguments = host._test_loader_from_config(cfg, **kwargs)
    data_set = with_bytes(arguments["test_set"])
    return {**arguments, "test_set": data_set, "num_workers": cfg.DATALOADER.NUM_WORKERS}


configured_test_loader = configurable(from_config=test_loader_arguments)(build_host_test_loader.__wrapped__)


def build_reid_test_loader(*args, **kwargs):
    """The host's function of this name; DATALOADER.NUM_WORKERS governs it too."""
    follow_environment()
    loader, num_query = configured_test_loader(*args, **kwargs)
    prepare_loader(loader, cfg_of(args, kwargs))
    return loader, num_query


@fix
def load_data_on_any_device() -> None:
    """RuntimeError: the loader makes a CUDA stream, so that without a GPU nothing trains and nothing is evaluated.

    Its prefetch thread swallowed errors of the data set (the run then hung) and had to be shut down by hand; its test
    loader always had 4 workers; FASTREID_DATASETS was read at import only. And images went from process to process, and
    to the GPU, as float32: they now stay bytes until they are on the device, where a model gets its float32.
    Upstream: fast-reid #97, #266, #485, #636.
    """
    replace_everywhere(HostLoader, DataLoaderX)
    replace_everywhere(build_host_train_loader, build_reid_train_loader)
    replace_everywhere(build_host_test_loader, build_reid_test_loader)


@fix
def collate_numbers_of_any_type() -> None:
    """Camera ids of a numpy type become None in the batch: the host's collate function knows int and float only.

    torch's default_collate does what the host's does, for numpy scalars too.
    """
    replace_everywhere(host.fast_batch_collator, default_collate)


def new_data_set(kind: type) -> CommDataset:
    return kind.__new__(kind)


def reduce_data_set(data_set: CommDataset, protocol: int):
    # a function of the plugin comes first in the pickle: to find it, the plugin is imported
    return new_data_set, (type(data_set),), object.__reduce_ex__(data_set, max(protocol, 2))[2]


@fix
def import_plugin_in_spawned_workers() -> None:
    """ImportError in spawned loader workers: they unpickle the data set before anything imported the plugin.

    The data set now pickles by a function of the plugin, so unpickling it mends the host first. Spawning is the
    default on macOS and Windows.
    """
    CommDataset.__reduce_ex__ = reduce_data_set


DEAD = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: ([^.]+)|exited unexpectedly)")
NO_ROOM = re.compile(r"torch_\S+.*No space left on device|shared memory.*No space left on device", re.S)
SHARED_MEMORY = "/dev/shm"
RAISE_IT = (
    "make it larger (docker run --shm-size 8g, or ipc: host), or lower DATALOADER.NUM_WORKERS; with 0 none is needed"
)


def begin_worker(parent: int, then: Callable[[int], None] | None, worker: int) -> None:
    """A loader's worker ends with the process that it works for, and only with it: Ctrl-C is not for the worker.

    torch's own watch misses a process that ends before its worker has begun, which takes a spawned one seconds.

    Args:
        parent: number of the process that it works for.
        then: what a user lets the worker begin with.
        worker: its number among the loader's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)
    if then is not None:
        then(worker)


def lost_worker(error: RuntimeError) -> LostWorker | None:
    """What torch says of dead workers, or of full shared memory, as one line of what to do; None: it is another error.

    Args:
        error: as a loader of torch raises it.
    """
    if NO_ROOM.search(str(error)):
        return LostWorker(f"a worker of the data loader found {room()}: {RAISE_IT}")
    match = DEAD.search(str(error))
    if match is None:
        return None
    pids, killed_by = match.groups()
    who = f"a worker of the data loader (process {pids})"
    if killed_by == "Bus error":
        return LostWorker(f"{who} was ended by a bus error: it found {room()}: {RAISE_IT}")
    how = f"was ended from outside ({killed_by})" if killed_by else "ended unexpectedly"
    return LostWorker(
        f"{who} {how}: most likely the machine, or its container, is out of memory; lower DATALOADER.NUM_WORKERS"
    )


def room() -> str:
    """What is left of the memory that processes share."""
    if not os.path.isdir(SHARED_MEMORY):
        return "the shared memory full"
    size, _, free = shutil.disk_usage(SHARED_MEMORY)
    return f"the shared memory full ({SHARED_MEMORY}: {size / 2**20:,.0f} MiB, {free / 2**20:,.0f} free)"


@contextmanager
def lost_workers_in_one_line() -> Iterator[None]:
    """A context in which what torch raises for a lost worker comes as the LostWorker of lost_worker()."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__cause__, PluginError):  # of the handler below, while torch waited for a batch
            raise error.__cause__ from None
        raise lost_worker(error) or error from None
    except (OSError, EOFError) as error:
        if not in_a_handover(error):
            raise
        raise LostWorker(
            "a worker of the data loader ended while it handed over a batch: most likely the machine, or its "
            "container, is out of memory; lower DATALOADER.NUM_WORKERS"
        ) from error


def in_a_handover(error: Exception) -> bool:
    """Whether it comes from the socket by which a worker hands over a batch, and not from a data set."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_globals.get("__name__") == "multiprocessing.connection" for frame in frames)


def mend_handler() -> None:
    """Lets torch's handler of SIGCHLD raise that error too: it raises wherever the main thread is, in a step as well.

    To be called once torch has set its handler, which it does for the first workers of a process.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return
    handler = signal.getsignal(signal.SIGCHLD)
    if getattr(handler, "__module__", "") != "torch.utils.data._utils.signal_handling":
        return

    def mended(number, frame) -> None:
        with lost_workers_in_one_line():
            handler(number, frame)

    signal.signal(signal.SIGCHLD, mended)
