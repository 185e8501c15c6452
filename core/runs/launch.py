"""The only module that starts processes: training and imports on their own, and two long-lived model workers."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

import psutil
from loky import ProcessPoolExecutor
from loky.process_executor import BrokenProcessPool, ShutdownExecutorError

from core import meters, processes
from core.errors import AppError, Unavailable, WorkerFailed
from core.runs import cluster, runs
from core.runs.remote import infer
from core.runs.runs import read_json, write_json
from core.settings import settings

P = ParamSpec("P")
R = TypeVar("R")

ROOT = Path(__file__).parents[2]
# Threads of PyTorch that wait for each other by spinning take the cores from whom they wait for: beside other processes 120 steps of
# a small network take 20 to 37 s so, and 122 to 143 s, five times the CPU, by spinning.
WAIT_ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE"}
SAMPLE = "--sample"  # an argument of app.py: it brings the sample dataset in where there is none


class Launcher(Protocol):
    """What training needs from a machine: a folder and a command line."""

    def start(self, folder: Path, command: list[str]) -> None: ...
    def alive(self, folder: Path) -> bool: ...
    def kill(self, folder: Path) -> None: ...


def python(module: str, *args: str) -> list[str]:
    return [sys.executable, "-m", module, *args]


class LocalLauncher:
    """Runs a command in its own session, so that it outlives the page and the server."""

    def __init__(self, forks: Forks | None = None) -> None:
        self._forks = forks
        self._children: dict[Path, subprocess.Popen[bytes]] = {}  # kept to reap them: a zombie has a pid too

    def start(self, folder: Path, command: list[str]) -> None:
        pid = self._forks.fork(command, folder / "worker.log") if self._forks else None
        if pid is None:
            with open(folder / "worker.log", "ab") as log:
                child = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env={**WAIT_ASLEEP, **os.environ, "PYTHONUNBUFFERED": "1"},
                )
            self._children[folder], pid = child, child.pid
        else:
            self._children.pop(folder, None)  # of an earlier start of the same run
        hand_over(folder, pid)

    def alive(self, folder: Path) -> bool:
        found = processes.handle(folder)
        if found is not None and not found.here:
            return found.beats
        child = self._children.get(folder)
        if child is not None and (found is None or child.pid == found.pid):  # and not one that went on with its work since
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


def hand_over(folder: Path, pid: int) -> None:
    """Writes down that the process of this machine works at the folder."""
    try:
        since = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:  # a fork that has ended already
        since = 0.0
    write_json(folder / processes.HANDLE, {"host": settings().host, "pid": pid, "started": since, "born": processes.birth(pid)})
    processes.show(folder / processes.HANDLE, processes.BEGIN)


def _process(folder: Path) -> psutil.Process | None:
    """The process of the folder's handle, if it is of this machine; None if it ended, even if another has its pid by now."""
    found = processes.handle(folder)
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(found.pid) if found and found.here and found.is_of(found.pid) else None
    return None


def elsewhere(folder: Path) -> str:
    """The other machine on which the folder's process is or was; "" of this one."""
    found = processes.handle(folder)
    return "" if found is None or found.here else found.host


def halted(folder: Path) -> bool:
    """Whether the process is there, and does nothing: it was stopped from outside (SIGSTOP)."""
    try:
        process = _process(folder)
        return process is not None and process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True)
class Word:
    """What is to be said of a run that is given to a cluster and does not train yet, or cannot be asked after."""

    waits: bool
    place: int  # in line; 0 unknown
    words: str


