"""Turns a folder, a zip, IDX files, a table of labels or a built-in set into entries; knows no database."""

from __future__ import annotations

import gzip
import importlib
import io
import posixpath
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np

from core.data import tables
from core.data.formats import folders, known, spreadsheet
from core.data.formats.known import FORMATS
from core.data.images import ALLOWED, EXTENSIONS
from core.data.paths import Paths
from core.data.tables import ABOUT, Count, Guess, Row, clean
from core.data.trees import File, Tree, folder_tree, is_junk, natural, zip_tree
from core.data.unpacker import Unpacker
from core.errors import Invalid
from core.names import FASHION
from core.settings import settings
from core.types import Class, LabelEvent, Progress, Skipped, Split, silent

Kind = Literal["folder", "zip", "idx", "manifest", "sample", "torchvision", "uploads"]

MAX_ENTRY_BYTES = 50_000_000
MAX_IDX_BYTES = 2_000_000_000
MAX_MANIFEST_BYTES = 200_000_000
MAX_JSON_BYTES = 100_000_000  # of a table that is parsed whole, for which it takes about eight times as much memory
MAX_ABOUT_BYTES = 50_000_000
MAX_TOLD = 1_000  # rows of tables that are named one by one in a report

LAYOUTS = (
    "A folder or zip may hold <class>/image files, train|validation|test/<class>/image files, images without labels, "
    f"images with a table ({', '.join(one.title for one in (*FORMATS.values(), *known.READERS) if one.suffix)}; a CSV or JSONL table has the columns image "
    "and label), or IDX files as MNIST has them. "
    f"Allowed images are {ALLOWED}."
)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_IDX_IMAGES = re.compile(r"images.*idx3", re.IGNORECASE)
_IDX_END = re.compile(r"[-_.]?idx[13][-_.]ubyte(\.gz)?$", re.I)
_IDX_NAME = re.compile(r"(?:(?:^|[-_.])(?:train|t10k|test))?[-_.]?(?:images|labels)[-_.]?idx[13][-_.]ubyte(?:\.gz)?$", re.I)
TORCHVISION = ("MNIST", "FashionMNIST", "CIFAR10")


@dataclass(frozen=True)
class Source:
    """Where images come from; JSON-able, so that an import can run in another process."""

    kind: Kind
    paths: tuple[str, ...] = ()  # files or one folder; for torchvision the name of the set
    title: str = ""  # what people call it
    names: tuple[str, ...] = ()  # the uploaded files' own names, where paths are generated ones
    roots: tuple[str, ...] = ()  # when given, no link to a place outside these is followed
    names_in: str = ""  # the encoding of a zip's names that do not say it; "": guessed

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Source:
        known = (value["kind"], tuple(value["paths"]), value["title"], tuple(value["names"]), tuple(value["roots"]))
        return Source(*known, value.get("names_in", ""))

    def shown(self) -> str:
        return self.title or ", ".join(Path(p).name for p in self.paths) or self.kind


NAMED = {
    "sample": Source("sample", title="Handwritten digits (8 × 8)"),
    "mnist": Source("torchvision", ("MNIST",), "MNIST"),
    "fashion-mnist": Source("torchvision", ("FashionMNIST",), "Fashion-MNIST"),
    "cifar10": Source("torchvision", ("CIFAR10",), "CIFAR-10"),
}


def named(name: str) -> Source:
    """A set that needs no path: the sample, which is always here, or one that is downloaded."""
    if name not in NAMED:
        raise Invalid(f"There is no set called “{name}”.", f"Choose one of: {', '.join(NAMED)}.")
    return NAMED[name]


def _kind(name: str) -> Kind:
    """What a file of that name stands for."""
    if name.lower().endswith(".zip"):
        return "zip"
    return "manifest" if known.for_table(name) else "uploads"


def at(path: Path) -> Source:
    """What a path stands for: a folder, a zip, a table of labels, an IDX file or one image."""
    kind: Kind = "folder" if path.is_dir() else _kind(path.name)
    if kind == "uploads" and _IDX_IMAGES.search(path.name):
        kind = "idx"
    return Source(kind, (str(path.resolve()),), path.name)


