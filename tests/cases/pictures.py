"""Folders of small pictures, and what an import would make of them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image as Pillow

from core.data.sources import at, open_source


def folder_of(root: Path, *names: str) -> Path:
    for shade, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.new("RGB", (8, 6), (shade, 0, 77)).save(path, "PNG")
    return root


def rows(source: Path) -> dict[str, tuple[str | None, str | None]]:
    """Label and split by name."""
    return {e.name: (e.label, e.split) for e in open_source(at(source)).entries}


def reasons(source: Path) -> dict[str, str]:
    """Why something was skipped, by its name."""
    opened = open_source(at(source))
    list(opened.entries)  # what is skipped grows while entries are read
    return {s.name: s.reason for s in opened.skipped}
