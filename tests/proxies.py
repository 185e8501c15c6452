"""nginx and Caddy for the tests: Debian's, with the very configurations of docs/deploy.md, on free ports of this machine, no certificate."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.ports import free_port

PAGE = Path(__file__).parent.parent / "docs" / "deploy.md"


@contextmanager
def nginx(own: int, port: int, folder: Path) -> Iterator[None]:
    """nginx at the port, before a Loupe that listens at its own; it takes 2 MB at most."""
    with _nginx(_written("nginx", {"127.0.0.1:8501": f"127.0.0.1:{own}"}), port, folder):
        yield


@contextmanager
def nginx_before_two(own: tuple[int, int], port: int, folder: Path) -> Iterator[None]:
    """The same before two, each for the people who came to it first."""
    first, upstream, cookie = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for address, there in zip(("10.0.0.11:8501", "10.0.0.12:8501"), own, strict=True):
        upstream = upstream.replace(address, f"127.0.0.1:{there}")
    conf = re.sub(r"upstream loupe \{.*?\}\n", lambda _: upstream, first, flags=re.DOTALL)
    conf = conf.replace("location / {\n", f"location / {{\n{cookie}")
    assert conf.count("127.0.0.1:") == 2 and "add_header" in conf
    with _nginx(conf, port, folder):
        yield


@contextmanager
def _nginx(conf: str, port: int, folder: Path) -> Iterator[None]:
    changed = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port};",
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
        "client_max_body_size 4096m": "client_max_body_size 2m",
    }
    conf = re.sub(r"^ *ssl_.*\n", "", _changed(conf, changed), flags=re.MULTILINE)
    temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    whole = f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off; {temporary}\n{conf}}}"
    (folder / "nginx.conf").write_text(whole)
    with _running([_program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")], port, folder):
        yield


@contextmanager
def caddy(own: int, port: int, folder: Path) -> Iterator[None]:
    """Caddy at the port, before a Loupe that listens at its own."""
    changed = {"127.0.0.1:8501": f"127.0.0.1:{own}", "loupe.example.org {": f"http://loupe.example.org:{port} {{\nbind 127.0.0.1"}
    (folder / "Caddyfile").write_text(f"{{\nadmin off\nauto_https off\n}}\n{_written('caddy', changed)}")
    with _running([_program("caddy"), "run", "--config", str(folder / "Caddyfile")], port, folder):
        yield


@contextmanager
def caddy_before_two(own: tuple[int, int], port: int, folder: Path) -> Iterator[None]:
    """The same before two, each for the people who came to it first."""
    _, conf = re.findall(r"```caddy\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    addresses = {at: f"127.0.0.1:{there}" for at, there in zip(("10.0.0.11:8501", "10.0.0.12:8501"), own, strict=True)}
    conf = _changed(conf, {**addresses, "loupe.example.org {": f"http://localhost:{port} {{\nbind 127.0.0.1"})
    (folder / "Caddyfile").write_text(f"{{\nadmin off\nauto_https off\n}}\n{conf}")
    with _running([_program("caddy"), "run", "--config", str(folder / "Caddyfile")], port, folder):
        yield


def _written(name: str, changed: dict[str, str]) -> str:
    """The configuration as the page has it, with what a test must change."""
    return _changed(re.search(rf"```{name}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1], changed)  # type: ignore[index]


def _changed(conf: str, changed: dict[str, str]) -> str:
    for old, new in changed.items():
        assert conf.count(old) == 1, old
        conf = conf.replace(old, new)
    return conf


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(f"/usr/sbin/{name}")
    if not found:
        pytest.skip(f"needs {name}")
    return found


@contextmanager
def _running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    proxy = subprocess.Popen(command, env={**os.environ, "HOME": str(folder)}, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/healthz", headers={"Host": "localhost"}).raise_for_status()
                break
            except httpx.HTTPError:
                assert proxy.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
        yield
    finally:
        proxy.terminate()
        proxy.wait(10)
