"""Starts what the launcher starts by forking a process that has imported PyTorch already: 0.1 s instead of 4 s for each run of a test.

What runs is a process of its own all the same, with its own session, log, pid and end; that the real launcher does the same from
nothing is tested in tests/runs/test_launch.py, and every browser test uses it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import psutil

from core.runs.launch import ROOT, LocalLauncher
from core.runs.runs import write_json

PRELOADED = ("torch", "torchvision", "timm", "pandas", "core.__main__", "core.ml.worker", "core.ml.finder", "core.ml.speed")


class ForkLauncher(LocalLauncher):
    """One forking process per test process, started at its first need."""

    def __init__(self) -> None:
        super().__init__()
        self._socket: socket.socket | None = None

    def start(self, folder: Path, command: list[str]) -> None:
        if command[:2] != [sys.executable, "-m"]:
            super().start(folder, command)
            return
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            server = [sys.executable, "-m", "tests.forking", str(theirs.fileno())]
            subprocess.Popen(server, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
            theirs.close()
        self._socket.sendall(json.dumps({"argv": command[2:], "log": str(folder / "worker.log"), "env": dict(os.environ)}).encode() + b"\n")
        pid = int(self._socket.recv(32))
        self._children.pop(folder, None)
        started = 0.0
        with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended already
            started = psutil.Process(pid).create_time()
        write_json(folder / "handle.json", {"pid": pid, "started": started})


def reap(*_: object) -> None:
    """Children that have ended must not stay as zombies."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def serve(connection: socket.socket) -> None:
    """Forks one child for each line until the other side is closed."""
    for module in PRELOADED:
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, reap)
    for line in connection.makefile("rb"):
        asked = json.loads(line)
        if pid := os.fork():
            connection.sendall(str(pid).encode())
            continue
        become(connection, **asked)


def become(connection: socket.socket, argv: list[str], log: str, env: dict[str, str]) -> None:
    """What python -m does, in this child."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        connection.close()
        os.setsid()
        os.environ.clear()
        os.environ.update(env, PYTHONUNBUFFERED="1")
        out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.argv = argv
        sys.modules.pop(argv[0], None)
        if argv[0] == "core":
            sys.modules.pop("core.__main__", None)
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
