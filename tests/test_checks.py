"""The linter, the formatter and the type checker have nothing to say."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.timeout(600)
@pytest.mark.parametrize("tool", ["ruff check .", "ruff format --check .", "mypy"])
def test_the_tool_finds_nothing(tool: str) -> None:
    # mypy reads all of PyTorch where it has no cache: a minute of a core
    done = subprocess.run(
        [sys.executable, "-m", *tool.split()], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=580
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
