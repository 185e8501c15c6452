"""Weights are compared with the SHA-256 they were written with, in the run's folder and in a zip."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from core.errors import AppError, Invalid
from core.ml.model import load
from core.runs import runs
from core.share import archive
from tests.conftest import Trained


def flip(path: Path) -> None:
    """One bit in the middle, which is a weight."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_flipped_bit_in_a_runs_weights_is_told_and_a_run_of_before_there_were_hashes_opens(trained_copy: Trained) -> None:
    folder = runs.folder(trained_copy.run_id)
    load(folder)
    runs.hashes_path(folder).rename(folder / "kept")
    load(folder)
    (folder / "kept").rename(runs.hashes_path(folder))
    flip(runs.checkpoint(folder))
    with pytest.raises(AppError, match=r"best.pt of the run .* is not as Loupe wrote it: its SHA-256"):
        load(folder)
    runs.hashes_path(folder).write_text("{")
    with pytest.raises(AppError, match=r"hashes.json of the run .* is damaged"):
        load(folder)


def test_a_file_and_the_one_that_it_replaces_are_both_known_until_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    for text in ("one", "two", "three"):
        runs.write_hashed(path, lambda tmp, text=text: tmp.write_text(text))  # type: ignore[misc]
        runs.check_hash(path)
    assert len(json.loads(runs.hashes_path(tmp_path).read_text())["last.pt"]) == 2
    path.write_text("two")  # a crash before the rename leaves the file of before
    runs.check_hash(path)
    path.write_text("one")
    with pytest.raises(AppError, match="SHA-256"):
        runs.check_hash(path)


def repacked(source: Path, target: Path, leave_out: str = "") -> Path:
    """The same files with one bit of a weight changed; what the zip itself says of its files fits."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = bytearray(old.read(info))
            if info.filename == "model.safetensors":
                data[-5] ^= 1
            if info.filename != leave_out:
                new.writestr(info.filename, data)
    return target


def test_a_zip_whose_weights_were_changed_is_refused_and_one_of_before_there_were_sums_is_not(
    trained_copy: Trained, tmp_path: Path
) -> None:
    out = tmp_path / "run.zip"
    archive.export_now(trained_copy.run_id, out)
    with zipfile.ZipFile(out) as found:
        told = [line.split("  ")[1] for line in found.read("SHA256SUMS").decode().splitlines()]
        assert told == found.namelist()[:-1] and found.namelist()[-1] == "SHA256SUMS"
    (runs.folder(trained_copy.run_id) / "config.json").unlink()  # or the zip would be of a run that is here
    with pytest.raises(Invalid, match=r"model.safetensors in changed.zip cannot be used: it is not as it was exported"):
        archive.import_now(repacked(out, tmp_path / "changed.zip"), "digits-small")
    archive.import_now(repacked(out, tmp_path / "old.zip", "SHA256SUMS"), "digits-small")