def uploaded(files: list[tuple[Path, str]]) -> Source:
    """What files stand for that came in under these names: one zip or table of labels, or pictures."""
    paths, names = tuple(str(path) for path, _ in files), tuple(name for _, name in files)
    kind: Kind = _kind(names[0]) if len(files) == 1 else "uploads"
    return Source(kind, paths, names[0] if len(files) == 1 else "my images", names)


def named_after(source: Source) -> str | None:
    """The dataset's name that files say themselves: that of a zip or table, of IDX files what their names share; None for loose images."""
    if source.kind != "uploads":
        return PurePath(source.title).stem
    idx = [PurePath(name).name for name in source.names if _IDX_NAME.search(name)]
    if not idx:
        return None
    rest = {_IDX_NAME.sub("", name).strip("-_. ") for name in idx}
    return next(iter(rest)) if len(rest) == 1 and "" not in rest else _IDX_END.sub("", idx[0]).strip("-_. ")


@dataclass(frozen=True, eq=False)
class Entry:
    """One picture to import: exactly one of path, data and array is given."""

    name: str
    label: str | None = None
    split: Split | None = None
    path: Path | None = None
    data: bytes | None = None
    array: np.ndarray | None = None  # (H, W) or (H, W, 3) uint8
    note: str = ""  # who gave the label before this import, and when
    flagged: bool = False
    past: tuple[LabelEvent, ...] = ()  # what happened to it before, oldest first
    guesses: tuple[Guess, ...] = ()  # models' predictions
    shows: tuple[tuple[str, bool], ...] = ()  # classes it is an example of, accepted or rejected
    original: str = ""  # the id of the picture of which the source says that this is a copy; a claim


@dataclass
class Opened:
    entries: Iterator[Entry]
    total: int
    splits_given: bool
    skipped: list[Skipped]  # grows while entries are read
    classes: tuple[str, ...] = ()  # in the order people expect: 0, 1, 2, … 10
    described: tuple[Class, ...] = ()  # what an export of Loupe says about classes, in their order; without their examples
    understood: list[str] = field(default_factory=list)  # what was taken for what: sentences for people
    guessed: list[str] = field(default_factory=list)  # those of them that might be otherwise: shown before anything is stored
    # All entries once more, with their picture only where it is wanted.
    glance: Callable[[Callable[[Entry], bool]], Iterator[Entry]] = lambda wanted: iter(())
    readings: dict[str, str] = field(default_factory=dict)  # encoding -> how the unclear names of a zip would read


def open_source(source: Source, name: str = "", progress: Progress = silent) -> Opened:
    """Finds out what the source holds; Invalid if it cannot be read or holds nothing to import.

    The dataset's name is a hint only: "fashion" in it gives the ten numbers of an IDX file their names.
    """
    if source.kind == "sample":
        return _sample()
    if source.kind == "torchvision":
        return _torchvision(source, progress)
    if not source.paths:
        raise Invalid("There is nothing to import.", LAYOUTS)
    hint = " ".join((name, source.title, *source.paths, *source.names))
    first = Path(source.paths[0])
    if source.kind == "zip" or (len(source.paths) == 1 and _shown_names(source)[0].lower().endswith(".zip")):
        tree = zip_tree(first, source.names[0] if source.names else first.name, source.names_in)
        opened = _recognise(tree, hint)
        opened.readings = tree.readings
        return opened
    if first.is_dir():
        return _recognise(folder_tree(first, source.roots), hint)
    if not first.exists():
        raise Invalid(f"{source.shown()} does not exist.", "It may have been moved or deleted.")
    if source.kind == "manifest" and len(source.paths) == 1:
        tree = _upload_tree(source) if source.names else folder_tree(first.parent, source.roots)
        manifest = File(clean(_shown_names(source)[0]), first.stat().st_size, first)
        _take_about(tree)
        return _manifest(tree, [_table(tree, manifest)])
    if source.kind == "idx" and len(source.paths) == 1:  # its labels lie beside it
        tree = folder_tree(first.parent, source.roots)
        tree.files = [f for f in tree.files if "/" not in f.name]
        return _idx(tree, hint)
    return _recognise(_upload_tree(source), hint)


def _shown_names(source: Source) -> list[str]:
    return list(source.names) if len(source.names) == len(source.paths) else [Path(p).name for p in source.paths]


