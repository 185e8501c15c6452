"""Small folders and zips of pictures, and what a source is taken for."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from PIL import Image as Pillow

from core.data.sources import Entry, Opened, Source, at, open_source


def picture(shade: int = 0, fmt: str = "PNG") -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", (8, 6), (shade % 256, shade // 256 % 256, 77)).save(out, fmt)
    return out.getvalue()


def folder_of(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i))
    return root


def zip_of(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for i, name in enumerate(names):
            z.writestr(name, picture(i))
    return path


def found(source: Source | Path) -> tuple[Opened, list[Entry]]:
    opened = open_source(at(source) if isinstance(source, Path) else source)
    return opened, list(opened.entries)


def rows(source: Source | Path) -> dict[str, tuple[str | None, str | None]]:
    return {e.name: (e.label, e.split) for e in found(source)[1]}


def reasons(source: Source | Path) -> dict[str, str]:
    return {s.name: s.reason for s in found(source)[0].skipped}
