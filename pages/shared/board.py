"""The attribution board: asks the model worker for each map and lays them side by side."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import streamlit as st

from core import catalog, explain
from core.errors import AppError
from core.types import Run
from pages.shared import frame
from pages.shared.maps import maps


def board(run: Run, path: Path, chosen: list[str], top: list[tuple[str, float]], *, key: str) -> None:
    """Rows are methods, columns the classes of top; one colour scale a row."""
    maps(_panels(run, path, chosen, top), key=key)


def _panels(run: Run, path: Path, chosen: list[str], top: list[tuple[str, float]]) -> list[dict[str, Any]]:
    with st.status(f"Asking the network {len(chosen) * len(top)} times", expanded=False) as status:
        asked = [(m, label, explain.ask(run.id, path, m, label)) for m in chosen for label, _ in top]
        found: dict[tuple[str, str], Any] = {}
        for i, (m, label, future) in enumerate(asked, 1):
            status.update(label=f"{catalog.METHODS[m].title} for {frame.plain(label)}: {i} of {len(asked)}")
            try:
                found[m, label] = explain.answer(run.id, path.stem, m, future)
            except AppError as e:
                found[m, label] = e
        status.update(label=f"{len(asked)} maps", state="complete")
    panels = []
    for label, probability in top:
        cells, seen = [], None
        for m in chosen:
            one = found[m, label]
            if isinstance(one, AppError):
                cells.append({"title": catalog.METHODS[m].title, "caption": "", "url": None, "error": str(one)})
                continue
            seen = one
            others = [found[m, other].map for other, _ in top if not isinstance(found[m, other], AppError)]
            caption = "" if one.delta is None else f"delta {one.delta:+.3f}"
            cells.append(
                {"title": catalog.METHODS[m].title, "caption": caption, "url": _data_url(explain.map_png(one.map, explain.scale(others)))}
            )
        picture = _data_url(explain.picture_png(seen)) if seen is not None else None
        panels.append({"title": label, "subtitle": f"{probability:.1%}", "picture": picture, "maps": cells})
    return panels


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
