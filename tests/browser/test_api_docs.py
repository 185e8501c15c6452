"""What docs/api.md shows works as it stands: its Python, then its curl, against a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image as Pillow

from core.data import tokens
from tests.browser.conftest import Server
from tests.conftest import ROOT, forget, move_in

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def shown(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_api_page_works_as_it_stands(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    with monkeypatch.context() as patch:
        move_in(patch, server.home)
        _, token = tokens.add("docs", "trainer")
        forget()
    for i, name in enumerate(("picture", "one", "two", "decided")):
        Pillow.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8), np.uint8)).save(tmp_path / f"{name}.png")
    env = {**os.environ, "LOUPE": server.url, "TOKEN": token, "no_proxy": "localhost"}
    walk = "\n".join(block for block in shown("python") if "is_from_loupe" not in block)
    done = subprocess.run([sys.executable, "-c", walk], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert re.search(r"[0-9.]+% of [0-9]+ right", done.stdout) and (tmp_path / "dataset.zip").stat().st_size > 100_000
    ask = httpx.Client(base_url=f"{server.url}/api/v1", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    (run,) = ask.get("/runs").json()["items"]
    server.core("submit", run["id"], str(tmp_path / "decided.png"), "--ask")
    (decided,) = ask.get(f"/datasets/{run['dataset']}/decisions?state=waiting").json()["items"]
    server.core("decide", str(decided["id"]), "--none")
    server.core("policy", "write", run["id"], "--name", "Strict", "--block", "7=0.1,0.9")
    server.core("policy", "activate", "1")
    curl = "\n".join(shown("bash"))
    assert curl.count("curl ") >= 9
    (image,) = ask.get(f"/datasets/{run['dataset']}/images?limit=1").json()["items"]
    env |= {"DATASET": str(run["dataset"]), "RUN": run["id"], "DECISION": str(decided["id"]), "IMAGE": image["id"]}
    done = subprocess.run(["bash", "-euc", curl], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, (done.stdout, done.stderr)
    waiting = ask.get(f"/datasets/{run['dataset']}/decisions?state=waiting").json()["items"]
    assert [one["file"] for one in waiting] == ["decided.png", "one.png", "two.png"], "what is appealed waits again"
