"""Data loaders for any device, and clear errors when one of their workers dies."""

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

from igoas_plugin.core.errors import InputError, LostWorker, PluginError, error_in_traceback
from igoas_plugin.core.randomness import PreservedGenerators
from igoas_plugin.datasets.reading import kept_apart
from igoas_plugin.fastreid_fixes.device import usable_device
from igoas_plugin.fastreid_fixes.fix import fix, replace_everywhere
from igoas_plugin.fastreid_fixes.transforms import with_bytes

from .processes import end_with_parent, plugin_imported_first
from .training_data import NumberedSampler, RepeatableDataset, SkippingDataset

host = fastreid.data.build
host_build_train_loader, host_build_test_loader = host.build_reid_train_loader, host.build_reid_test_loader


def in_float32(batch: dict) -> dict:
    """Returns a batch whose images, if they are uint8, are float32 as models expect them, still in [0, 255]."""
    images = batch.get("images") if isinstance(batch, dict) else None
    is_bytes = isinstance(images, torch.Tensor) and images.dtype == torch.uint8
    return {**batch, "images": images.float()} if is_bytes else batch


class DataLoaderX(DataLoader):
    """Loader that replaces fast-reid's on any device: batches are dicts with tensors on `device`.

    torch's own workers prefetch. With CUDA the copy of the next batch overlaps the step on a side stream.
    """

    def __init__(self, local_rank: int, **kwargs):
        cuda = torch.cuda.is_available()
        super().__init__(**{**kwargs, "pin_memory": kwargs.get("pin_memory", False) and cuda})
        self.device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
        self._user_init_fn = self.worker_init_fn

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
                if isinstance(value, torch.Tensor):  # the allocator must not reuse it before the step has finished
                    value.record_stream(torch.cuda.current_stream(self.device))
            yield batch

    def _batches(self):
        try:
            with lost_workers_in_one_line():
                self.worker_init_fn = functools.partial(init_worker, os.getpid(), self._user_init_fn)
                # torch draws a seed for the workers from the generator of the model
                with PreservedGenerators(), plugin_imported_first():
                    batches = super().__iter__()
                patch_sigchld_handler()
                for batch in batches:
                    if report := getattr(self.dataset, "report_skipped", None):
                        report()
                    yield batch if self.device.type == "cuda" else in_float32(batch)
        except PluginError as error:
            raise error_in_traceback(error.args[0]) or error from None

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
        """Does nothing: part of the interface of fast-reid, whose loader has a thread to stop."""


def cfg_of(args: tuple, kwargs: dict) -> CfgNode | None:
    """Returns the config among the arguments of a function that builds a loader, or None."""
    given = args[0] if args else kwargs.get("cfg")
    return given if isinstance(given, CfgNode) else None


def set_device(loader: DataLoaderX, cfg: CfgNode | None) -> None:
    """Sets the device of a loader to MODEL.DEVICE."""
    if cfg is not None:
        device = torch.device(usable_device(cfg.MODEL.DEVICE))
        if device.type == "cpu" or device.index is not None:  # otherwise the loader has the process's own GPU
            loader.device = device
            loader.pin_memory = loader.pin_memory and device.type == "cuda"


def follow_environment() -> None:
    """Sets fast-reid's root of the data sets to the present FASTREID_DATASETS."""
    host._root = os.getenv("FASTREID_DATASETS", host._root)


def training_set(cfg, transforms: Callable, **kwargs) -> CommDataset:
    """Returns the training set of DATASETS.NAMES; identities and cameras of several data sets are kept apart.

    Args:
        transforms: of an image.
        kwargs: arguments of each data set, such as `combineall`.
    """
    sets = []
    for name in cfg.DATASETS.NAMES:
        data = host.DATASET_REGISTRY.get(name)(root=host._root, **kwargs)
        if comm.is_main_process():
            data.show_train()
        sets.append((name, data.train))
    return host.CommDataset(kept_apart(sets), transforms, relabel=True)


