"""Importing a table of a million rows over three files, each time in a process of its own: python -m tests.benchmarks table."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from tests.benchmarks.rows import Row

ROWS = 1_000_000
REPEATS = 3
TABLES: dict[str, Callable[[int], str]] = {
    "that name three files again and again": lambda i: f"{i % 3}.png,{'ab'[i % 2]}",
    "of which three files are there": lambda i: f"{i}.png,a",
}
WANTED = {
    "importing a table": "under 15 s",
    "importing a table, of the processor": "under 15 s",  # what it takes by the clock where nothing else runs
    "importing a table, memory": "under 400 MB",
}
WORK = """
import re, sys, time
from pathlib import Path
from core.data import imports, sources
begun, used = time.perf_counter(), time.process_time()
report = imports.import_now("table", sources.at(Path(sys.argv[1])), "benchmark")
assert report.added == 3, report
print(time.perf_counter() - begun, time.process_time() - used, int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000)
"""


def _import(folder: Path) -> dict[str, float]:
    """By work: seconds by the clock and of the processor, and the most memory in MB."""
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "LOUPE_HOME": home}
        done = subprocess.run([sys.executable, "-c", WORK, str(folder)], env=env, stdout=subprocess.PIPE, text=True, check=True)
    return dict(zip(WANTED, map(float, done.stdout.split()), strict=True))


def measure() -> Iterator[Row]:
    for name, line in TABLES.items():
        with tempfile.TemporaryDirectory() as folder:
            for shade in range(3):
                Image.new("RGB", (8, 6), (shade, 0, 77)).save(Path(folder, f"{shade}.png"))
            with open(Path(folder, "labels.csv"), "w", encoding="utf-8") as table:
                table.write("image,label\n")
                table.writelines(f"{line(i)}\n" for i in range(ROWS))
            found = [_import(Path(folder)) for _ in range(REPEATS)]
        for work, wanted in WANTED.items():
            unit = "MB" if wanted.endswith("MB") else "s"
            yield Row(work, f"{ROWS:,} rows {name}", wanted, unit, {"Loupe": [one[work] for one in found]})
