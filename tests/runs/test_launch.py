"""What starts processes: the launcher of runs and jobs, and the model worker, which ends with the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from core import processes
from core.catalog import params
from core.ml import turns
from core.runs import jobs, launch, runs
from core.runs.remote import infer
from core.runs.runs import read_json, write_json
from core.share import export
from core.types import Dataset, Snapshot
from tests.waiting import until

if TYPE_CHECKING:
    from tests.conftest import Trained


def test_a_command_starts_from_nothing_in_a_session_of_its_own_and_writes_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_USER", "someone")
    code = "import os, sys; print(os.environ['LOUPE_USER'], os.getcwd(), os.getsid(0)); print('torch' in sys.modules, file=sys.stderr)"
    one = launch.LocalLauncher()
    (tmp_path / "worker.log").write_text("earlier\n")
    one.start(tmp_path, [sys.executable, "-c", code])
    until(lambda: not one.alive(tmp_path), "the end of the command")
    pid = read_json(tmp_path / "handle.json")["pid"]
    assert (tmp_path / "worker.log").read_text().splitlines() == ["earlier", f"someone {launch.ROOT} {pid}", "False"]
    assert not psutil.pid_exists(pid)  # and no zombie


def test_a_process_that_was_stopped_from_outside_is_alive_and_halted_until_it_goes_on(tmp_path: Path) -> None:
    one = launch.LocalLauncher()
    one.start(tmp_path, ["sleep", "60"])
    pid = read_json(tmp_path / "handle.json")["pid"]
    assert not launch.halted(tmp_path)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: launch.halted(tmp_path), "its halt")
    assert one.alive(tmp_path)
    os.kill(pid, signal.SIGCONT)
    until(lambda: not launch.halted(tmp_path), "its going on")
    one.kill(tmp_path)
    until(lambda: not one.alive(tmp_path), "its end")
    assert not launch.halted(tmp_path)


def test_a_command_lives_until_it_is_killed_with_its_children_whoever_asks(tmp_path: Path) -> None:
    code = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid); time.sleep(60)"
    mine, anothers = launch.LocalLauncher(), launch.LocalLauncher()
    mine.start(tmp_path, [sys.executable, "-c", code])
    until(lambda: bool((tmp_path / "worker.log").read_text().strip()), "the start of the command")
    assert mine.alive(tmp_path) and anothers.alive(tmp_path)
    child = psutil.Process(int((tmp_path / "worker.log").read_text()))
    anothers.kill(tmp_path)
    until(lambda: not mine.alive(tmp_path) and not anothers.alive(tmp_path), "the end of the command")
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the end of its child")
    mine.kill(tmp_path)  # what has ended is left alone


def test_a_process_of_another_machine_lives_as_long_as_it_shows_itself_and_its_number_here_is_not_asked(tmp_path: Path) -> None:
    me, one = psutil.Process(), launch.LocalLauncher()
    write_json(tmp_path / "handle.json", {"host": "gpu-1", "pid": me.pid, "started": me.create_time()})
    assert one.alive(tmp_path) and launch.elsewhere(tmp_path) == "gpu-1" and not launch.halted(tmp_path)
    one.kill(tmp_path)  # not the process here that has its number
    long_ago = time.time() - processes.LEASE - 1
    os.utime(tmp_path / "handle.json", (long_ago, long_ago))
    assert not one.alive(tmp_path)
    os.utime(tmp_path / "handle.json", (time.time() + 3600,) * 2)  # of before the clock was set back
    assert not one.alive(tmp_path)
    processes.show(tmp_path / "handle.json", processes.BEGIN)
    assert one.alive(tmp_path)


def test_a_clock_that_is_set_ends_nothing_and_another_handle_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """if True:
        import os, pathlib, psutil, sys, time
        from core import processes
        from core.runs.runs import write_json
        processes.BEAT, folder, created = 0.02, pathlib.Path(sys.argv[1]), psutil.Process.create_time
        write_json(folder / "handle.json", {"pid": os.getpid(), "started": psutil.Process().create_time()})
        os.utime(folder / "handle.json", (0, 0))
        processes.keep(folder)
        while processes.handle(folder).beat == 0:
            time.sleep(0.01)
        psutil.Process.create_time = lambda one: created(one) + 3600
        time.sleep(0.2)
        print("goes on", flush=True)
        write_json(folder / "handle.json", {"host": "gpu-2", "pid": 1, "started": 0.0})
        time.sleep(60)"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=launch.ROOT, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (1, "goes on\n") and "Another process works at" in done.stderr
    mine, anothers, before = launch.LocalLauncher(), launch.LocalLauncher(), psutil.Process.create_time
    mine.start(tmp_path, ["sleep", "60"])
    with monkeypatch.context() as patch:
        patch.setattr(psutil.Process, "create_time", lambda one: before(one) + 3600)
        assert anothers.alive(tmp_path)
        anothers.kill(tmp_path)
        until(lambda: not mine.alive(tmp_path), "its end")


