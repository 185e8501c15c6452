"""Runs that are made by hand, for the worker to train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from core.catalog import params
from core.data import images
from core.runs import runs
from core.settings import settings
from core.types import Ended, Run, Snapshot, SnapshotRow, Split

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 60, 210)}


def squares(per_class: int, side: int = 12, seed: int = 0) -> tuple[SnapshotRow, ...]:
    """Coloured squares on grey, written as originals; every fifth is for validation, every sixth for the test."""
    drawn = np.random.default_rng(seed)
    rows = []
    for label, colour in COLOURS.items():
        for i in range(per_class):
            array = drawn.integers(90, 150, (side, side, 3), np.uint8)
            top, left = drawn.integers(0, side // 2, 2)
            array[top : top + side // 2, left : left + side // 2] = colour
            png = images.png(array)
            name = images.image_id(png)
            images.store_original(settings().images, f"{name[:2]}/{name}.png", png)
            split: Split = "validation" if i % 5 == 3 else "test" if i % 6 == 5 else "train"
            rows.append(SnapshotRow(name, f"{name[:2]}/{name}.png", label, split))
    return tuple(rows)


def make_run(rows: tuple[SnapshotRow, ...], name: str = "run", **values: Any) -> Path:
    config = params.run_config({"device": "cpu", **values})
    classes = tuple(sorted({row.label for row in rows}))
    run = Run(name, name, 1, "squares", config, classes, "s", {}, "2026-01-01T00:00:00.000+00:00", "me", "test")
    folder = settings().runs / name
    runs.create(folder, run, Snapshot("s", classes, rows))
    return folder


def ended(folder: Path) -> Ended:
    last = runs.events(folder)[-1]
    assert isinstance(last, Ended), last
    return last


def files_of(folder: Path) -> list[str]:
    return [str(settings().images / row.path) for row in runs.snapshot_rows(folder)]