class RayLauncher(LocalLauncher):
    """Gives runs to the Ray cluster of LOUPE_RAY_ADDRESS, and does everything else, or all without a cluster, on this machine.

    handle.json holds the job, what it needs, whether Ray has it, and in the end that it ended, and why.
    """

    _turn = threading.Lock()  # an answer on an earlier job must not be written over the handle of a new one

    def start(self, folder: Path, command: list[str]) -> None:
        if not settings().ray_address or folder.parent != settings().runs:
            super().start(folder, command)
            return
        with self._turn:
            self._give(folder, command)

    def start_here(self, folder: Path, command: list[str]) -> None:
        """Takes the run from the cluster, where it waits, to this machine."""
        self.kill(folder)
        super().start(folder, command)

    def alive(self, folder: Path) -> bool:
        """Whether the job has not ended; one that cannot be asked after goes on until the cluster says otherwise."""
        if not (handle := _handle(folder)).get("job"):
            return super().alive(folder)
        if handle.get("ended") or not settings().ray_address:
            return False
        with self._turn:
            handle = _handle(folder)
            if not _has_job(handle):
                return False
            with contextlib.suppress(Unavailable):
                return self._look(folder, handle)
        return True

    def _look(self, folder: Path, handle: dict[str, Any]) -> bool:
        said = cluster.jobs().get(handle["job"])
        if said is None and not handle["sent"]:
            return True
        if said is None:  # another process may have handed it in after the answer came that is still taken for the present
            cluster.forget()
            said = cluster.jobs().get(handle["job"])
        if said is not None and (said["status"] in cluster.GOING or cluster.started_too_late(said)):
            return True
        cluster.note(folder, handle["job"], ended=True, why=cluster.why_ended(said))
        return False

    def hand_in(self, folder: Path) -> None:
        """Gives the cluster a run that it has not got yet, because it was away, and one that it has given up before it began."""
        if not settings().ray_address:
            return
        with self._turn, contextlib.suppress(Unavailable):
            handle = _handle(folder)
            if not _has_job(handle):
                return
            said = cluster.jobs().get(handle["job"])
            if said is None and not handle["sent"]:
                self._send(folder, handle)
            elif said is not None and cluster.started_too_late(said):
                self._give(folder, handle["command"])
            elif not handle["sent"]:
                cluster.note(folder, handle["job"], sent=True)

    def _give(self, folder: Path, command: list[str]) -> None:
        handle = {"job": cluster.job_name(folder.name), "command": command, "sent": False}
        write_json(folder / processes.HANDLE, handle)
        with contextlib.suppress(Unavailable):  # the run waits for the cluster
            self._send(folder, handle)

    def _send(self, folder: Path, handle: dict[str, Any]) -> None:
        config = runs.load(folder).config
        needs = cluster.demand(config.device, config.devices)
        cluster.note(folder, handle["job"], needs=asdict(needs))
        cluster.submit(handle["job"], folder, handle["command"], needs)
        cluster.note(folder, handle["job"], sent=True)

    def kill(self, folder: Path) -> None:
        if not (handle := _handle(folder)).get("job"):
            super().kill(folder)
            return
        with self._turn:
            cluster.note(folder, handle["job"], ended=True, why="")  # which the job sees, too, if Ray begins it now
        with contextlib.suppress(Unavailable):
            cluster.stop(handle["job"])

    def word(self, folder: Path) -> Word | None:
        """None of a run that trains or has ended, and of one that is no cluster's."""
        handle = _handle(folder)
        if not _has_job(handle) or not settings().ray_address:
            return None
        try:
            said = cluster.jobs().get(handle["job"])
            if (said is None and not handle["sent"]) or (said is not None and cluster.started_too_late(said)):
                return Word(True, 0, "It is being handed to the Ray cluster.")
            needs = cluster.Demand(**handle["needs"])
            spread = needs.times > 1 and "placed" not in handle  # its job goes on and waits for the devices
            if said is None or (said["status"] != "PENDING" and not spread):
                return None
            return Word(True, cluster.place(handle["job"]), cluster.why_waits(needs, cluster.nodes()))
        except Unavailable as e:
            if handle["sent"]:
                return Word(False, 0, f"{e} Whether the run goes on there is not known; what is written in its folder is shown.")
            return Word(True, 0, f"{e} The run waits, and begins when the cluster is there.")


def _handle(folder: Path) -> dict[str, Any]:
    try:
        return dict(read_json(folder / processes.HANDLE))
    except (FileNotFoundError, ValueError):
        return {}


def word(folder: Path) -> Word | None:
    """Of a run that a cluster has, what keeps it from training."""
    return launcher.word(folder) if isinstance(launcher, RayLauncher) else None


def start_here(folder: Path, command: list[str]) -> None:
    """Of a run for which word() says that it waits."""
    assert isinstance(launcher, RayLauncher)
    launcher.start_here(folder, command)


def hand_in(folder: Path) -> None:
    """Gives a cluster what waits for it to be there; only looking at a run hands in nothing."""
    if isinstance(launcher, RayLauncher):
        launcher.hand_in(folder)


def of_cluster(folder: Path) -> bool:
    """Whether a cluster has the run, as far as the folder tells: alive() is False of it, too, where no address says whom to ask."""
    return _has_job(_handle(folder))


def _has_job(handle: dict[str, Any]) -> bool:
    """One that has not ended."""
    return bool(handle.get("job")) and not handle.get("ended")


def why_gone(folder: Path) -> str:
    """Of a job that a cluster has ended, why; "" where nothing is known."""
    if of_cluster(folder):
        return "It is on a Ray cluster, and LOUPE_RAY_ADDRESS is not set."
    return str(_handle(folder).get("why", ""))


