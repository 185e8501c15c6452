"""A Ray cluster of two nodes on this machine, each with one CPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.ports import free_port
from tests.waiting import until

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_health_check_period_ms": "200",  # a dead node is noticed within a second, not 15
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",  # what is free, not every 5 s
    "REPORTER_UPDATE_INTERVAL_MS": "1000",  # the memory, until whose first answer a node is none
    "RAY_DASHBOARD_NO_CACHE": "1",
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_DASHBOARD_STATE_API_TIMEOUT_SECONDS": "5",
}


class RayCluster:
    """A head and a second node, which can die; address is that of the dashboard."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray"))  # a short name: it holds sockets
        port, dashboard = free_port(), free_port()
        self.address = f"http://127.0.0.1:{dashboard}"
        ports = (f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={free_port()}")
        self.head = self._start(
            "head", "--head", *ports, "--dashboard-host=127.0.0.1", "--include-dashboard=true", f"--temp-dir={self.folder}"
        )
        self.begun = [self.head]
        try:
            until(lambda: self._says("/api/version") != b"", "the dashboard's answer", 120)
            self.second = self._start("second", f"--address=127.0.0.1:{port}")
            self.begun.append(self.second)
            until(lambda: self._says("/nodes?view=summary").count(b'"ALIVE"') == 2, "the second node", 120)
        except BaseException:
            self.close()
            raise

    def _start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        ray = Path(sys.executable).with_name("ray")
        agent = ("--min-worker-port=0", "--max-worker-port=0", f"--dashboard-agent-listen-port={free_port()}")
        usual = (
            "--block",
            "--num-cpus=1",
            "--num-gpus=0",
            "--object-store-memory=80000000",
            "--disable-usage-stats",
            "--include-log-monitor=false",
            *agent,
        )
        with open(self.folder / f"{name}.log", "wb") as log:
            return subprocess.Popen([ray, "start", *options, *usual], stdout=log, stderr=log, env={**os.environ, **QUIET})

    def _says(self, path: str) -> bytes:
        try:
            with urllib.request.urlopen(self.address + path, timeout=10) as answer:
                return bytes(answer.read())
        except (urllib.error.URLError, OSError):
            assert self.head.poll() is None, (self.folder / "head.log").read_text()
            return b""

    def lose_second(self) -> None:
        """As a machine that loses its power."""
        end([self.second])

    def close(self) -> None:
        end(self.begun)
        shutil.rmtree(self.folder, ignore_errors=True)


def answered_here(
    spool: Path, function: Callable[..., list[dict[str, Any]]], given: list[Any], items: list[Any], each: int = 10
) -> Iterator[list[dict[str, Any]]]:
    """In place of core.runs.cluster.answers: by this process, the last first, through JSON and with a wait, as nodes do."""
    yield []
    for start in range(0, len(items), each)[::-1]:
        given, some = json.loads(json.dumps([given, items[start : start + each]]))
        yield json.loads(json.dumps(function(*given, some)))


def end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    doomed = []
    for one in started:
        with suppress(psutil.NoSuchProcess):
            doomed += [psutil.Process(one.pid), *psutil.Process(one.pid).children(recursive=True)]
    for process in doomed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    for one in started:
        one.wait(20)