def _upload_tree(source: Source) -> Tree:
    tree = Tree(source.shown(), [])
    for path, name in zip(source.paths, _shown_names(source), strict=True):
        shown = clean(posixpath.basename(name.replace("\\", "/")))
        if not is_junk(shown):
            if not Path(path).is_file():
                raise Invalid(f"{shown} does not exist.", "It may have been moved or deleted.")
            tree.files.append(File(shown, Path(path).stat().st_size, Path(path)))
    return tree


# Layouts ------------------------------------------------------------------------------------------


def _recognise(tree: Tree, hint: str) -> Opened:
    _take_about(tree)
    if any(_IDX_IMAGES.search(posixpath.basename(f.name)) for f in tree.files):
        return _idx(tree, hint)
    refused: list[Invalid] = []
    if found := _find_tables(tree, refused):
        return _manifest(tree, found)
    return _class_folders(tree, refused)


def _take_about(tree: Tree) -> None:
    """Reads what an export of Loupe says about its dataset; a damaged file is named, and the images are imported."""
    wrapped = len({f.name.split("/")[0] for f in tree.files}) == 1
    for file in tree.files:
        base, _, name = file.name.rpartition("/")
        if name == ABOUT and (not base or (wrapped and "/" not in base)):
            tree.files.remove(file)
            tree.base = posixpath.join(base, "")
            try:
                tree.about = tables.read_about(tree.read(file, MAX_ABOUT_BYTES).decode("utf-8-sig"), tree.skipped)
            except (Invalid, ValueError) as e:
                why = str(e) if isinstance(e, Invalid) else "It is damaged, or no UTF-8 text."
                tree.skipped.append(Skipped(file.name, f"{why} What it says about the classes is left out."))
            return


def _extension(name: str) -> str:
    return posixpath.splitext(name)[1][1:].lower()


def _class_folders(tree: Tree, refused: Sequence[Invalid] = ()) -> Opened:
    """Images by their folders; what may hold labels and was not read is said first, and raised where folders make no two classes."""
    pictures: list[File] = []
    for file in tree.files:
        if _extension(file.name) in EXTENSIONS:
            pictures.append(file)
        else:
            tree.skipped.append(Skipped(file.name, _not_an_image(file.name)))
    if not pictures:
        seen = f" ({len(tree.skipped)} other files)" if tree.skipped else ""
        raise Invalid(f"{tree.title} holds no images{seen}.", LAYOUTS)
    files: dict[str, list[File]] = {}  # a zip may hold two of one name
    for file in pictures:
        files.setdefault(file.name, []).append(file)
    rows, said = folders.arranged([file.name for file in pictures], tree.skipped)
    if refused:
        said = {f"A table was not read, so the labels are the names of the folders: {refused[0].message}": True, **said}
    tree.tell(said)
    rows = [replace(row, label=tree.about.folders.get(row.label, row.label)) if row.label else row for row in rows]
    if refused and len({row.label for row in rows if row.label}) < 2:
        raise refused[0]
    return _opened(tree, [(files[row.image].pop(0), row) for row in rows])


def _not_an_image(name: str) -> str:
    extension = _extension(name)
    if extension == "zip":
        return "it is a zip; import it on its own"
    return f"it is not an image that Loupe reads ({ALLOWED})"


def _shown(source: str, name: str) -> str:
    """The name the image came with, where a table says so."""
    return clean(source) if _extension(source) in EXTENSIONS and len(source) <= tables.MAX_TEXT else name


def _opened(tree: Tree, found: list[tuple[File, Row]]) -> Opened:
    about, shows = tree.about, dict[str, tuple[tuple[str, bool], ...]]()
    for one in about.classes:
        for name, accepted in (*((n, True) for n in one.accepted), *((n, False) for n in one.rejected)):
            shows[tree.base + name] = (*shows.get(tree.base + name, ()), (one.name, accepted))
    rows: list[tuple[File, Entry]] = []
    for file, row in found:
        source, flagged = about.images.get(file.name.removeprefix(tree.base), ("", False))  # for formats that do not say it
        label, split = None if row.label is None else clean(row.label), tables.split_of(row.split)
        entry = Entry(_shown(row.source or source, file.name), label, split, note=clean(row.note), flagged=row.flagged or flagged)
        original = about.ids.get(file.name.removeprefix(tree.base), "")
        rows.append((file, replace(entry, past=row.past, guesses=row.guesses, shows=shows.get(file.name, ()), original=original)))
    labels = sorted({entry.label for _, entry in rows if entry.label is not None}, key=natural)
    given = any(entry.split is not None for _, entry in rows) and about.splits_given is not False
    glance = partial(_entries, tree, rows)
    return Opened(_entries(tree, rows), len(rows), given, tree.skipped, tuple(labels), about.classes, tree.understood, tree.guessed, glance)


