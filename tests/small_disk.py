"""A file system that is soon full."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

MOUNT = ["mount", "-t", "tmpfs", "-o"]


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A tmpfs of its own; the test is skipped where this user may mount none, not even in a namespace.

    Args:
        folder: it is mounted there, or seen at the path that is given.
        options: of mount, such as ``size=8m``.
    """
    folder.mkdir()
    try:
        done = subprocess.run([*MOUNT, options, "none", str(folder)], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount on this system")
    if done.returncode == 0:
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    with in_a_namespace(folder, options) as holder:
        yield Path(f"/proc/{holder}/root{folder}")


@contextlib.contextmanager
def in_a_namespace(folder: Path, options: str) -> Iterator[int]:
    """A process that has mounted it where no other process looks, but through its /proc entry."""
    script = f"{' '.join(MOUNT)} {options} none '{folder}' && echo mounted && exec cat"
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
    try:
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except FileNotFoundError:
        pytest.skip("this user may not mount a file system, and there is no unshare")
    with holder:
        try:
            told = holder.stdout.readline().decode().strip()
            if told != "mounted" or not os.access(f"/proc/{holder.pid}/root{folder}", os.R_OK):
                pytest.skip(f"this user may not mount a file system: {told or 'no access to the namespace'}")
            yield holder.pid
        finally:
            holder.stdin.close()  # which ends it


def fill(folder: Path, leave: int) -> Path:
    """Writes a file that leaves so many bytes free."""
    ballast = folder / "ballast"
    free = os.statvfs(folder)
    ballast.write_bytes(bytes(max(free.f_bavail * free.f_frsize - leave, 0)))
    return ballast
