"""The only module that starts processes: training and imports on their own, and two long-lived model workers."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

import psutil
from loky import ProcessPoolExecutor
from loky.process_executor import BrokenProcessPool, ShutdownExecutorError

from core import meters
from core.errors import AppError, WorkerFailed
from core.runs.remote import infer
from core.runs.runs import read_json, write_json

P = ParamSpec("P")
R = TypeVar("R")

ROOT = Path(__file__).parents[2]


class Launcher(Protocol):
    """What training needs from a machine: a folder and a command line."""

    def start(self, folder: Path, command: list[str]) -> None: ...
    def alive(self, folder: Path) -> bool: ...
    def kill(self, folder: Path) -> None: ...


class LocalLauncher:
    """Runs a command in its own session, so that it outlives the page and the server."""

    def __init__(self) -> None:
        self._children: dict[Path, subprocess.Popen[bytes]] = {}  # kept to reap them: a zombie has a pid too

    def start(self, folder: Path, command: list[str]) -> None:
        with open(folder / "worker.log", "ab") as log:
            child = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self._children[folder] = child
        write_json(folder / "handle.json", {"pid": child.pid, "started": psutil.Process(child.pid).create_time()})

    def alive(self, folder: Path) -> bool:
        if (child := self._children.get(folder)) is not None:
            return child.poll() is None
        try:
            process = _process(folder)
            return process is not None and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:  # it ended between the two questions
            return False

    def kill(self, folder: Path) -> None:
        if self.alive(folder) and (process := _process(folder)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _process(folder: Path) -> psutil.Process | None:
    """The process of the folder's handle; None if it ended, even if another has its pid by now."""
    try:
        handle = read_json(folder / "handle.json")
        process = psutil.Process(handle["pid"])
        return process if abs(process.create_time() - handle["started"]) < 0.1 else None
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None


def halted(folder: Path) -> bool:
    """Whether the process is there, and does nothing: it was stopped from outside (SIGSTOP)."""
    try:
        process = _process(folder)
        return process is not None and process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.NoSuchProcess:
        return False


def lives(pid: int, since: float) -> bool:
    """Whether the process that had the pid at that time (seconds since 1970) is still there."""
    try:
        process = psutil.Process(pid)
        return bool(process.create_time() < since + 2 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


launcher: Launcher = LocalLauncher()


def python(module: str, *args: str) -> list[str]:
    return [sys.executable, "-m", module, *args]


def output(command: list[str]) -> str:
    """The first line a short command prints; "" if it fails."""
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def replace_process(command: list[str]) -> None:
    """Becomes the command; does not return."""
    os.chdir(ROOT)
    os.execv(command[0], command)


# The model workers --------------------------------------------------------------------------------
# One answers within about 2 s; the slow one, started at its first need, takes what lasts longer, so that nobody waits behind it.
# loky and not ProcessPoolExecutor: Streamlit puts the page's script in __main__ and a spawned child would run it.
# And not its reusable executor: that one is kept for each thread, so every page would start a worker of its own.

_submit_lock = threading.Lock()
_executors: dict[bool, ProcessPoolExecutor] = {}  # by slow
NO_LEAK_CHECK = {"LOKY_MAX_MEMORY_LEAK_SIZE": "1e15"}  # bytes; loky restarts what grows by 300 MB, and one network can
NICE = 5  # of the slow worker: a prediction asked for meanwhile comes first


def live_with(parent: int) -> None:
    """Ends this process soon after its parent has ended, however that came about."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _begin_worker(parent: int, slow: bool) -> None:
    if slow and hasattr(os, "nice"):
        os.nice(NICE)
    live_with(parent)


def _start_worker(slow: bool) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(max_workers=1, timeout=None, initializer=_begin_worker, initargs=(os.getpid(), slow), env=NO_LEAK_CHECK)


def submit(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
    """Queues the call in a model worker; a function of core.ml is named by core.runs.remote, so that only the worker imports it."""
    return _submit(False, function, *args, **kwargs)


def submit_slow(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
    """The same in the worker for what lasts longer."""
    return _submit(True, function, *args, **kwargs)


def _submit(slow: bool, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
    with _submit_lock:
        name = "slow" if slow else "quick"
        if slow in _executors:
            with contextlib.suppress(BrokenProcessPool, ShutdownExecutorError):
                running: Future[R] = _executors[slow].submit(function, *args, **kwargs)
                return _counted(running, name)
            meters.RESTARTS.labels(name).inc()
        _executors[slow] = _start_worker(slow)
        future: Future[R] = _executors[slow].submit(function, *args, **kwargs)
        return _counted(future, name)


def _counted(future: Future[R], worker: str) -> Future[R]:
    asked = meters.TASKS.labels(worker)
    asked.inc()
    future.add_done_callback(lambda _: asked.dec())
    return future


_ping: list[Future[int]] = []  # at most one: a worker that hangs does not collect them


def answers(seconds: float) -> bool:
    """Whether the model worker answers within so many seconds, behind what it was asked before."""
    if not _ping or _ping[0].done():
        _ping[:] = [submit(len, ())]
    try:
        return _ping[0].result(seconds) == 0
    except (TimeoutError, CancelledError, BrokenProcessPool, ShutdownExecutorError):
        return False


def result(future: Future[R], timeout: float | None = None) -> R:
    """The answer of a submitted call; WorkerFailed if the worker died, its own AppError if it refused."""
    try:
        return future.result(timeout)
    except AppError:
        raise
    except BrokenProcessPool as e:
        warm()
        raise WorkerFailed(
            "The model worker stopped before it could answer.",
            "It has been started again: try once more. If it stops again, the picture or the network may need more memory.",
        ) from e


def ask(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    return result(submit(function, *args, **kwargs))


# Apart: what strangers' files do to memory and time costs a process of its own ---------------------------

APART_BYTES = 2 << 30  # of address space
APART_SECONDS = 60


def confine(most: int) -> None:
    """Bounds this process's address space, in bytes; an alarm, or what goes beyond, ends it and leaves no core dump."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = most if hard == resource.RLIM_INFINITY else min(hard, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the alarm kills: a handler would wait for a C loop that never returns


def _alarmed(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    signal.setitimer(signal.ITIMER_REAL, APART_SECONDS)
    try:
        return function(*args, **kwargs)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


_apart: list[ProcessPoolExecutor] = []  # at most one; its process ends when nothing was asked for half a minute


def ask_apart(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The answer of a process of its own with little memory; MemoryError if it took more, or too long."""
    with _submit_lock:
        if not _apart:
            _apart.append(ProcessPoolExecutor(max_workers=1, timeout=30, initializer=confine, initargs=(APART_BYTES,)))
        pool = _apart[0]
        future: Future[R] = pool.submit(_alarmed, function, *args, **kwargs)
    try:
        return future.result()
    except BrokenProcessPool:
        with _submit_lock:
            if pool in _apart:
                _apart.remove(pool)
        raise MemoryError from None


def warm() -> None:
    """Starts the model worker and its import of torch (about 4 s) before anyone waits for it."""
    submit(infer.ready)


def close() -> None:
    """Ends the model workers; the next call starts another."""
    with _submit_lock:
        for executor in _executors.values():
            executor.shutdown(wait=False, kill_workers=True)
        _executors.clear()