def _all(entry: Entry) -> bool:
    return True


def _entries(tree: Tree, rows: list[tuple[File, Entry]], wanted: Callable[[Entry], bool] = _all) -> Iterator[Entry]:
    if tree.archive is None:
        for file, entry in rows:
            yield replace(entry, path=file.path) if wanted(entry) else entry
        return
    with zipfile.ZipFile(tree.archive) as archive:
        unpacker = Unpacker(archive, tree.title)
        for file, entry in rows:
            assert file.info is not None
            if not wanted(entry):
                yield entry
                continue
            try:
                if file.size > MAX_ENTRY_BYTES:
                    raise ValueError(f"it has {file.size / 1e6:.0f} MB; up to {MAX_ENTRY_BYTES / 1e6:.0f} MB are allowed")
                yield replace(entry, data=unpacker.read(file.info, MAX_ENTRY_BYTES))
            except ValueError as e:
                tree.skipped.append(Skipped(file.name, str(e)))


# Tables of labels ---------------------------------------------------------------------------------


@dataclass
class Table:
    file: File
    base: str  # the folder to which its paths are relative: its own, or the nearest around it that holds images
    rows: list[Row]
    # Of further rows the number alone, as those of a million would take 600 MB:
    missing: Count  # their files are not there
    again: Count  # they repeat the first row that names their image
    differ: Count  # or do not agree with it


def _find_tables(tree: Tree, refused: list[Invalid]) -> list[Table]:
    """The table of the images, or one for each split; what else may hold labels is said first, and added to refused if none is found."""
    found: list[Table] = []
    unread: list[Skipped] = []
    tried = set[File]()
    for place in _places(tree):
        earlier = len(refused)
        for file in place:
            if file in tried or not _may_be_table(tree, file):
                continue
            tried.add(file)
            try:
                found.append(_table(tree, file))
            except tables.Refused:
                raise
            except Invalid as e:
                if not file.name.lower().endswith(".json") or _NAMES_PICTURE.search(_start(tree, file)):  # much else is written as JSON
                    unread.append(Skipped(file.name, f"it is not read as a table of labels: {e}"))
                    refused.append(e)
        if found:
            break
    splits = [_split_of_table(one.file) for one in found]
    if len(found) > 1 and (None in splits or len(set(splits)) < len(splits)):
        names = ", ".join(one.file.name for one in found)
        raise Invalid(
            f"{tree.title} holds more than one table of labels: {names}.", "Keep one of them in the folder, or one for each split."
        )
    if found and refused[earlier:] and splits[0]:  # the others' images would have no labels
        raise refused[earlier]
    if found and earlier:
        tree.guess(f"The labels are those of {found[0].file.name}, as another table was not read: {refused[0].message}")
    for file in _passed_over(tree, tried):
        if found:
            unread.append(Skipped(file.name, f"it may hold labels, but {found[0].file.name} is read for them"))
            continue
        refused.append(_not_read(file))
        unread.append(Skipped(file.name, f"it is not read as a table of labels: {refused[-1]}"))
    tree.skipped[:0] = unread
    unreadable = {one.name for one in unread}
    tree.files = [f for f in tree.files if f.name not in unreadable]  # said once
    return found


