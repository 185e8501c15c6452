"""Forks from one process that has imported PyTorch already: 0.1 s instead of 4 s for each python that a test starts.

What runs is a process of its own all the same, with its own session, log, pid and end; that the real launcher does the same from
nothing is tested in tests/runs/test_launch.py, and every browser test uses it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pickle
import queue
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

import cloudpickle
from loky.process_executor import BrokenProcessPool

from core.data import schema
from core.ml.forks import reap, status_of
from core.runs import launch
from core.runs.launch import NICE, ROOT, LocalLauncher
from core.settings import settings
from tests import disks, exporting

PRELOADED = (
    "torch",
    "torchvision",
    "timm",
    "pandas",
    "core.__main__",
    "core.ml.worker",
    "core.ml.finder",
    "core.ml.speed",
    "core.ml.infer",
    "core.ml.attribute",
    "core.ml.embed",
    "core.ml.patterns",
    "core.data.imports",  # what jobs need: half a second of a core for each that is forked
    "core.label.embed",
    "core.share.archive",
    "core.share.export",
    "core.share.report",
)
PRELOADED_APP = ("streamlit.web.cli", "pandas", "pyarrow", "PIL.Image", "plotly.graph_objects", "core.api.operations", "core.api.v1.app")
PID = 8  # bytes
HOME = "LOUPE_HOME"
ADDRESS = "LOUPE_TEST_FORKS"  # the environment variable with the path of the server's socket


@dataclass(frozen=True)
class Forked:
    """A process that was forked; it says its exit status over the connection, and nothing if it was killed."""

    pid: int
    connection: socket.socket

    def wait(self, seconds: float | None = None) -> int:
        self.connection.settimeout(seconds)
        return int(self.connection.recv(8) or -signal.SIGKILL)


@functools.cache
def server(of: str = "torch") -> str:
    """Where a forking process of this test process listens; started at its first need, it ends with this process."""
    folder = tempfile.mkdtemp(prefix="loupe-forks-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = str(Path(folder) / "socket")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    ours, theirs = socket.socketpair()
    fds = [listener.fileno(), theirs.fileno()]
    subprocess.Popen([sys.executable, "-m", "tests.forking", of, *map(str, fds)], cwd=ROOT, pass_fds=fds, stdin=subprocess.DEVNULL)
    ends_with_us.append(ours)
    return path


ends_with_us: list[socket.socket] = []


def fork(
    argv: list[str], log: Path, errors: Path | None = None, tree: Path = ROOT, of: str = "torch", env: dict[str, str] | None = None
) -> Forked:
    """What `python argv…` does in the tree, with -m or -c; it prints to the end of the log, and errors into another file if one is named."""
    address = os.environ.get(ADDRESS) or server()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address if of == "torch" else server(of))
    environment = {**(os.environ if env is None else env), ADDRESS: address}
    asked = {"argv": argv, "log": str(log), "errors": str(errors or log), "tree": str(tree), "env": environment}
    connection.sendall(json.dumps(asked).encode() + b"\n")
    return Forked(int(connection.recv(PID, socket.MSG_WAITALL)), connection)


def fork_app(port: int, log: Path, env: dict[str, str]) -> Forked:
    """What `streamlit run app.py` does; what the app starts is forked, too."""
    return fork(["-c", f"from tests.forking import run_app; run_app({port})"], log, of="app", env=env)


def run_app(port: int) -> None:
    from streamlit.web import cli

    launch.launcher = ForkLauncher()
    launch.expect_run = lambda: None  # there is a process that forks already
    launch._start_worker = ForkedWorker  # type: ignore[assignment]
    cli.main(["run", "app.py", "--server.port", str(port)])


class ForkedWorker:
    """A model worker that is forked: loky's executor of one process, as far as core.runs.launch asks for it."""

    def __init__(self, slow: bool) -> None:
        with Listener(family="AF_UNIX") as door:
            self._process = fork(["-c", f"from tests.forking import answer; answer({door.address!r}, {slow})"], Path(os.devnull))
            self._line = door.accept()
        self._calls: queue.SimpleQueue[tuple[Future[Any], bytes]] = queue.SimpleQueue()
        self._broken = False
        threading.Thread(target=self._send, daemon=True).start()

    def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._calls.put((future, cloudpickle.dumps((os.environ.get(HOME), function, args, kwargs))))
        if self._broken:
            self._refuse()
        return future

    def _send(self) -> None:
        while True:
            future, call = self._calls.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                self._line.send_bytes(call)
                good, value = pickle.loads(self._line.recv_bytes())
            except (EOFError, OSError):
                self._broken = True
                future.set_exception(BrokenProcessPool("The worker ended."))
                self._refuse()
                return
            if good:
                future.set_result(value)
            else:
                future.set_exception(value)

    def _refuse(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                future, _ = self._calls.get_nowait()
                if future.set_running_or_notify_cancel():
                    future.set_exception(BrokenProcessPool("The worker ended."))

    def shutdown(self, wait: bool, kill_workers: bool) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)


