"""Pictures of several frames: which frame's answer counts, and all that were judged."""

from __future__ import annotations

import html
from pathlib import Path

import streamlit as st

from core.api import signing
from core.data.images import SHEET_ROW
from core.review import animation
from core.types import Prediction
from pages.shared import frame


def strip(dataset_id: int, answer: Prediction, file: Path, hide: bool = False) -> None:
    """Every judged frame, small, with its own answer unless that is to be hidden; all come as one picture."""
    columns, rows = min(len(answer.frames), SHEET_ROW), -(-len(answer.frames) // SHEET_ROW)
    url = html.escape(signing.frames_url(dataset_id, file))
    cells = []
    for i, one in enumerate(answer.frames):
        label, p = animation.top(answer, one)
        said = f"{one.number:,}" if hide else f"{one.number:,}: {label} {p:.0%}"
        mine = " counts" if one.number == answer.frame and not hide else ""
        x, y = i % SHEET_ROW / max(columns - 1, 1), i // SHEET_ROW / max(rows - 1, 1)
        cells.append(
            f'<li class="frame-cell{mine}"><span class="frame-picture" role="img" aria-label="Frame {one.number:,}" style="background-image:url({url});'
            f'background-size:{columns:.0%} {rows:.0%};background-position:{x:.4%} {y:.4%}"></span>'
            f"<span>{html.escape(said)}{'<b> counts</b>' if mine else ''}</span></li>"
        )
    with st.expander(f"The {len(answer.frames):,} judged frames", icon=":material/burst_mode:"):
        st.html(f'<ul class="frames">{"".join(cells)}</ul>')


def note(answer: Prediction) -> None:
    st.caption(f":material/burst_mode: {frame.plain(answer.note)}")