def _places(tree: Tree) -> Iterator[list[File]]:
    """The files that may be tables of the whole, by where they lie, the likeliest first."""
    candidates = [f for f in tree.files if known.for_table(f.name)]
    yield [f for f in candidates if "/" not in f.name]
    if len({f.name.split("/")[0] for f in tree.files}) == 1:  # inside one wrapping folder
        yield [f for f in candidates if f.name.count("/") == 1]
    yield [f for f in candidates if tables.split_of(posixpath.basename(posixpath.dirname(f.name)))]
    pictured = _picture_folders(tree)
    around = posixpath.commonpath({posixpath.dirname(f.name) for f in tree.files if _extension(f.name) in EXTENSIONS} or {""})
    parts = around.split("/") if around else []
    for depth in range(1, len(parts) + 1):  # beside all images
        yield [f for f in candidates if posixpath.dirname(f.name) == "/".join(parts[:depth])]
    yield [f for f in candidates if posixpath.dirname(f.name) not in pictured]  # in a folder of tables beside those of images


_OTHERS = frozenset({"xlsx", "xlsm", "xls", "ods", "numbers", "parquet", "feather", "arrow", "mat"})  # usual for labels, and not read
MAX_LOOKED = 20  # texts of a suffix that are looked into: of one for each image the first show what all are


def _passed_over(tree: Tree, tried: set[File]) -> Iterator[File]:
    """Those that may hold labels and are no table of the whole."""
    looked: dict[str, int] = {}
    for file in tree.files:
        suffix = _extension(file.name)
        if file in tried:
            continue
        if suffix in ("txt", "json", "xml"):
            looked[suffix] = looked.get(suffix, 0) + 1
            text = _start(tree, file) if looked[suffix] <= MAX_LOOKED else ""
            if spreadsheet.looks_like_one(text) if suffix == "txt" else _NAMES_PICTURE.search(text):
                yield file
        elif suffix in _OTHERS or known.for_table(file.name):
            yield file


def _not_read(file: File) -> Invalid:
    if known.for_table(file.name):
        return Invalid(
            f"{file.name} lies beside some of the images only, so it is not read as the table of all.",
            "Put one table at the top, with the path of each image and its label; or take it out to import without it.",
        )
    return Invalid(
        f"{file.name} may hold the labels, but files of this kind (.{_extension(file.name)}) are not read as tables.",
        "Save the labels as CSV (in Excel: “CSV UTF-8”) with the columns image and label; or take it out to import without it.",
    )


_NAMES_PICTURE = re.compile(f'[.](?:{"|".join(sorted(EXTENSIONS))})["?<]', re.I)
_ABOUT_TABLES = frozenset({"label", "labels", "metadata", "meta", "annotation", "annotations", "instances", "list"})


def _start(tree: Tree, file: File) -> str:
    """The file's text, or none."""
    try:
        return tables.decoded(tree.read(file, MAX_MANIFEST_BYTES))[0]
    except (Invalid, ValueError):
        return ""


def _may_be_table(tree: Tree, file: File) -> bool:
    """Most texts called .txt are none."""
    return not file.name.lower().endswith(".txt") or spreadsheet.looks_like_one(_start(tree, file))


def _picture_folders(tree: Tree) -> set[str]:
    """Those that hold a picture, or a folder that does; found once for all, as a zip may hold tens of thousands of texts."""
    found = set[str]()
    for file in tree.files:
        if _extension(file.name) in EXTENSIONS:
            folder = posixpath.dirname(file.name)
            while folder and folder not in found:
                found.add(folder)
                folder = posixpath.dirname(folder)
    return found


def _split_of_table(file: File) -> Split | None:
    folder, name = posixpath.split(file.name)
    split, rest = tables.split_in(posixpath.splitext(name)[0])
    return split if split and set(rest.split()) <= _ABOUT_TABLES else tables.split_of(posixpath.basename(folder))


