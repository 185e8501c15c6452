"""Measures, one name after another: python -m tests.benchmarks [NAME …] [--write-docs].

Rows are printed as they come and kept in docs/speed.json, where a name's new rows take the place of its old ones; --write-docs writes
the tables of docs/speed.md and README.md from that file, without measuring unless names are given. Each name takes minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from core.runs.launch import WAIT_ASLEEP
from tests.benchmarks.rows import Row

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "speed.json"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
# A name and the module whose measure() yields its rows.
ROWS = {
    "mnist": "training",
    "reading": "reading",
    "starting": "starting",
    "photos": "photos",
    "tuning": "tuning",
    "embedding": "embedding",
    "predictions": "predictions",
    "attribution": "explaining",
    "maps": "maps",
    "trust": "trust",
    "busy": "busy",
    "visiting": "visiting",
    "reacting": "reacting",
    "gate": "gate",
    "asking": "asking",
    "audit": "entries",
    "table": "tables",
    "review": "deciding",
    "batch": "batch",
}
# Those that print tables of their own, in a browser or beside a server: their lines are kept as they are.
PRINTED = ("evaluating", "labelling", "scaling", "together", "writing")


def machine() -> dict[str, Any]:
    return {
        "processor": next((line.split(":")[1].strip() for line in cpu_lines() if line.startswith("model name")), platform.machine()),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "torchvision", "onnxruntime", "captum", "numpy", "pandas", "streamlit")},
    }


def cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def measured(name: str) -> dict[str, Any]:
    """The rows or lines of one name, with the load of the machine before and after."""
    found: dict[str, Any] = {"at": f"{datetime.now(UTC):%Y-%m-%d %H:%M}", "commit": commit(), "machine": machine()}
    before = os.getloadavg()[0]
    if name in ROWS:
        found["rows"] = []
        for row in importlib.import_module(f"tests.benchmarks.{ROWS[name]}").measure():
            print(f"  {row.work}, {row.n}: {row.measured}", flush=True)
            found["rows"].append({**asdict(row), "measured": row.measured})
    else:
        command = [sys.executable, "-u", "-m", f"tests.benchmarks.{name}"]
        found["lines"] = []
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                found["lines"].append(line.rstrip("\n"))
        if process.returncode:
            sys.exit(f"{name} ended with {process.returncode}")
    return {**found, "load": [round(before, 1), round(os.getloadavg()[0], 1)]}


def kept() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    return found


def table(found: dict[str, Any]) -> list[str]:
    """Of every row, with how to measure it again."""
    lines = ["| work | wanted | measured | n | load | command |", "|---|---|---|---|---|---|"]
    for name in (name for name in ROWS if name in found):
        load = " to ".join(map(str, found[name]["load"]))
        for row in map(reread, found[name]["rows"]):
            cells = (row.work, row.wanted, row.measured, row.n, load, f"`python -m tests.benchmarks {name}`")
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def short_table(found: dict[str, Any]) -> list[str]:
    """Of the rows that say what something else takes for the same work; the methods of attribution would fill it."""
    lines = ["| work | measured |", "|---|---|"]
    for name in (name for name in ROWS if name in found and name != "attribution"):
        beside = (row for row in map(reread, found[name]["rows"]) if len(row.ways) > 1)
        lines += [f"| {row.work}, {row.n} | {row.measured} |" for row in beside]
    return lines


def reread(row: dict[str, Any]) -> Row:
    return Row(**{key: value for key, value in row.items() if key != "measured"})


def write_docs() -> None:
    found = kept()
    for page, lines in ((ROOT / "docs" / "speed.md", table(found)), (ROOT / "README.md", short_table(found))):
        text = page.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not end:
            sys.exit(f"{page.name} has no place for the table: put {BEGIN} and {END} on lines of their own.")
        page.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]), encoding="utf-8")


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    ask.add_argument("names", nargs="*", choices=[[], *ROWS, *PRINTED], metavar="NAME", help=f"{', '.join((*ROWS, *PRINTED))}; none: all")
    ask.add_argument("--write-docs", action="store_true", help="write the tables from what was measured")
    given = ask.parse_args()
    os.environ.update(WAIT_ASLEEP)  # as every process of Loupe is started; what stands beside it gains as much
    names = given.names or ([] if given.write_docs else [*ROWS, *PRINTED])
    for name in names:
        if len(names) > 1:  # each in a process of its own: the data folder that one has looked up would be the next one's, too
            subprocess.run([sys.executable, "-m", "tests.benchmarks", name], cwd=ROOT, check=True)
            continue
        print(name, flush=True)
        one = measured(name)
        KEPT.write_text(json.dumps({**kept(), name: one}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if given.write_docs:
        write_docs()


if __name__ == "__main__":
    main()
