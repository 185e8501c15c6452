"""Two servers on one PostgreSQL and one folder that pretend to be on two machines, a and b."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from core import processes
from core.data import tokens
from core.people import accounts
from tests.conftest import forget, move_in, stored_dataset
from tests.forking import Forked, fork_app
from tests.ports import free_port
from tests.squares import squares

PASSWORD = "a sentence with spaces"


@dataclass
class Server:
    """The app as the machine of that name has it."""

    host: str
    env: dict[str, str]
    log: Path
    port: int = field(default_factory=free_port)
    process: Forked | None = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def start(self) -> None:
        self.process = fork_app(self.port, self.log, {**os.environ, **self.env, "LOUPE_HOST_NAME": self.host})

    def ready(self) -> None:
        deadline = time.monotonic() + 90
        while True:
            with suppress(httpx.HTTPError):
                httpx.get(f"{self.url}/healthz", trust_env=False, verify=False).raise_for_status()
                return
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """As a machine that loses its power, but for what it has begun."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process = None

    def client(self, cookies: httpx.Cookies | None = None, **headers: str) -> httpx.Client:
        """Somebody's browser, for which both servers have one name; without certificates, which take 30 ms to load."""
        mine = {"Host": "localhost", "Origin": "http://localhost", **headers}
        return httpx.Client(base_url=self.url, headers=mine, cookies=cookies, trust_env=False, verify=False, timeout=60)


@dataclass
class Two:
    home: Path
    env: dict[str, str]
    dataset: int
    token: str  # of an admin's program
    a: Server
    b: Server

    def api(self, at: Server) -> httpx.Client:
        return httpx.Client(
            base_url=f"{at.url}/api/v1", headers={"Authorization": f"Bearer {self.token}"}, trust_env=False, verify=False, timeout=60
        )

    @contextmanager
    def on(self, host: str) -> Iterator[None]:
        """This process as one of that machine."""
        with pytest.MonkeyPatch.context() as patch:
            move_in(patch, self.home)
            for name, value in {**self.env, "LOUPE_HOST_NAME": host}.items():
                patch.setenv(name, value)
            forget()
            yield
            forget()


def silent(folder: Path) -> None:
    """As if the process of the folder had given no sign of life for as long as others wait for one."""
    long_ago = time.time() - processes.LEASE - 1
    os.utime(folder / processes.HANDLE, (long_ago, long_ago))


@contextmanager
def two(home: Path, database: str, **more: str) -> Iterator[Two]:
    """Both started, with “squares” of 24 pictures, and the admin Ann, who has a password."""
    home.mkdir()
    env = {"LOUPE_HOME": str(home), "LOUPE_DATABASE_URL": database, "LOUPE_SIGN_IN": "accounts", "LOUPE_ROOTS": "", **more}
    a, b = (Server(host, env, home.parent / f"{host}.log") for host in "ab")
    found = Two(home, env, 0, "", a, b)
    with found.on("a"):
        found.dataset = stored_dataset("squares", squares(home.parent / "squares", 8)).id
        accounts.set_first_password(accounts.add("Ann", "admin"), PASSWORD)
        found.token = tokens.add("program", "admin")[1]
    try:
        a.start()
        b.start()
        a.ready()
        b.ready()
        yield found
    finally:
        a.kill()
        b.kill()