def train_loader_arguments(cfg, *, train_set=None, transforms=None, sampler=None, **kwargs):
    """Returns the arguments of fast-reid's function for a training loader, with repeatable data."""
    transforms = host.build_transforms(cfg, is_train=True) if transforms is None else transforms
    train_set = training_set(cfg, transforms, **kwargs) if train_set is None else train_set
    arguments = host._train_loader_from_config(cfg, train_set=train_set, transforms=transforms, sampler=sampler)
    data_set, sampler = with_bytes(arguments["train_set"]), arguments["sampler"]
    if cfg.DATALOADER.get("ON_ERROR") == "skip":
        data_set = SkippingDataset(data_set)
    seed = cfg.get("SEED", -1)
    if seed < 0:
        seed = comm.shared_random_seed()
    elif hasattr(sampler, "_seed"):  # fast-reid's samplers draw their own seed
        sampler._seed = seed
    return {**arguments, "train_set": RepeatableDataset(data_set, seed), "sampler": NumberedSampler(sampler, seed)}


configured_train_loader = configurable(from_config=train_loader_arguments)(host_build_train_loader.__wrapped__)


def build_reid_train_loader(*args, **kwargs):
    """Replaces fast-reid's function: refuses a training set smaller than a batch, which would train nothing.

    Raises:
        InputError: SOLVER.IMS_PER_BATCH is larger than the training set.
    """
    follow_environment()
    cfg = cfg_of(args, kwargs)
    loader = configured_train_loader(*args, **kwargs)
    if cfg is not None and cfg.SOLVER.IMS_PER_BATCH > len(loader.dataset):
        raise InputError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH} but the training set {cfg.DATASETS.NAMES} has only "
            f"{len(loader.dataset)} images: lower SOLVER.IMS_PER_BATCH"
        )
    set_device(loader, cfg)
    return loader


def test_loader_arguments(cfg, **kwargs):
    """Returns the arguments of fast-reid's function for a test loader, with DATALOADER.NUM_WORKERS workers."""
    arguments = host._test_loader_from_config(cfg, **kwargs)
    data_set = with_bytes(arguments["test_set"])
    return {**arguments, "test_set": data_set, "num_workers": cfg.DATALOADER.NUM_WORKERS}


configured_test_loader = configurable(from_config=test_loader_arguments)(host_build_test_loader.__wrapped__)


def build_reid_test_loader(*args, **kwargs):
    """Replaces fast-reid's function: uses DATALOADER.NUM_WORKERS workers."""
    follow_environment()
    loader, num_query = configured_test_loader(*args, **kwargs)
    set_device(loader, cfg_of(args, kwargs))
    return loader, num_query


@fix
def load_data_on_any_device() -> None:
    """RuntimeError: the loader creates a CUDA stream, so without a GPU nothing trains and nothing is evaluated.

    Its prefetch thread also swallowed errors of the data set (the run then hung), its test loader always had 4 workers,
    FASTREID_DATASETS was read only at import, and images were sent between processes and to the GPU as float32. They
    are now sent as bytes, and converted on the device. Identity 1 of two training sets was one class, unless their
    labels carried a name. Upstream: fast-reid #97, #266, #485, #636.
    """
    replace_everywhere(HostLoader, DataLoaderX)
    replace_everywhere(host_build_train_loader, build_reid_train_loader)
    replace_everywhere(host_build_test_loader, build_reid_test_loader)


@fix
def collate_numbers_of_any_type() -> None:
    """Camera ids of a numpy type become None in the batch: fast-reid's collate function handles int and float only.

    torch's default_collate does the same, and handles numpy scalars.
    """
    replace_everywhere(host.fast_batch_collator, default_collate)


def new_data_set(kind: type) -> CommDataset:
    """Returns an uninitialised data set, for unpickling."""
    return kind.__new__(kind)


