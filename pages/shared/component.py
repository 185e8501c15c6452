"""Every component's script and style: assets/<name>/<name>.js and .css, registered with Streamlit once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def component(name: str, isolate_styles: bool = True) -> Callable[..., Any]:
    """The component of that name, to be called with its key and data."""
    folder = ASSETS / name
    return st.components.v2.component(
        f"loupe_{name}",
        css=(folder / f"{name}.css").read_text(encoding="utf-8"),
        js=(folder / f"{name}.js").read_text(encoding="utf-8"),
        isolate_styles=isolate_styles,
    )
