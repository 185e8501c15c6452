"""The browser's scripts: their types, the linter, and the tests of what needs no document; with Node's packages from npm ci alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / "node_modules" / ".bin"


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(autouse=True)
def node() -> None:
    if shutil.which("node") is None:
        pytest.skip("Node is not installed.")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < 20:
        pytest.skip(f"Node {version} is too old: 20 is the oldest that can run the checks.")


@pytest.mark.skipif(not BIN.is_dir(), reason="Node's packages are not installed: npm ci installs them.")
@pytest.mark.parametrize("command", [["tsc"], ["eslint", "."]], ids=" ".join)
def test_the_scripts_are_free_of_complaints(command: list[str]) -> None:
    run(BIN / command[0], *command[1:])


def test_the_scripts_do_what_their_own_tests_claim() -> None:
    files = sorted((ROOT / "tests" / "js").glob("*.test.js"))
    assert files
    run("node", "--test", *files)


def test_every_package_of_the_lock_file_comes_from_the_public_registry() -> None:
    lock = (ROOT / "package-lock.json").read_text(encoding="utf-8")
    urls = [line.split('"')[3] for line in lock.splitlines() if '"resolved":' in line]
    assert all(url.startswith("https://registry.npmjs.org/") for url in urls), urls
    assert '"integrity"' in lock