def reduce_data_set(data_set: CommDataset, protocol: int):
    """Pickles a data set so that unpickling it imports the plugin first, to find new_data_set()."""
    reduced = object.__reduce_ex__(data_set, max(protocol, 2))
    if type(data_set).__reduce__ is not object.__reduce__:  # a subclass pickles in a way of its own
        return reduced
    return new_data_set, (type(data_set),), reduced[2]


@fix
def import_plugin_in_spawned_workers() -> None:
    """ImportError in spawned loader workers: they unpickle the data set before anything has imported the plugin.

    The data set now pickles by a function of the plugin, so that unpickling it patches fast-reid first. Workers are
    spawned by default on macOS and Windows.
    """
    CommDataset.__reduce_ex__ = reduce_data_set


DEAD = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: ([^.]+)|exited unexpectedly)")
NO_SPACE = re.compile(r"torch_\S+.*No space left on device|shared memory.*No space left on device", re.S)
SHARED_MEMORY = "/dev/shm"
OUT_OF_MEMORY = "most likely the machine, or its container, is out of memory; lower DATALOADER.NUM_WORKERS"


def init_worker(parent: int, user_init_fn: Callable[[int], None] | None, worker: int) -> None:
    """Makes a loader's worker end with its parent process, and ignore Ctrl-C; then calls the user's worker_init_fn.

    torch's own watchdog misses a parent that ends before the worker has started, which takes seconds when it is
    spawned.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)
    if user_init_fn is not None:
        user_init_fn(worker)


def lost_worker(error: RuntimeError) -> LostWorker | None:
    """Returns torch's error about a dead worker or full shared memory as one line; None for other errors."""
    dead, no_space = DEAD.search(str(error)), NO_SPACE.search(str(error))
    if not dead and not no_space:
        return None
    who = "a worker of the data loader" + (f" (process {dead[1]})" if dead else "")
    if no_space or dead[2] == "Bus error":  # torch describes full shared memory in two ways
        size, _, free = shutil.disk_usage(SHARED_MEMORY) if os.path.isdir(SHARED_MEMORY) else (0, 0, 0)
        return LostWorker(
            f"{who} found the shared memory full ({SHARED_MEMORY}: {size / 2**20:,.0f} MiB, {free / 2**20:,.0f} free): "
            "make it larger (docker run --shm-size 8g, or ipc: host), or lower DATALOADER.NUM_WORKERS; with 0 none is "
            "needed"
        )
    how = f"was ended from outside ({dead[2]})" if dead[2] else "ended unexpectedly"
    return LostWorker(f"{who} {how}: {OUT_OF_MEMORY}")


@contextmanager
def lost_workers_in_one_line() -> Iterator[None]:
    """Context that turns torch's error about a lost worker into a LostWorker: see lost_worker()."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__cause__, PluginError):  # raised by the SIGCHLD handler while torch waited for a batch
            raise error.__cause__ from None
        raise lost_worker(error) or error from None
    except (OSError, EOFError) as error:
        if not is_from_a_connection(error):
            raise
        raise LostWorker(f"a worker of the data loader ended while it handed over a batch: {OUT_OF_MEMORY}") from error


def is_from_a_connection(error: Exception) -> bool:
    """Returns whether an error comes from the socket by which a worker sends a batch, and not from a data set."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_globals.get("__name__") == "multiprocessing.connection" for frame in frames)


def patch_sigchld_handler() -> None:
    """Makes torch's SIGCHLD handler raise a LostWorker too; it may raise anywhere in the main thread, even in a step.

    torch sets its handler with the first workers of a process, so this function must be called after that.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return
    handler = signal.getsignal(signal.SIGCHLD)
    if getattr(handler, "__module__", "") != "torch.utils.data._utils.signal_handling":
        return

    def patched(number, frame) -> None:
        with lost_workers_in_one_line():
            handler(number, frame)

    signal.signal(signal.SIGCHLD, patched)
