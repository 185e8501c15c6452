"""Hostile zips and tables: nothing is written outside, bombs are refused before they grow, every entry is told of."""

from __future__ import annotations

import io
import random
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.data import imports, sources, store, trees, unpacker
from core.errors import AppError
from tests.reliability import corpus, homes
from tests.reliability.row import Row

SLOW = 5.0  # s
TABLE = 15.0  # s of the processor for the longest table, and for most entries: on a busy machine the clock measures the others
MOST = 400.0  # MB that a trial may add to the memory of the process


@dataclass(frozen=True)
class Case:
    name: str
    data: bytes
    added: int | None  # pictures; None: refused as a whole
    words: str = ""  # in the reason


def packed(*entries: tuple[str | zipfile.ZipInfo, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as made:
        for name, data in entries:
            made.writestr(name, data, how)
    return out.getvalue()


def renamed(data: bytes, old: str, new: str, encoding: str = "utf-8") -> bytes:
    """In the zip's bytes: zipfile writes no such name."""
    assert len(old.encode()) == len(new.encode(encoding))
    return data.replace(old.encode(), new.encode(encoding))


def unsaid(name: str, encoding: str, data: bytes) -> bytes:
    """A zip whose one name is in an encoding that it does not say."""
    plain = "x" * len(name.encode(encoding))
    return renamed(packed((plain, data)), plain, name, encoding)


def link(name: str, to: str) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info, to.encode()


def lying(data: bytes, size: int) -> bytes:
    """The first entry says that it unpacks to this size."""
    at = data.index(b"PK\1\2")
    return data[:22] + struct.pack("<I", size) + data[26 : at + 24] + struct.pack("<I", size) + data[at + 28 :]


def pictures(n: int) -> list[bytes]:
    return [
        corpus.png(4, 4, corpus.chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes([i, j] * 6) for j in range(4)))), corpus.END)
        for i in range(n)
    ]


