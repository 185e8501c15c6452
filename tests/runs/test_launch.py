"""What starts processes: the launcher of runs and jobs, and the model worker, which ends with the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from core.runs import launch
from core.runs.runs import read_json, write_json
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