def _table(tree: Tree, file: File) -> Table:
    """The rows of a table; Invalid if it cannot be read or is none."""
    if file.name.lower().endswith(".json") and file.size > MAX_JSON_BYTES:
        raise tables.Refused(
            f"{file.name} has {file.size / 1e6:,.0f} MB; as JSON is read whole, up to {MAX_JSON_BYTES / 1e6:,.0f} MB are allowed.",
            "Export it as CSV or JSONL, or in several parts with the images of each in a folder of its own.",
        )
    try:
        text, encoding = tables.decoded(tree.read(file, MAX_MANIFEST_BYTES))
    except ValueError as e:
        raise Invalid(f"{file.name} cannot be read: {e}.", "Save it as UTF-8 (in Excel: “CSV UTF-8”).") from None
    folder, pictured = posixpath.dirname(file.name), _picture_folders(tree)
    while folder and folder not in pictured:
        folder = posixpath.dirname(folder)
    base = posixpath.join(folder, "")
    beside = [f.name.removeprefix(base) for f in tree.files if f.name.startswith(base)]
    bases = {posixpath.basename(name).casefold() for name in beside}
    problem = Invalid(f"{file.name} is no table of labels.", LAYOUTS)
    for tried, one in enumerate(known.for_table(file.name)):
        try:
            skipped: list[Skipped] = []
            total, told, rows, firsts = 0, 0, list[Row](), dict[str, Row]()
            missing, again, differ = Count(), Count(), Count()
            for row in one.read(file.name, text, beside, skipped):
                total += 1
                if (before := firsts.get(row.image)) is not None:
                    agrees = (row.label, row.split or before.split) == (before.label, before.split)
                    (again if agrees else differ).add(row.where)
                    continue
                there = clean(row.image.replace("\\", "/").rpartition("/")[2]).casefold() in bases
                if there and (not row.split or tables.split_of(row.split)):
                    firsts[row.image] = row
                told += not there
                if there or told <= MAX_TOLD:
                    rows.append(row)
                else:
                    missing.add(row.where)
        except tables.Refused:
            raise
        except Invalid as e:
            problem = problem if tried else e
            continue
        tree.skipped.extend(skipped[:MAX_TOLD])
        if further := skipped[MAX_TOLD:]:
            why = "passed over for reasons such as the above"
            tree.skipped.append(Skipped(file.name, f"{len(further):,} further rows: {why} (first: {further[0].name})"))
        taken = _split_of_table(file)
        said = f"{file.name} was read as a table of labels ({one.title}, {encoding}{one.says(text)}): {total:,} rows"
        said += f", taken for the {taken} split" if taken and not all(row.split for row in rows) else ""
        usual = not taken or folders.CLEAR & set(re.split("[/._-]", file.name.casefold())[-4:])
        tree.tell({said: not usual})
        if encoding not in tables.SURE and not text.isascii():
            example = next(line for line in text.splitlines() if not line.isascii())[:100]
            tree.guess(
                f"{file.name} does not say how its letters are encoded: {encoding} is a guess, by which a line reads “{clean(example)}”. "
                "If that is wrong, save it as UTF-8 and import it again"
            )
        return Table(file, folder, rows, missing, again, differ)
    raise problem


def _manifest(tree: Tree, found: Sequence[Table]) -> Opened:
    paths = Paths(tree.files)
    rows: dict[int, tuple[File, Row]] = {}  # by id of the file: a zip may hold two of one name
    told, more, again, differ = 0, Count(), Count(), Count()
    first = found[0].file.name
    by_folder = _splits_by_folder(tree, found)

    def skip(name: str, why: str) -> None:
        nonlocal told
        told += 1
        if told <= MAX_TOLD:
            tree.skipped.append(Skipped(name, why))
        else:
            more.add(name)

    for one in found:
        table, base, split = one.file, one.base, _split_of_table(one.file)
        known_paths: dict[str, File | str] = {}  # a table of a million rows may name few files
        for row in one.rows:
            file = known_paths.get(row.image)
            if file is None:
                file = known_paths[row.image] = paths.find(base, clean(row.image))
            if isinstance(file, str):
                skip(f"{table.name}, {row.where}", file)
            elif _extension(file.name) not in EXTENSIONS:
                skip(file.name, _not_an_image(file.name))
            elif row.split and tables.split_of(row.split) is None:
                skip(file.name, f"its split “{clean(row.split)}” is none of train, validation and test ({table.name}, {row.where})")
            elif (before := rows.get(id(file))) is not None:
                (again if (before[1].label, before[1].split) == (row.label, row.split or before[1].split) else differ).add(row.where)
            else:
                rows[id(file)] = (file, row if row.split else replace(row, split=split or by_folder.get(file.name, "")))
        for count, further in ((more, one.missing), (again, one.again), (differ, one.differ)):
            count.n, count.first = count.n + further.n, count.first or further.first
    again.tell(first, tree.skipped, "they name an image that an earlier row names", "{} rows")
    differ.tell(first, tree.skipped, "they say something else of an image than an earlier row, which is kept", "{} rows")
    more.tell(first, tree.skipped, "passed over for reasons such as the above", "{} further rows")
    if not rows:
        why = f" {tree.skipped[0].name}: {tree.skipped[0].reason}." if tree.skipped else ""
        raise Invalid(f"{first} names no image that can be imported.{why}", "Its paths are relative to the table itself.")
    if (tails := paths.by_tail).n:
        paths_are = "one path is" if tails.n == 1 else f"{tails.n:,} paths are"
        tree.guess(
            f"{paths_are} not there as {first} writes {'it' if tails.n == 1 else 'them'}, and matched by the last parts: {tails.first}"
        )
    named = {f.name for f, _ in rows.values()}
    unnamed = [f.name for f in tree.files if _extension(f.name) in EXTENSIONS and f.name not in named]
    if unnamed:
        tree.skipped.append(Skipped(first, f"{len(unnamed)} images are not used, for example {min(unnamed)}"))
    return _opened(tree, list(rows.values()))


