"""Attribution maps over the picture the network saw, a row for each method and a column for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

ASSETS = Path(__file__).resolve().parents[2] / "assets"
_MAPS = st.components.v2.component(
    "loupe_maps",
    css=(ASSETS / "maps.css").read_text(encoding="utf-8"),
    js=(ASSETS / "maps.js").read_text(encoding="utf-8"),
)


def maps(panels: Sequence[Mapping[str, Any]], *, key: str) -> None:
    """panels: {title, subtitle, picture: data URL, maps: [{title, caption, url: data URL or None while it is computed,
    error?}], error?}; a map is an RGBA picture, red for and blue against, its alpha the strength.
    """
    _MAPS(key=key, data={"key": key, "panels": [dict(panel) for panel in panels]})
