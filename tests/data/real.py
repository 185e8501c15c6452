"""Real data sets of other people, where they are: ../shared/data beside the checkout, or LOUPE_TEST_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDERS = [Path(os.environ["LOUPE_TEST_DATA"])] if os.environ.get("LOUPE_TEST_DATA") else [Path(__file__).parents[3] / "shared" / "data"]


def real(name: str) -> Path:
    found = next((folder / name for folder in FOLDERS if (folder / name).exists()), None)
    if found is None:
        pytest.skip(f"{name} is not in {', '.join(map(str, FOLDERS))}; LOUPE_TEST_DATA names another folder")
    return found