def _splits_by_folder(tree: Tree, found: Sequence[Table]) -> dict[str, str]:
    """By name of the image, where no table says of any."""
    if any(_split_of_table(one.file) or any(row.split for row in one.rows) for one in found):
        return {}
    rows, said = folders.arranged([f.name for f in tree.files if _extension(f.name) in EXTENSIONS], [])
    splits = {row.image: row.split for row in rows if row.split}
    if splits:
        tree.tell(said)
    return splits


# IDX: the format of MNIST, http://yann.lecun.com/exdb/mnist ------------------------------------------


def _idx_key(name: str) -> str:
    """The same for raw and gzipped files, and for '.' and '-' before idx."""
    return re.sub(r"[.]gz$", "", name.lower()).replace(".", "-")


def _idx(tree: Tree, hint: str) -> Opened:
    files = {_idx_key(f.name): f for f in sorted(tree.files, key=lambda f: -len(f.name))}  # raw wins over .gz
    parts: list[tuple[str, np.ndarray, np.ndarray, Split | None]] = []
    used: set[str] = set()
    for key in sorted(files, key=lambda k: ("train" not in k, k)):
        folder, base = posixpath.split(key)
        if not _IDX_IMAGES.search(base):
            continue
        labels_key = posixpath.join(folder, base.replace("images", "labels").replace("idx3", "idx1"))
        if labels_key not in files:
            raise Invalid(f"{files[key].name} has no labels file beside it.", f"It is expected to be called {labels_key}.")
        pictures, numbers = _read_idx(tree, files[key], 3), _read_idx(tree, files[labels_key], 1)
        if len(pictures) != len(numbers):
            raise Invalid(
                f"{files[key].name} holds {len(pictures):,} images, but {files[labels_key].name} holds {len(numbers):,} labels.",
                "The two files do not belong together.",
            )
        split: Split | None = None
        for word, means in (("train", "train"), ("t10k", "test"), ("test", "test"), ("val", "validation")):
            if word in base:
                split = means  # type: ignore[assignment]
                break
        shape = " × ".join(map(str, pictures.shape[1:]))
        taken = f"taken for the {split} split" if split else "of no split"
        tree.understood.append(f"{files[key].name} and {files[labels_key].name}: {len(numbers):,} images of {shape}, {taken}")
        parts.append((base.partition("images")[0].strip("-_") or "image", pictures, numbers, split))
        used |= {key, labels_key}
    tree.skipped.extend(Skipped(f.name, "it is no part of an IDX pair") for f in tree.files if _idx_key(f.name) not in used)
    present = sorted({int(n) for _, _, numbers, _ in parts for n in np.unique(numbers)})
    if not present:
        raise Invalid(f"{tree.title} holds no images.", LAYOUTS)
    fashion = "fashion" in hint.lower() and present[-1] < 10
    names = {n: FASHION[n] if fashion else str(n) for n in present}
    if fashion:
        tree.guess(
            "The numbers are taken for the ten classes of Fashion-MNIST, as a name here says “fashion”: 0 is T-shirt, 9 is Ankle boot"
        )

    def entries(wanted: Callable[[Entry], bool] = _all) -> Iterator[Entry]:
        for stem, pictures, numbers, split in parts:
            for i, (pixels, number) in enumerate(zip(pictures, numbers.tolist(), strict=True), 1):
                entry = Entry(f"{stem}-{i:05d}.png", names[number], split)
                yield replace(entry, array=pixels) if wanted(entry) else entry

    total, given = sum(len(numbers) for _, _, numbers, _ in parts), all(split is not None for *_, split in parts)
    return Opened(entries(), total, given, tree.skipped, tuple(names.values()), (), tree.understood, tree.guessed, entries)


