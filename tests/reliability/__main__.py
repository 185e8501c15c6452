"""Tries to lose what people put into Loupe, and prints what was lost: python -m tests.reliability [NAME…] [--short] [--write-docs].

One row for each trial, with its control: the same done wrong on purpose, which must fail. Exit code 1 if anything was lost, or if a
control did not fail.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psutil

from tests.reliability.row import Row, tried

DOCS = Path(__file__).parents[2] / "docs" / "reliability.md"
HEADER = ["trial", "tried", "survived", "lost", "figures", "control, which must fall"]


@dataclass(frozen=True)
class Trial:
    words: str
    full: int  # size of a whole trial
    short: int
    alone: bool = False  # it measures how long people wait: nothing else is tried beside it


AT_ONCE = 3  # trials: one of them is mostly waiting
TRIALS = {
    "watching": Trial("50 open pages watch a run (seconds)", 600, 12),
    "trainer": Trial("trainer killed, half of them inside a checkpoint's write, and resumed", 50, 6),
    "server": Trial("server killed while four people label and two decide", 50, 4),
    "background": Trial(
        "imports, exports, archives, embeddings, predictions, looks for patterns and reports killed and started again", 3, 1
    ),
    "lost": Trial("runs whose process was killed: shown, and gone on with", 12, 2),
    "power": Trial("power cut on the database, simulated", 100, 10),
    "checkpoints": Trial("power cut on a run's checkpoints, simulated, and resumed", 40, 5),
    "disk": Trial("full disks, a read-only folder, damaged databases", 6, 1),
    "backups": Trial("backups while people work, brought back; damaged files found and mended", 3, 1),
    "bucket": Trial("a bucket that lies, while files are fetched and put", 4, 1),
    "visits": Trial("page visits, one after the other", 1000, 30),
    "slow": Trial("somebody's slow question beside another's predictions (seconds)", 40, 5, alone=True),
    "web": Trial("odd numbers, traversal, hosts, origins, forged signatures", 1, 5),
    "words": Trial("markup in every name, note and file name (pages in Chromium)", 28, 4),
    "leaks": Trial("secrets in logs, metadata in pictures that leave", 2, 11),
    "pictures": Trial("bad pictures: cut off, changed, lying, turned, bombs", 1, 4),
    "zips": Trial("hostile zips and tables (rows of the longest)", 1_000_000, 50_000),
    "models": Trial("hostile models, in zips and in run folders", 1, 1),
    "fuzz": Trial("pictures, zips, tables and run zips changed by hypothesis (seconds)", 60, 6),
    "load": Trial("20 people label at once, then decide at once", 500, 20, alone=True),
}


def table(rows: list[list[str]]) -> str:
    lines = [HEADER, ["---"] * len(HEADER), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def write_docs(rows: list[list[str]], minutes: float) -> None:
    """Puts the table between the marks of docs/reliability.md."""
    where = f"{date.today():%d %B %Y}, {os.cpu_count()} cores, Python {sys.version.split()[0]}, {minutes:.0f} minutes"
    text = DOCS.read_text(encoding="utf-8")
    made = re.sub(r"(?s)(<!-- table -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}\n{where}:\n\n{table(rows)}\n\n{m[2]}", text)
    DOCS.write_text(made, encoding="utf-8")


def results(sizes: dict[str, int]) -> Iterator[tuple[str, Row, float]]:
    """Of each trial, as they come: some at once, then those that want the machine for themselves."""
    alone = [name for name in sizes if TRIALS[name].alone or len(sizes) == 1]
    beside = [name for name in sizes if name not in alone]
    if beside:
        os.environ["PYTHONWARNINGS"] = "ignore"  # those of libraries, between the lines
        with ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("spawn")) as pool:
            begun = {pool.submit(tried, name, sizes[name]): name for name in beside}
            for done in as_completed(begun):
                try:
                    yield begun[done], *done.result()
                except BrokenProcessPool as e:
                    yield begun[done], Row(tried=1, lost=[f"its process ended: {e}"]), 0.0
            pool.submit(os._exit, 0)  # ends all of them at once: each would wait for ever for the decoders that its trials have shared
    for name in alone:
        yield name, *tried(name, sizes[name])


def main() -> int:
    ask = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ask.add_argument("names", nargs="*", metavar="NAME", help=", ".join(f"{name}: {one.words}" for name, one in TRIALS.items()))
    ask.add_argument("--short", action="store_true", help="a smaller number of tries, less than 5 minutes in all")
    ask.add_argument("--write-docs", action="store_true", help="write the table into docs/reliability.md")
    said = ask.parse_args()
    if unknown := set(said.names) - TRIALS.keys():
        ask.error(f"There is no trial {', '.join(sorted(unknown))}. Choose among {', '.join(TRIALS)}.")
    sizes = {name: TRIALS[name].short if said.short else TRIALS[name].full for name in said.names or TRIALS}
    found, began = dict[str, Row](), time.monotonic()
    for name, row, seconds in results(sizes):
        found[name] = row
        verdict = "good" if row.good else "LOST" if row.lost else "THE CONTROL DID NOT FALL"
        at = f"{(time.monotonic() - began) / 60:.0f} min, {len(found)} of {len(sizes)}"
        took = f"{seconds:.0f} s, load {psutil.getloadavg()[0]:.0f}"
        print(f"[{at}] {name}: {verdict}; {row.tried:,} tried, {len(row.lost):,} lost; {row.figures} ({took})", flush=True)
        for one in row.named:
            print(f"    {one}", flush=True)
    rows = [found[name].cells(TRIALS[name].words) for name in sizes]
    print(f"\n{table(rows)}")
    if said.write_docs:
        write_docs(rows, (time.monotonic() - began) / 60)
    return 0 if all(row.good for row in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
