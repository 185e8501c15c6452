"""nginx for the tests: Debian's, with the very configuration of docs/deploy.md, on free ports of this machine and without the certificate."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "deploy.md"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def before(own: int, port: int, folder: Path) -> Iterator[None]:
    """nginx at the port, before a Loupe that listens at its own."""
    nginx = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if not nginx:
        pytest.skip("needs nginx")
    conf = re.search(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]  # type: ignore[index]
    for old, new in {
        "127.0.0.1:8501": f"127.0.0.1:{own}",
        "listen 443 ssl;": f"listen 127.0.0.1:{port};",
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
        "client_max_body_size 4096m": "client_max_body_size 2m",
    }.items():
        assert conf.count(old) == 1, old
        conf = conf.replace(old, new)
    conf = re.sub(r"^ *ssl_.*\n", "", conf, flags=re.MULTILINE)
    temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    whole = f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off; {temporary}\n{conf}}}"
    (folder / "nginx.conf").write_text(whole)
    proxy = subprocess.Popen([nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")])
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