def cases(rows: int) -> list[Case]:
    """rows: of the longest table."""
    one, two, three = pictures(3)
    good = packed(("cat/a.png", one), ("dog/b.png", two))
    zeros = bytes(30_000_000)
    outside = [
        ("../evil.png", "points outside"), ("a/../../evil.png", "points outside"), ("/abs/evil.png", "absolute"), ("C:/evil.png", "absolute"),
        ("..\\evil.png", "points outside"), ("C:\\evil.png", "absolute"), ("\\\\host\\evil.png", "absolute"),
    ]  # fmt: skip
    found = [Case(f"name {name}", packed((name, one), ("cat/b.png", two)), 1, words) for name, words in outside]
    found += [
        Case("good", good, 2),
        Case("zero byte", renamed(packed(("cat/axb.png", one), ("cat/c.png", two)), "cat/axb.png", "cat/a\0b.png"), 1),
        Case("link", packed(link("cat/l.png", "/etc/passwd"), ("cat/b.png", two)), 1, "link"),
        Case("folder link", packed(link("cat", "/etc"), ("cat/b.png", two)), 1, "link"),
        Case("zip in zip", packed(("a.zip", good), ("cat/b.png", two)), 1, "zip inside"),
        Case("twice", packed(("cat/a.png", one), ("cat/A.png", two), ("cat/a.PNG", three)), 3),
        Case("backslashes", packed(("cat\\a.png", one), ("dog\\b.png", two)), 2),
        Case("junk", packed(("__MACOSX/._a.png", b"x"), ("Thumbs.db", b"x"), (".DS_Store", b"x"), ("cat/a.png", one)), 1),
        Case(
            "odd names",
            packed(
                *((f"cat/{n}.png", p) for n, p in zip(("é", "e\u0301", "\u202egnp.a", "CON", "a ", "x" * 200), pictures(6), strict=True))
            ),
            6,
        ),
        Case("not images", packed(("cat/a.png", b"<svg/>"), ("cat/b.png", two)), 1, "image"),
        Case("cut", good[:-30], None),
        Case("no zip", b"hello" * 100, None),
        Case("empty", b"", None),
        Case("nothing in it", packed(), None),
        Case("bytes changed", good[:60] + b"\0\0\0\0" + good[64:], 1, "damaged"),
        Case("bomb by ratio", packed(("cat/a.png", zeros), ("cat/b.png", two)), None, "grows"),
        Case("bomb by ratio, BZip2", packed(("cat/a.png", zeros), how=zipfile.ZIP_BZIP2), None, "grows"),
        Case("bomb by ratio, LZMA", packed(("cat/a.png", zeros), how=zipfile.ZIP_LZMA), None, "grows"),
        Case("lying size, Deflate", lying(packed(("cat/a.png", zeros)), 1000), 0, "damaged"),
        Case("lying size, BZip2", lying(packed(("cat/a.png", zeros), how=zipfile.ZIP_BZIP2), 1000), 0, "damaged"),
        Case("lying size, LZMA", lying(packed(("cat/a.png", zeros), how=zipfile.ZIP_LZMA), 1000), 0, "damaged"),
        Case("overlap", overlapping(one), None, "overlap"),
        Case("70,000 entries", many(one, 70_000), 1),
        Case(
            "more entries than are read, which the usual record hides",
            hidden(many(one, trees.MAX_ENTRIES)),
            None,
            "more than 200,000 files",
        ),
        Case("one name for two", packed(("cat/a.png", one), ("cat/b.png", two), ("cat/a.png", three)), 3),
        Case("Shift JIS", unsaid("cat/猫.png", "cp932", one), 1),
        Case("cp866", unsaid("cat/кот.png", "cp866", one), 1),
        Case("no encoding at all", renamed(packed(("cat/axyb.png", one)), "cat/axyb.png", "cat/a\xff\xfeb.png", "latin-1"), 1),
        Case("bomb in a bomb", packed(("a.zip", packed(("cat/a.png", zeros))), ("cat/b.png", two)), 1, "zip inside"),
        Case("encrypted", encrypted(packed(("cat/a.png", one), ("cat/b.png", two))), None, "holds no images"),
        Case("prefix", b"MZ" + bytes(500) + good, 2),
    ]
    head, line = "image,label\n", "cat/a.png,cat\n"
    files, long = [("cat/a.png", one), ("dog/b.png", two)], random.Random(0).randbytes(500_000).hex()  # a field that no zip makes small
    missing, bound = "n/{}.png,cat\n", "is not read as a table of labels"  # then the folders say the labels
    tables: list[tuple[str, bytes, int | None, str]] = [
        ("path out", (head + "../../etc/passwd,x\n" + line).encode(), 1, "../../etc/passwd is not there"),
        ("address", (head + "http://evil.example/c.png,x\n" + line).encode(), 1, "http://evil.example/c.png is not there"),
        ("formula", (head + "cat/a.png,=HYPERLINK(1)\n").encode(), 1, "1 images are not used"), ("UTF-16", (head + "cat/a.png,cät\n").encode("utf-16"), 1, ""),
        ("semicolons", (head + line).replace(",", ";").encode("latin-1"), 1, ""), ("nothing but a head", head.encode(), 2, bound),
        ("a label of a megabyte", (head + f"cat/a.png,{long}\n").encode(), 2, f"{bound}: labels.csv, line 2: field larger than field limit"),
        ("a name of a megabyte", (head + f"{long}.png,x\n").encode(), 2, f"{bound}: labels.csv, line 2: field larger than field limit"),
        ("a label of 100,000 letters", (head + f"cat/a.png,{long[:100_000]}\ndog/b.png,dog\n").encode(), 1, "must have 1 to 200 characters"),
        ("no end of a quote", (head + 'cat/a.png,"cat\n').encode(), 2, f"{bound}: labels.csv, line 2: a quote is opened and never closed"),
        ("zero bytes", head.encode() + b"cat/a.png,c\0t\n", 2, f"{bound}: labels.csv cannot be read: it is text in no encoding"),
        ("only what is not there", (head + "".join(missing.format(i) for i in range(1000))).encode(), None, "names no image that can be imported"),
        (f"{rows:,} rows", (head + "".join(missing.format(i) for i in range(rows - 1)) + line).encode(), 1, f"{rows - 1 - sources.MAX_TOLD:,}"),
    ]  # fmt: skip
    return found + [Case(f"table: {name}", packed(*files, ("labels.csv", data)), n, words) for name, data, n, words in tables]


