"""Small pictures of three colours, and a dataset of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from core.data import imports, sources, store
from core.types import Dataset

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 50, 210)}


def squares(folder: Path, each: int, side: int = 12) -> Path:
    """A folder for each colour with so many squares, no two of them equal."""
    noise = np.random.default_rng(7)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            pixels = np.clip(np.array(colour) + noise.integers(-25, 26, (side, side, 3)), 0, 255).astype(np.uint8)
            Pillow.fromarray(pixels).save(folder / name / f"{name}-{i}.png")
    return folder


def imported(folder: Path, each: int, side: int = 12) -> Dataset:
    """The dataset “squares” of them."""
    imports.import_now("squares", sources.at(squares(folder / "squares", each, side)), "tester")
    found = store.find_dataset("squares")
    assert found is not None
    return found
