"""The attribution board: asks the model worker for each map and lays them side by side."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import streamlit as st

from core import catalog, explain
from core.errors import AppError
from core.types import Attribution, Run
from pages.shared.frame import plain
from pages.shared.maps import maps


def board(run: Run, path: Path, methods: list[str], top: list[tuple[str, float]], *, key: str) -> None:
    """A row per method, a column per (class, probability) of top, one colour scale a row."""
    asked = [(m, label, explain.ask(run.id, path, m, label)) for m in methods for label, _ in top]
    answers: dict[str, list[Attribution | AppError]] = {m: [] for m in methods}
    slot = st.empty()
    try:
        for i, (m, label, future) in enumerate(asked):
            slot.progress(i / len(asked), f"{catalog.method(m).title} for {plain(label)}: {i + 1} of {len(asked)}")
            try:
                answers[m].append(explain.answer(run.id, path.stem, m, future))
            except AppError as e:
                answers[m].append(e)
    finally:  # somebody clicked on: what is not begun is not wanted any more
        for _, _, future in asked:
            future.cancel()
    with slot:
        maps([_row(m, top, answers[m]) for m in methods], key=key)


def _row(method: str, top: list[tuple[str, float]], answers: list[Attribution | AppError]) -> dict[str, Any]:
    facts, good = catalog.method(method), [a for a in answers if isinstance(a, Attribution)]
    strength = explain.scale([a.map for a in good])
    cells: list[dict[str, Any]] = []
    for (label, probability), answer in zip(top, answers, strict=True):
        cell = {"title": f"{label}: {probability:.1%}", "caption": "", "url": None}
        if isinstance(answer, AppError):
            cell["error"] = str(answer)
        else:
            cell["url"] = _data_url(explain.map_png(answer.map, strength))
            cell["caption"] = "" if answer.delta is None else f"sum is off by {answer.delta:+.3f} (delta)"
        cells.append(cell)
    picture = _data_url(explain.picture_png(good[0])) if good else None
    return {"title": facts.title, "subtitle": f"{facts.summary} {facts.trust}", "picture": picture, "maps": cells}


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
