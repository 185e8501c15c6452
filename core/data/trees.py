"""Names of files in a folder or a zip, and how to read them; junk is passed over, links and odd entries are refused."""

from __future__ import annotations

import os
import posixpath
import re
import stat
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from core.data import zip_names
from core.data.tables import About, clean
from core.data.unpacker import METHODS, Unpacker, check_sizes, count_entries, method
from core.errors import Invalid
from core.types import Skipped

MAX_ENTRIES = 200_000
JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini"})  # hidden files (.DS_Store) go by their dot


@dataclass(frozen=True)
class File:
    name: str  # relative, with forward slashes; for people and for the layout, never a path to write to
    size: int
    path: Path | None = None
    info: zipfile.ZipInfo | None = None


@dataclass
class Tree:
    title: str
    files: list[File]
    skipped: list[Skipped] = field(default_factory=list)
    understood: list[str] = field(default_factory=list)
    guessed: list[str] = field(default_factory=list)  # those of them that might be otherwise
    readings: dict[str, str] = field(default_factory=dict)  # encoding -> the names of a zip that do not say theirs
    archive: Path | None = None
    about: About = field(default_factory=About)
    base: str = ""  # the folder in which it lies

    def guess(self, text: str) -> None:
        """Something was taken for something, and might be otherwise."""
        self.understood.append(text)
        self.guessed.append(text)

    def tell(self, said: Mapping[str, bool]) -> None:
        """Sentences -> whether it had to be guessed."""
        for sentence, guess in said.items():
            (self.guess if guess else self.understood.append)(sentence)

    def read(self, file: File, limit: int) -> bytes:
        """The whole file; Invalid if it is larger than the limit."""
        if file.size > limit:
            raise Invalid(f"{file.name} has {file.size / 1e6:,.0f} MB.", f"Up to {limit / 1e6:,.0f} MB are allowed.")
        if file.path is not None:
            return _read_path(file)
        assert file.info is not None
        return Unpacker(self._zip, self.title).read(file.info, limit)

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        """Opened once: to read the directory of 70,000 texts anew for each of them takes hours."""
        assert self.archive is not None
        return zipfile.ZipFile(self.archive)


def _read_path(file: File) -> bytes:
    assert file.path is not None
    try:
        return file.path.read_bytes()
    except OSError as e:
        raise Invalid(f"{file.name} cannot be read: {e.strerror}.", "Check the file and its permissions.") from None


def is_junk(name: str) -> bool:
    return any((part.startswith(".") and part not in (".", "..")) or part.lower() in JUNK for part in name.split("/"))


def natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key by which 2 comes before 10."""
    parts = re.split(r"([0-9]+)", text.casefold())
    return [(0, int(p), "") if i % 2 else (1, 0, p) for i, p in enumerate(parts) if p]


def folder_tree(folder: Path, roots: Iterable[str] = ()) -> Tree:
    allowed = [Path(r).resolve() for r in roots]
    tree, seen = Tree(clean(folder.name), []), set[tuple[int, int]]()

    def outside(entry: os.DirEntry[str]) -> bool:
        return bool(allowed) and entry.is_symlink() and not any(Path(entry.path).resolve().is_relative_to(r) for r in allowed)

    def walk(at: Path, prefix: str) -> None:
        info = at.stat()
        if (info.st_dev, info.st_ino) in seen:  # a link back up, or the same folder twice
            return
        seen.add((info.st_dev, info.st_ino))
        with os.scandir(at) as found:
            entries = sorted(found, key=lambda e: natural(e.name))
        for entry in entries:
            name = clean(prefix + entry.name)
            if is_junk(clean(entry.name)):
                continue
            try:
                if outside(entry):
                    tree.skipped.append(Skipped(name, "it is a link to a place outside the folders that may be imported"))
                elif entry.is_dir():
                    walk(Path(entry.path), f"{name}/")
                elif entry.is_file():
                    tree.files.append(File(name, entry.stat().st_size, Path(entry.path)))
                else:
                    tree.skipped.append(Skipped(name, "it is not a file, or a link to nowhere"))
            except OSError as e:
                tree.skipped.append(Skipped(name, f"it cannot be read: {e.strerror}"))

    try:
        walk(folder, "")
    except OSError as e:
        raise Invalid(f"The folder {folder} cannot be read: {e.strerror}.", "Check the path and its permissions.") from None
    return tree


# Zips: read entry by entry, never extracted; the names in them are labels, never paths --------------


def _refused(name: str, info: zipfile.ZipInfo) -> str | None:
    """Why this entry is not read, or None."""
    if "\0" in name:
        return "its name holds a zero byte"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "its name is an absolute path"
    if ".." in name.split("/"):
        return "its name points outside the zip"
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
    if kind not in (0, stat.S_IFREG):
        return "it is a link" if kind == stat.S_IFLNK else "it is not a file"
    if info.flag_bits & 1:
        return "it is encrypted"
    if name.lower().endswith(".zip"):
        return "it is a zip inside the zip; import it on its own"
    return None


def zip_tree(path: Path, title: str, names_in: str = "") -> Tree:
    """What the zip holds, by name; Invalid, with its title, if it cannot be read or was made to fill a disk.

    names_in: the encoding of the names that do not say it; "": it is guessed.
    """
    try:
        with open(path, "rb") as f:
            if count_entries(f) > MAX_ENTRIES:
                raise Invalid(f"{title} holds more than {MAX_ENTRIES:,} files.", "Split it into several zips.")
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            start_dir = archive.start_dir
    except FileNotFoundError:
        raise Invalid(f"{title} does not exist.", "It may have been moved or deleted.") from None
    except (zipfile.BadZipFile, OSError, struct.error, ValueError, NotImplementedError):
        raise Invalid(
            f"{title} cannot be read: it is not a zip file, or it was cut off.", "Upload it again, or pack the images into a new zip."
        ) from None
    found = zip_names.read(infos, names_in)
    names = [name.replace("\\", "/") for name in found.all]  # as Windows writes it; then checked as ever
    _check_methods(infos, names, title)
    check_sizes(infos, start_dir, title)
    tree = Tree(clean(title), [], archive=path)
    if found.encoding:
        tree.guess(clean(found.said()))
        tree.readings = {encoding: clean(text) for encoding, text in found.readings().items()}
    for info, name in zip(infos, names, strict=True):
        shown = clean(name)
        if name.endswith("/") or is_junk(shown):
            continue
        if reason := _refused(name, info):
            tree.skipped.append(Skipped(shown, reason))
        else:
            tree.files.append(File(posixpath.normpath(shown), info.file_size, info=info))
    return tree


def _check_methods(infos: list[zipfile.ZipInfo], names: list[str], title: str) -> None:
    """Invalid where files are packed with a method that is not read: said once of the zip, and not of each of its files."""
    unread = [
        (i, clean(name))
        for i, name in zip(infos, names, strict=True)
        if i.compress_type not in METHODS and not i.flag_bits & 1 and not is_junk(clean(name))
    ]
    if unread:
        how = " and ".join(sorted({method(i) for i, _ in unread}))
        some = f"{len(unread):,} of its files are" if len(unread) > 1 else f"{unread[0][1]} is"
        raise Invalid(
            f"{title} is not imported: {some} packed with {how}, which Loupe does not read.",
            f"Unpack it and pack it again with {METHODS[8]}, in 7-Zip as “zip” with the method {METHODS[8]}; "
            "Windows takes Deflate64 for more than 2 GB, so make several zips there. Or import the unpacked folder.",
        )
