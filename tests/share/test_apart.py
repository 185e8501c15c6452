"""What a stranger's zip of a run costs is not paid by the process that was asked."""

from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import Invalid
from core.share import archive, unpack

MANY = b"[" + b"{}," * 600_000 + b"{}]"  # 1.8 MB that become 43 MB of Python's values


def zip_with(path: Path, config: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name in unpack.NEEDED:
            out.writestr(name, config if name == "config.json" else b"x")
    return path


def peak(call: Callable[[], object]) -> float:
    """MB that Python took at once in this process, while the call refused."""
    tracemalloc.start()
    try:
        with pytest.raises(Invalid, match=r"config\.json"):
            call()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_a_runs_zip_is_unpacked_and_parsed_in_a_process_of_its_own(home: Path, tmp_path: Path) -> None:
    path = zip_with(tmp_path / "many.zip", MANY)
    assert peak(lambda: archive.look(path)) < 1
    assert peak(lambda: archive._look(path, "many.zip")) > 30, "what it costs in this process"