def overlapping(data: bytes) -> bytes:
    """Five hundred entries in the directory that all are the first one."""
    made = packed(("cat/a.png", data))
    at = made.index(b"PK\1\2")
    entry, end = made[at : made.index(b"PK\5\6")], made[made.index(b"PK\5\6") :]
    directory = entry * 500
    return made[:at] + directory + end[:8] + struct.pack("<HHII", 500, 500, len(directory), at) + end[20:]


def hidden(data: bytes) -> bytes:
    """The usual record of the end tells of one entry; zipfile believes the other one, which zips of so many have."""
    at = data.rindex(b"PK\5\6")
    assert data.startswith(b"PK\6\7", at - 20)
    return data[: at + 8] + struct.pack("<HHII", 1, 1, 50, 0) + data[at + 20 :]


def many(data: bytes, n: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("cat/a.png", data)
        for i in range(n):
            made.writestr(f"t/{i}.txt", b"")
    return out.getvalue()


def encrypted(data: bytes) -> bytes:
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = 0
        while (start := data.find(mark, start)) >= 0:
            data = data[: start + at] + bytes([data[start + at] | 1]) + data[start + at + 1 :]
            start += 4
    return data


def careless(path: Path, folder: Path) -> None:
    """As one unpacks a zip without a thought."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            target = folder / info.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(info))


def outcome(path: Path, case: Case, number: int) -> str:
    try:
        report = imports.import_now(f"zip {number}", sources.at(path), "tester")
    except AppError as e:
        if case.added is None:
            return "" if case.words in str(e) and e.hint else f"refused with other words: {e}"
        return "" if case.added == 0 and case.words in str(e) else f"refused: {e}"
    reasons = " ".join(s.reason for s in report.skipped)
    found = store.find_dataset(f"zip {number}")
    n = len(store.all_images(found.id)) if found else 0
    if case.added is None:
        return f"{n} were added"
    return "" if case.added == n and case.words in reasons else f"{n} and not {case.added} were added; {reasons[:100]}"


def contents(folder: Path, apart: Path) -> set[str]:
    return {str(p) for p in folder.rglob("*") if not p.is_relative_to(apart)}


def trial(home: Path, rows: int) -> Row:
    """rows: of the longest table."""
    row = Row(control="a reader that extracts everything, or counts nothing")
    work: Callable[[str], Path] = lambda name: home.parent / name  # noqa: E731
    worst = 0.0
    with homes.moved_in(home):
        path, made = work("try.zip"), cases(rows)  # which take memory of their own
        before = homes.peak_mb()
        path.touch()
        there = contents(home.parent, home)
        for number, case in enumerate(made):
            path.write_bytes(case.data)
            began, used = time.monotonic(), time.process_time()
            problem = outcome(path, case, number)
            seconds, used = time.monotonic() - began, time.process_time() - used
            worst = max(worst, seconds) if case.name != "70,000 entries" else worst
            quick = used < TABLE if case.name.endswith((" rows", " entries")) else seconds < 3 * SLOW
            row.check(not problem and quick, f"{case.name}: {problem or f'{seconds:.1f} s, {used:.1f} s of the processor'}")
        row.check(contents(home.parent, home) == there, "something was written outside")
        row.check((grown := homes.peak_mb() - before) < MOST, f"the process grew by {grown:.0f} MB")
        path.write_bytes(packed(("../../evil.png", b"x")))
        careless(path, work("deep") / "deeper")
        row.control_check(contents(home.parent, home) - there <= {str(work("deep")), str(work("deep") / "deeper")}, "extracted")
        bomb = Case("bomb", packed(("cat/a.png", bytes(3_000_000))), None, "grows")
        path.write_bytes(bomb.data)
        row.check(not (problem := outcome(path, bomb, 10_000)), f"bomb: {problem}")
        with homes.replaced(unpacker, "MAX_RATIO", 1 << 40):
            row.control_check(not outcome(path, bomb, 10_000), "not counted")
    row.figures = f"slowest {worst:.1f} s, memory + {max(0.0, grown):.0f} MB"
    return row