def _read_idx(tree: Tree, file: File, dims: Literal[1, 3]) -> np.ndarray:
    """(N, H, W) or (N,) uint8."""
    magic, header_size = (2051, 16) if dims == 3 else (2049, 8)
    try:
        data = tree.read(file, MAX_IDX_BYTES)
        stream: Any = gzip.GzipFile(fileobj=io.BytesIO(data)) if data[:2] == b"\x1f\x8b" else io.BytesIO(data)
        header = stream.read(header_size)
        if len(header) < header_size or struct.unpack(">I", header[:4])[0] != magic:
            raise Invalid(f"{file.name} is not an IDX file of {'images' if dims == 3 else 'labels'}.", "Its first four bytes are wrong.")
        shape = struct.unpack(f">{dims}I", header[4:])
        expected = int(np.prod([int(n) for n in shape], dtype=object))
        if expected > MAX_IDX_BYTES or (dims == 3 and shape[0] and not all(0 < side <= 4096 for side in shape[1:])):
            raise Invalid(f"{file.name} says it holds {' × '.join(map(str, shape))} values.", "That is more than Loupe reads.")
        values = stream.read(expected)
        surplus = bool(stream.read(1))
    except (OSError, EOFError, zlib.error):
        raise Invalid(f"{file.name} is damaged or was cut off.", "Download or copy it again.") from None
    except ValueError as e:
        raise Invalid(f"{file.name} cannot be read: {e}.", "Download or copy it again.") from None
    if len(values) != expected or surplus:
        more = "more" if surplus else "fewer"
        raise Invalid(f"{file.name} holds {more} values than its header says.", "Download or copy it again.")
    return np.frombuffer(values, np.uint8).reshape(shape)


# Built-in sets ------------------------------------------------------------------------------------


def _sample() -> Opened:
    """scikit-learn's load_digits: 1,797 handwritten digits, 8 x 8, grey values 0 to 16."""
    from sklearn.datasets import load_digits  # 0.5 s that only this import needs

    digits = load_digits()
    pictures = (digits.images * (255 / 16)).round().astype(np.uint8)

    def entries(wanted: Callable[[Entry], bool] = _all) -> Iterator[Entry]:
        for i, (pixels, number) in enumerate(zip(pictures, digits.target.tolist(), strict=True), 1):
            entry = Entry(f"digit-{i:04d}.png", str(number))
            yield replace(entry, array=pixels) if wanted(entry) else entry

    return Opened(entries(), len(pictures), False, [], tuple(str(n) for n in range(10)), glance=entries)


def _torchvision(source: Source, progress: Progress) -> Opened:
    name = source.paths[0] if source.paths else source.title
    if name not in TORCHVISION:
        raise Invalid(f"“{name}” is not a set that Loupe downloads.", f"Choose one of {', '.join(TORCHVISION)}.")
    # By name and only here: core.ml imports torch, and the server reads this module.
    ml = importlib.import_module("core.ml.download")
    what = f"Downloading {source.shown()}, bytes"
    folder: Path = ml.download(name, settings().downloads, lambda got, size, file: progress(got, size, what))
    if name != "CIFAR10":
        opened = _idx(folder_tree(folder), name)
        opened.guessed.clear()  # whoever asks for a set by its name knows what its numbers mean
        return opened

    def entries(wanted: Callable[[Entry], bool] = _all) -> Iterator[Entry]:
        for file, pixels, label, split in ml.cifar10_arrays(folder):
            entry = Entry(file, label, split)
            yield replace(entry, array=pixels) if wanted(entry) else entry

    return Opened(entries(), 60_000, True, [], CIFAR10, glance=entries)
