"""hypothesis on what strangers send: pictures, zips, tables of labels and zips of runs, changed anywhere.

To go on: python -m tests.reliability.fuzz --minutes 10.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.data import images, imports, sources
from core.errors import AppError
from core.share import unpack
from tests.reliability import corpus, homes, zips
from tests.reliability.models import exported, files_of, packed
from tests.reliability.row import Row

EXAMPLES = 200  # in one round
IMPORTS = 25  # in one round: each makes a dataset
TABLES = {
    "labels.csv": "image,label,split\ncat/a.png,cat,train\ndog/b.png,dög,test\n",
    "labels.jsonl": '{"image": "cat/a.png", "label": "cat", "flagged": true}\n{"image": "dog/b.png", "label": "dog"}\n',
    "coco.json": '{"images": [{"id": 1, "file_name": "cat/a.png"}], "categories": [{"id": 1, "name": "cat"}], '
    '"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}]}',
    "loupe.json": '{"version": 1, "classes": [{"name": "cat", "guideline": "has whiskers"}], "images": {"cat/a.png": {"source": "x"}}}',
}
EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=0, max_size=8), st.integers(0, 12)), min_size=1, max_size=6
)


def edited(data: bytes, edits: list[tuple[float, bytes, int]]) -> bytes:
    """At a place of the whole, so many bytes replaced by others."""
    for share, new, old in edits:
        at = int(share * len(data))
        data = data[:at] + new + data[at + old :]
    return data


def refused_or_read(act: Callable[[], object]) -> None:
    """Anything but an answer or an error for people ends the round, with the smallest example."""
    with contextlib.suppress(AppError, MemoryError):  # memory is bounded by the decoders' process, and here it is not
        act()


def imported(path: Path) -> None:
    """All that an import does with what is sent."""
    imports.import_now("fuzz", sources.at(path), "tester")


def rounds(home: Path, seconds: float, row: Row) -> int:
    bases = list(corpus.bases().values())
    _, zipped = exported(home)
    files, path = files_of(zipped), home.parent / "fuzz.zip"
    one, two = zips.pictures(2)
    packs = [zips.packed(("cat/a.png", one), ("dog/b.png", two), (name, text.encode())) for name, text in TABLES.items()]
    names = [name for name in files if name.endswith((".json", ".csv", ".jsonl", ".txt")) or name == "SHA256SUMS"]
    tries = 0
    how = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True)
    few = settings(how, max_examples=IMPORTS)

    @how
    @given(st.sampled_from(bases), EDITS)
    def pictures(data: bytes, edits: list[tuple[float, bytes, int]]) -> None:
        refused_or_read(lambda: images.examine(edited(data, edits)))

    @how
    @given(st.sampled_from(names), EDITS)
    def runs_by_file(name: str, edits: list[tuple[float, bytes, int]]) -> None:
        some = {n: d for n, d in files.items() if n != "SHA256SUMS" or name == n}
        refused_or_read(lambda: unpack.read(packed(path, {**some, name: edited(files[name], edits)}), "fuzz.zip"))

    @how
    @given(EDITS)
    def runs_by_byte(edits: list[tuple[float, bytes, int]]) -> None:
        path.write_bytes(edited(zipped.read_bytes(), edits))
        refused_or_read(lambda: unpack.read(path, "fuzz.zip"))

    @few
    @given(st.sampled_from(packs), EDITS)
    def zips_by_byte(data: bytes, edits: list[tuple[float, bytes, int]]) -> None:
        path.write_bytes(edited(data, edits))
        refused_or_read(lambda: imported(path))

    @few
    @given(st.sampled_from(sorted(TABLES)), EDITS)
    def tables(name: str, edits: list[tuple[float, bytes, int]]) -> None:
        table = edited(TABLES[name].encode(), edits)
        path.write_bytes(zips.packed(("cat/a.png", one), ("dog/b.png", two), (name, table)))
        refused_or_read(lambda: imported(path))

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for work, n in (
            (pictures, EXAMPLES),
            (runs_by_file, EXAMPLES),
            (runs_by_byte, EXAMPLES),
            (zips_by_byte, IMPORTS),
            (tables, IMPORTS),
        ):
            try:
                work()
            except Exception as e:
                row.check(False, f"{work.__name__}: {type(e).__name__}: {e}")
            tries += n
    return tries


def trial(home: Path, seconds: int) -> Row:
    row = Row(control="zipfile and json, without checks")
    with homes.moved_in(home):
        row.tried = rounds(home, seconds, row)

    @settings(max_examples=50, deadline=None, database=None)
    @given(EDITS)
    def plain(edits: list[tuple[float, bytes, int]]) -> None:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as made:
            made.writestr("a", "b" * 100)
        with zipfile.ZipFile(io.BytesIO(edited(out.getvalue(), edits))) as found:
            found.read("a")

    try:
        plain()
        row.control_check(True)
    except Exception:
        row.control_check(False)
    row.figures = f"{seconds} s"
    return row


if __name__ == "__main__":
    ask = argparse.ArgumentParser(prog="python -m tests.reliability.fuzz", description=__doc__)
    ask.add_argument("--minutes", type=float, default=10)
    with tempfile.TemporaryDirectory() as folder:
        found = trial(Path(folder) / "home", round(ask.parse_args().minutes * 60))
    print(f"{found.tried:,} tries", *found.lost, sep="\n")
    sys.exit(1 if found.lost else 0)