def answer(address: str, slow: bool) -> None:
    """What a forked worker does: one call after the other, until nobody is there to ask."""
    if slow:
        os.nice(NICE)
    line = Client(address)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            home, function, args, kwargs = pickle.loads(line.recv_bytes())
            if home is not None and home != os.environ.get(HOME):  # a worker outlives tests, and each has a home of its own
                os.environ[HOME] = home
                settings.cache_clear()
            try:
                said = cloudpickle.dumps((True, function(*args, **kwargs)))
            except Exception as e:
                said = cloudpickle.dumps((False, e))
            line.send_bytes(said)


class ForkLauncher(LocalLauncher):
    """What the launcher does, by forking."""

    def start(self, folder: Path, command: list[str]) -> None:
        if command[:2] != [sys.executable, "-m"]:
            super().start(folder, command)
            return
        started = fork(command[1:], folder / "worker.log")
        started.connection.close()
        self._children.pop(folder, None)
        launch.hand_over(folder, started.pid)


def serve(of: str, listener: socket.socket, life: socket.socket) -> None:
    """Forks one child for each connection until the other side of life is closed."""
    gc.disable()  # what is loaded stays, and a child that looked through it would copy all of this memory
    for module in PRELOADED if of == "torch" else PRELOADED_APP:
        importlib.import_module(module)
    if of == "torch":
        exporting.prepare()
    if "PYTEST_VERSION" in os.environ:  # and not one of the trials, some of which end like a loss of power
        os.fsync = disks.no_fsync  # type: ignore[assignment]
        schema.connected = disks.unsynced(schema.connected)  # type: ignore[assignment]
    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGCHLD, reap)
    while life not in select.select([listener, life], [], [])[0]:
        connection = listener.accept()[0]
        asked = json.loads(connection.makefile("rb").readline())
        if not os.fork():
            listener.close()
            life.close()
            connection.sendall(f"{os.getpid():{PID}}".encode())
            become(connection, **asked)
        connection.close()


def become(connection: socket.socket, argv: list[str], log: str, errors: str, tree: str, env: dict[str, str]) -> None:
    """What python does with these arguments, in this child."""

    def work() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.environ.clear()
        os.environ.update(env, PYTHONUNBUFFERED="1")
        for fd, file in ((1, log), (2, errors)):
            os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT), fd)
        if tree != str(ROOT):
            os.chdir(tree)
            sys.path[:] = [tree, *(p for p in sys.path if p not in ("", str(ROOT)))]
            for name in [n for n in sys.modules if n.partition(".")[0] in ("core", "pages", "tests")]:
                del sys.modules[name]
        kind, what, *rest = argv
        sys.argv = [kind if kind == "-c" else what, *rest]
        if kind == "-c":
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.modules.pop(what, None)
            if what == "core":
                sys.modules.pop("core.__main__", None)
            runpy.run_module(what, run_name="__main__", alter_sys=True)

    status = status_of(work)
    with contextlib.suppress(OSError):
        connection.sendall(str(status).encode())
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1], *(socket.socket(fileno=int(fd)) for fd in sys.argv[2:]))
