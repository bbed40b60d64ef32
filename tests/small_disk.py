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
    """Mounts a tmpfs; skips the test where this user may mount none, not even in a namespace.

    Args:
        folder: mount point; in a namespace the yielded path leads to it.
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
    with in_a_namespace(folder, options) as seen:
        yield seen


@contextlib.contextmanager
def in_a_namespace(folder: Path, options: str) -> Iterator[Path]:
    """Mounts it in the namespace of another process, and yields its path below that process's /proc entry."""
    script = f"{' '.join(MOUNT)} {options} none '{folder}' && echo mounted && exec cat"
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
    try:
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except FileNotFoundError:
        pytest.skip("this user may not mount a file system, and there is no unshare")
    with holder:
        try:
            told = holder.stdout.readline().decode().strip()
            seen = Path("/proc", str(holder.pid), "root", folder.relative_to("/"))
            if told != "mounted" or not os.access(seen, os.R_OK):
                pytest.skip(f"this user may not mount a file system: {told or 'no access to the namespace'}")
            yield seen
        finally:
            holder.stdin.close()  # ends the process


def fill(folder: Path, leave: int) -> Path:
    """Writes a file that leaves `leave` bytes free, and returns its path."""
    ballast = folder / "ballast"
    free = os.statvfs(folder)
    ballast.write_bytes(bytes(max(free.f_bavail * free.f_frsize - leave, 0)))
    return ballast
