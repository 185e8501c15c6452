"""Whether a process is still there, and processes that end with another."""

from __future__ import annotations

import os
import threading
import time

import psutil


def lives(pid: int, since: float) -> bool:
    """Whether the process that had the pid at that time (seconds since 1970) is still there."""
    try:
        process = psutil.Process(pid)
        return bool(process.create_time() < since + 2 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def live_with(parent: int) -> None:
    """Ends this process soon after its parent has ended, however that came about."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
