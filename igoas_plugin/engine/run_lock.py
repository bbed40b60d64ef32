"""One run at a time in an OUTPUT_DIR: who is there is written into a hidden file, which goes with the run."""

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import BinaryIO

from igoas_plugin.core.errors import InputError

from .distributed import under_torchrun

try:
    import fcntl
except ImportError:  # on Windows: two runs in one folder are not kept apart there
    fcntl = None

LOCK = ".lock"
LONGEST = 10_000  # bytes of a lock: no more is read


@dataclass(frozen=True)
class Owner:
    """The process that has a folder.

    Args:
        host: name of its machine.
        system: what numbers of processes are unique in: a boot of a machine, and there a container.
        pid: its number.
        started: when it started, in the units of the system; a number is given anew, the two together are not.
        since: when it took the folder, in words.
    """

    host: str
    system: str
    pid: int
    started: str
    since: str

    @classmethod
    def this_process(cls) -> "Owner":
        pid = os.getpid()
        return cls(socket.gethostname(), this_system(), pid, start_of(pid), time.strftime("%Y-%m-%d %H:%M:%S %Z"))

    @property
    def has_gone(self) -> bool | None:
        """Whether it has ended; None where this cannot be told from here."""
        if self.host != socket.gethostname():
            return None
        boot, _, container = self.system.partition(" ")
        here_boot, _, here_container = this_system().partition(" ")
        if boot != here_boot:
            return True
        return start_of(self.pid) != self.started if container == here_container else None


def this_system() -> str:
    """The boot of this machine and the container in it, as far as Linux tells them."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return " "


def start_of(pid: int) -> str:
    """When a process of this machine started, in clock ticks since the boot; "" where there is none of this number."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            state, *fields = file.read().rpartition(")")[2].split()  # the name before it may hold anything
    except FileNotFoundError:
        if sys.platform == "linux":
            return ""
    else:
        return "" if state in "ZX" else fields[18]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "unknown"


@contextlib.contextmanager
def run_lock(folder: str, machine_rank: int = 0) -> Iterator[None]:
    """Keeps other runs out of a folder; other processes of a run than the first pass.

    The folder is made where it is missing, and goes again where the run has written nothing.

    The system's own lock on the file (of lockf(): it works over NFS, and no child inherits it) goes with the process,
    however it ends. Where a file system has none, or only one for each machine, the content of the file decides: a
    process of this machine that is still there, or one of another machine, has the folder. Two runs of the same moment
    are not kept apart there.

    Args:
        folder: OUTPUT_DIR of the run.
        machine_rank: of several machines; the first has the folder.

    Raises:
        InputError: another run has the folder, or its lock cannot be written.
    """
    if fcntl is None or (int(os.environ["RANK"]) if under_torchrun() else machine_rank) != 0:
        yield
        return
    path, missing = os.path.join(os.path.abspath(folder), LOCK), os.path.abspath(folder)
    made = []
    while not os.path.lexists(missing):
        made.append(missing)
        missing = os.path.dirname(missing)
    try:
        os.makedirs(folder, exist_ok=True)
        file = _taken(path, folder)
    except OSError as error:
        raise InputError(
            f"OUTPUT_DIR {folder} cannot be locked: {path}: {error.strerror}; name another folder, or remove that file "
            "if no run has it"
        ) from None
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # someone was told to remove it
                os.remove(path)
            for each in made:
                with contextlib.suppress(OSError):  # not empty: the run has written into it
                    os.rmdir(each)


def _taken(path: str, folder: str) -> BinaryIO:
    """The file of a lock, locked, with this process in it as its owner.

    Raises:
        InputError: another run has it.
        OSError: it cannot be written, or is something else than a file: a link, a pipe.
    """
    while True:
        file = open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b", buffering=0)
        try:
            owner, locked = _owner(file), _lock(file)
            if locked is False or (owner and not owner.has_gone):
                raise InputError(_refusal(owner, locked, path, folder))
            if locked is None or _is_there(file, path):  # else the last owner has just removed what was opened here
                file.seek(0)
                file.truncate()
                file.write(json.dumps(asdict(Owner.this_process())).encode())
                os.fsync(file.fileno())
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _lock(file: BinaryIO) -> bool | None:
    """Whether the system's lock on a file was got; None where the file system has no locks."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX leaves it to the system which
        return False
    except OSError:
        return None
    return True


def _is_there(file: BinaryIO, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _owner(file: BinaryIO) -> Owner | None:
    """Who wrote a lock; None where it is empty, was cut off as its machine went down, or holds something else."""
    try:
        owner = Owner(**json.loads(file.read(LONGEST)))
    except (ValueError, TypeError, RecursionError):
        return None
    return owner if all(type(getattr(owner, each.name)) is each.type for each in fields(Owner)) else None


def _refusal(owner: Owner | None, locked: bool | None, path: str, folder: str) -> str:
    if owner is None:
        return f"OUTPUT_DIR {folder} is just being taken by another run: name another folder"
    whose = f"a run since {owner.since}: process {owner.pid} on {owner.host}"
    if locked is False or owner.has_gone is False:
        return f"OUTPUT_DIR {folder} is used by {whose}: wait until it has ended, or name another folder"
    return (
        f"OUTPUT_DIR {folder} was taken by {whose}, and from {socket.gethostname()} it cannot be told whether that is "
        f"still there: if not, remove {path}"
    )