def test_work_that_another_process_went_on_with_is_asked_of_that_one(tmp_path: Path) -> None:
    one = launch.LocalLauncher()
    one.start(tmp_path, [sys.executable, "-c", "pass"])
    until(lambda: not one.alive(tmp_path), "the end of the first")
    other = launch.LocalLauncher()
    other.start(tmp_path, ["sleep", "60"])
    assert one.alive(tmp_path) and launch.elsewhere(tmp_path) == ""
    one.kill(tmp_path)
    until(lambda: not other.alive(tmp_path), "the end of the second")


def test_a_process_that_has_the_pid_of_one_that_ended_is_not_taken_for_it(tmp_path: Path) -> None:
    other = psutil.Popen(["sleep", "60"], start_new_session=True)
    one = launch.LocalLauncher()
    try:
        write_json(tmp_path / "handle.json", {"pid": other.pid, "started": other.create_time()})
        assert one.alive(tmp_path)
        write_json(tmp_path / "handle.json", {"pid": other.pid, "started": other.create_time() - 5})
        assert not one.alive(tmp_path)
        one.kill(tmp_path)
        with pytest.raises(psutil.TimeoutExpired):
            other.wait(0.3)
    finally:
        other.kill()
        other.wait()
    (tmp_path / "handle.json").unlink()
    assert not one.alive(tmp_path)


# Runs, forked and from nothing; none of them loads PyTorch, for none gets its turn


NOTHING_LOADED = [sys.executable, "-c", "from core.ml import forks; forks.LOADED = (); forks.main()"]


@pytest.fixture
def forks(home: Path) -> Iterator[launch.Forks]:
    found = launch.Forks(NOTHING_LOADED)
    yield found
    found.close()


def run_of(home: Path, dataset: Dataset) -> tuple[Path, list[str]]:
    nothing = Snapshot("", ("a",), ())
    made = runs.new("one", dataset, params.run_config({"architecture": "linear", "device": "cpu"}), nothing, "me")
    folder = home / "runs" / made.id
    runs.create(folder, made, nothing)
    return folder, launch.python("core.ml.worker", str(folder))


def ready(forks: launch.Forks) -> None:
    forks.expect()
    until(lambda: forks.fork(launch.python("core.ml.turns"), Path(os.devnull)) is not None, "a fork")


def waits(folder: Path) -> bool:
    return runs.status(runs.events(folder), True) == "queued"


