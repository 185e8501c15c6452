"""Small disks of their own, which fill up, are enlarged, and can be made read-only (to mount one needs the rights of root); and writing
that waits for no disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

BLOCK = 4096  # bytes


@contextmanager
def small(folder: Path, megabytes: int = 1) -> Iterator[Path]:
    """PermissionError where this account may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)]
    if os.name != "posix" or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        raise PermissionError("mounting a small disk needs the rights of root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(disk: Path, how: str) -> None:
    """how: size=16m, ro or rw."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


@contextmanager
def read_only(folder: Path, at: Path) -> Iterator[None]:
    """The folder a second time, there: a disk on which somebody has a file open cannot be made read-only itself."""
    at.mkdir()
    for how in (["--bind", str(folder)], ["-o", "remount,bind,ro"]):
        subprocess.run(["mount", *how, str(at)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


@contextmanager
def filled(disk: Path, left: int = 0) -> Iterator[None]:
    """Meanwhile only so many bytes are left."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as f, suppress(OSError):
        while shutil.disk_usage(disk).free > left:
            f.write(bytes(BLOCK))
    try:
        yield
    finally:
        filler.unlink()


# Of a disk that never loses its power: a transaction of SQLite waits 4 ms for a real one, and a file that is written whole as long.


def no_fsync(_fd: int) -> None: ...


def unsynced(connect: Callable[[sa.URL], sa.Engine]) -> Callable[[sa.URL], sa.Engine]:
    """The same engines, of which SQLite's wait for no disk."""

    def connected(url: sa.URL) -> sa.Engine:
        made = connect(url)
        if url.drivername == "sqlite":
            sa.event.listen(made, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        return made

    return connected
