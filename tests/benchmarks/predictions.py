"""Evaluate's first visit of 100,000 predictions of 1,000 classes, in processes of their own: python -m tests.benchmarks predictions."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.evaluating import generate
from tests.benchmarks.rows import Row, in_turns

ROOT = Path(__file__).parents[2]
N, CLASSES = 100_000, 1000
VISIT = """
import sys, time
from core.evaluate import evaluate
from core.runs import runs
run_id = sys.argv[1]
begun = time.perf_counter()
evaluate.evaluate(run_id, "validation")
print(time.perf_counter() - begun)
"""
PARSED = """
import sys, time
import pandas as pd
begun = time.perf_counter()
pd.read_csv(sys.argv[1])
print(time.perf_counter() - begun)
"""


def printed(code: str, argument: str) -> float:
    done = subprocess.run([sys.executable, "-c", code, argument], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as home:
        os.environ["LOUPE_HOME"] = home
        run_id = generate("made up", CLASSES, N)
        path = Path(home) / "runs" / run_id / "predictions.csv"
        n = f"{N:,} predictions of {CLASSES:,} classes"
        yield Row("Evaluate's first visit of a run of an earlier version", n, "", "s", {"Loupe": [printed(VISIT, run_id)]})
        ways = {"Loupe": lambda: printed(VISIT, run_id), "parsing the CSV alone, with pandas": lambda: printed(PARSED, str(path))}
        yield Row("Evaluate's first visit", n, "1.5 s", "s", in_turns(ways))