class Forks:
    """The process that has PyTorch loaded (core.ml.forks): a run or job that it forks off reads its first image 4 to 5 s sooner.

    It ends with this process or when nobody starts a run for a while; what it forked goes on.
    """

    def __init__(self, command: list[str] | None = None) -> None:
        self._command = command or python("core.ml.forks")
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._lock = threading.Lock()

    def expect(self) -> None:
        """Starts it, unless it is there; it takes some seconds to be ready, and nobody waits for it."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self.close()
                self._process = subprocess.Popen(
                    self._command,
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    bufsize=0,
                    start_new_session=True,
                    env={**WAIT_ASLEEP, **os.environ, "PYTHONUNBUFFERED": "1"},
                )

    def fork(self, command: list[str], log: Path) -> int | None:
        """The pid of a process in a session of its own that does what the command does; None where it has to be started from nothing."""
        if command[:2] != [sys.executable, "-m"] or not (command[2].startswith("core.ml.") or command[2:4] == ["core", "job"]):
            return None
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None or process.stdin is None:
                return None
            self._ready = self._ready or self._answer(0) == "ready"
            if not self._ready:
                return None
            try:
                process.stdin.write(json.dumps({"command": command[2:], "log": str(log)}).encode() + b"\n")
            except OSError:  # it has just ended
                return None
            said = self._answer(FORK_SECONDS)
            if not said:
                process.kill()  # so that it cannot fork later what is now started otherwise
                process.wait()
                said = self._answer(FORK_SECONDS)
            return int(said or 0) or None

    def _answer(self, seconds: float) -> str:
        """Its next line; "" if it says nothing for so long, or has ended."""
        assert self._process is not None and self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return ""
        return os.read(self._process.stdout.fileno(), 64).decode().strip()  # one line: who asks waits for it

    def close(self) -> None:
        """Lets it end; the next expect() starts another."""
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        self._process, self._ready = None, False


FORK_SECONDS = 3.0  # in which a fork says its pid; it takes 0.02
_forks = Forks()
launcher: Launcher = RayLauncher(_forks)


def expect_run() -> None:
    """Makes ready for somebody who may start a run, or a job that asks a network, soon."""
    if not settings().ray_address:
        _forks.expect()


def output(command: list[str]) -> str:
    """The first line a short command prints; "" if it fails."""
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def status_of(command: list[str], log: Path, env: dict[str, str]) -> int:
    """The exit status of a command of this process's own group and life, once it has ended."""
    with open(log, "ab") as out:
        return subprocess.call(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **env})


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


def _begin_worker(parent: int, slow: bool) -> None:
    if slow and hasattr(os, "nice"):
        os.nice(NICE)
    processes.live_with(parent)


def _start_worker(slow: bool) -> ProcessPoolExecutor:
    env = NO_LEAK_CHECK | {name: os.environ.get(name, value) for name, value in WAIT_ASLEEP.items()}
    return ProcessPoolExecutor(max_workers=1, timeout=None, initializer=_begin_worker, initargs=(os.getpid(), slow), env=env)


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
            _apart.append(ProcessPoolExecutor(max_workers=1, timeout=30, initializer=processes.confine, initargs=(APART_BYTES,)))
        pool = _apart[0]
        future: Future[R] = pool.submit(_alarmed, function, *args, **kwargs)
    try:
        return future.result()
    except BrokenProcessPool:
        with _submit_lock:
            if pool in _apart:
                _apart.remove(pool)
        raise MemoryError from None


MODULES = ("torchvision", "timm", "core.ml.attribute")  # what some networks and questions need beside PyTorch: 1 s of CPU each


def warm() -> None:
    """Starts the model worker and its import of torch (about 2 s of CPU) before anyone waits for it; then, bit by bit, the rest.

    What is asked meanwhile is answered between two of the bits.
    """
    _then(submit(infer.ready), MODULES)


def _then(before: Future[Any], modules: Sequence[str]) -> None:
    def go_on(done: Future[Any]) -> None:
        if modules and not done.cancelled() and done.exception() is None:
            with contextlib.suppress(RuntimeError):  # this process ends
                _then(submit(infer.load_module, modules[0]), modules[1:])

    before.add_done_callback(go_on)


def close() -> None:
    """Ends the model workers and what forks runs off; the next call starts another."""
    with _submit_lock:
        for executor in _executors.values():
            executor.shutdown(wait=False, kill_workers=True)
        _executors.clear()
    _forks.close()
