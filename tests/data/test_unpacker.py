"""What comes out of a zip: in pieces, for every method, and never more than it says."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest

from core.data import imports, sources, trees, unpacker
from core.errors import Invalid

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def packed(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return path


def lying(path: Path, size: int) -> Path:
    """The zip's one entry says in its directory that it unpacks to this size."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<I", size)
    path.write_bytes(data)
    return path


def read(path: Path, limit: int = 1 << 30) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        reader = unpacker.Unpacker(archive, path.name)
        return {info.filename: reader.read(info, limit) for info in archive.infolist()}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_back_what_was_packed(tmp_path: Path, method: int) -> None:
    random = np.random.default_rng(0)
    noise, words = random.bytes(700_000), bytes(random.integers(97, 103, 900_000, np.uint8))
    files = {"none": b"", "one": b"x", "noise": noise, "wörter": words, "both": noise + words + noise}
    assert read(packed(tmp_path / "a.zip", files, method)) == files


@pytest.mark.parametrize("method", METHODS[1:])
def test_an_entry_that_grows_beyond_what_it_says_is_refused_before_it_fills_the_memory(tmp_path: Path, method: int) -> None:
    path = lying(packed(tmp_path / "a.zip", {"a.png": bytes(60_000_000)}, method), 900_000)
    before = psutil.Process().memory_info().rss
    with zipfile.ZipFile(path) as archive:
        blocks, most = unpacker.Unpacker(archive, "a.zip").blocks(archive.infolist()[0], 1 << 30), 0
        with pytest.raises((Invalid, ValueError), match=r"a\.zip is not imported: a\.png|damaged"):
            for block in blocks:
                most = max(most, len(block), psutil.Process().memory_info().rss - before)
    assert most < 20_000_000


def test_a_dictionary_of_four_gigabytes_is_not_given_to_a_small_entry(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", {"a.txt": b"abc" * 1000}, zipfile.ZIP_LZMA)
    data = bytearray(path.read_bytes())
    at = data.index(b"a.txt") + 5 + 5  # behind the name: version, size of the properties, one byte of them
    data[at : at + 4] = b"\xff" * 4
    path.write_bytes(data)
    assert read(path) == {"a.txt": b"abc" * 1000}


@pytest.mark.parametrize("method", METHODS)
def test_an_entry_that_was_changed_is_damaged(tmp_path: Path, method: int) -> None:
    path = packed(tmp_path / "a.zip", {"a.txt": bytes(range(256)) * 9}, method)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") - 9] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        read(path)


@pytest.mark.parametrize(("method", "name"), [(9, "Deflate64"), (93, "Zstandard"), (95, "XZ"), (98, "PPMd"), (77, "method 77")])
def test_a_method_that_is_not_read_is_said_once_of_the_zip_with_the_remedy(tmp_path: Path, method: int, name: str) -> None:
    path = packed(tmp_path / "a.zip", {f"cat/{i}.png": b"x" for i in range(3)})
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\1\2", 10), (b"PK\3\4", 8)):
        at = -1
        while (at := data.find(mark, at + 1)) >= 0:
            data[at + offset : at + offset + 2] = struct.pack("<H", method)
    path.write_bytes(data)
    with pytest.raises(Invalid, match=rf"a\.zip is not imported: 3 of its files are packed with {name}") as refused:
        trees.zip_tree(path, "a.zip")
    assert "7-Zip" in refused.value.hint


def test_a_zip_whose_one_picture_is_empty_says_so(home: Path, tmp_path: Path) -> None:
    for name in ("cat/a.png", "a.png"):
        report = imports.import_now("x", sources.at(packed(tmp_path / "a.zip", {name: b""})), "me")
        assert [(s.name, s.reason) for s in report.skipped] == [(name, "The file is empty.")] and report.added == 0


def test_a_zip_of_many_texts_is_opened_once_for_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = trees.zip_tree(packed(tmp_path / "a.zip", {f"{i}.txt": b"no table" for i in range(50)}), "a.zip")
    opened: list[Path] = []

    class Counted(zipfile.ZipFile):
        def __init__(self, path: Path) -> None:
            opened.append(path)
            super().__init__(path)

    monkeypatch.setattr(zipfile, "ZipFile", Counted)
    assert [tree.read(file, 100) for file in tree.files] == [b"no table"] * 50
    assert len(opened) == 1  # each time its whole directory is read: 70,000 texts took hours
