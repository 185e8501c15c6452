"""Runs are made by hand here: a home without a database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LOUPE_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield settings().home
    settings.cache_clear()
