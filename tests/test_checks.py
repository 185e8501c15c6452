"""The linter, the formatter and the type checker have nothing to say."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest


@pytest.mark.parametrize("tool", ["ruff check .", "ruff format --check .", "mypy"])
def test_the_tool_finds_nothing(tool: str, python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = python("-m", *tool.split())
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
