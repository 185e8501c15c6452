"""The model worker: one for every thread, which keeps what it has loaded and ends with the server."""

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

if TYPE_CHECKING:
    from tests.conftest import Trained


def test_the_same_worker_answers_every_thread_and_keeps_what_it_has_loaded(trained: Trained) -> None:
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