@pytest.mark.parametrize("warm", [True, False])
def test_a_run_that_waits_holds_little_memory_and_can_be_stopped_paused_and_killed(
    home: Path, small: Dataset, forks: launch.Forks, warm: bool
) -> None:
    one = launch.LocalLauncher(forks)
    if warm:
        ready(forks)
    with turns.slot_lock("cpu"):
        folders = []
        for _ in range(3):
            folder, command = run_of(home, small)
            one.start(folder, command)
            folders.append(folder)
        until(lambda: all(waits(folder) for folder in folders), "three runs that wait")
        pids = [read_json(folder / "handle.json")["pid"] for folder in folders]
        for pid in pids:
            assert psutil.Process(pid).memory_full_info().uss < 50e6 and os.getsid(pid) == pid
            assert (psutil.Process(pid).ppid() == os.getpid()) is not warm
            assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()
        forks.close()  # the server ends
        assert all(launch.LocalLauncher().alive(folder) for folder in folders)
        runs.request_stop(folders[0])
        runs.request_pause(folders[1])
        launch.LocalLauncher().kill(folders[2])
        until(lambda: not any(one.alive(folder) for folder in folders), "the end of all three")
    said = [runs.status(runs.events(folder), one.alive(folder)) for folder in folders]
    assert said == ["stopped", "paused", "lost"]
    assert (folders[0] / "worker.log").read_text() == ""


def test_a_job_is_forked_and_does_what_it_does_from_nothing(home: Path, small: Dataset, forks: launch.Forks) -> None:
    ready(forks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "launcher", launch.LocalLauncher(forks))
        started = export.start(small.id, "folders", "me")
        folder = home / "exports" / started
        assert psutil.Process(read_json(folder / "handle.json")["pid"]).ppid() != os.getpid()
        until(lambda: jobs.state(folder, export.EXPORT).status == "done", "an export")
    assert (folder / "worker.log").read_text() == ""


def test_what_cannot_be_forked_is_started_from_nothing(home: Path, small: Dataset, forks: launch.Forks) -> None:
    _, command = run_of(home, small)
    assert forks.fork(command, home / "worker.log") is None  # nobody has asked for it
    ready(forks)
    assert forks.fork(launch.python("core", "list"), home / "worker.log") is None
    process = forks._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)  # it hangs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "FORK_SECONDS", 0.2)
        assert forks.fork(command, home / "worker.log") is None
    assert process.poll() is not None and not (home / "worker.log").exists()  # so that it cannot fork it later
    assert forks.fork(command, home / "worker.log") is None
    ready(forks)  # another is started


def test_the_same_worker_answers_every_thread_and_keeps_what_it_has_loaded(real_workers: None, trained: Trained) -> None:
    first = launch.ask(os.getpid)
    found: list[int] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: found.append(launch.ask(os.getpid)))
        thread.start()
        thread.join()
    launch.ask(exec, "import builtins; builtins.ballast = bytearray(b'1') * 500_000_000")
    time.sleep(1.1)  # loky looks at the memory once a second
    launch.ask(os.getpid)
    assert [*found, launch.ask(os.getpid)] == [first] * 3
    launch.close()


def test_what_is_asked_while_the_worker_gets_ready_does_not_wait_for_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, tuple[object, ...], Future[str]]] = []

    def submit(function: object, *args: object) -> Future[str]:
        asked.append((function, args, Future()))
        return asked[-1][2]

    monkeypatch.setattr(launch, "submit", submit)
    launch.warm()
    assert [name for name, *_ in asked] == [infer.ready]
    asked[0][2].set_result("cpu")
    assert [args for _, args, _ in asked[1:]] == [launch.MODULES[:1]]  # the next only when this one is done
    asked[1][2].set_exception(RuntimeError("the worker ended"))
    assert len(asked) == 2


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_model_worker_does_not_outlive_the_server(home: Path, free_port: int, end: signal.Signals) -> None:
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(free_port), "--server.headless", "true"]
    server = psutil.Popen(command, cwd=launch.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        found: list[psutil.Process] = []
        give_up = time.monotonic() + 60
        while not found and time.monotonic() < give_up:
            time.sleep(0.2)
            found = [p for p in server.children(recursive=True) if "popen_loky" in " ".join(p.cmdline())]
        assert found
        time.sleep(2)
        server.send_signal(end)
        _, alive = psutil.wait_procs([server, *found], timeout=15)
        assert not alive
    finally:
        if server.is_running():
            server.kill()
