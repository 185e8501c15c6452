"""The button “Terms” in the header of every page; its panel (assets/glossary.js) is loaded when it is first opened."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

ASSETS = Path(__file__).resolve().parents[2] / "assets"
_TERMS = st.components.v2.component(
    "loupe_terms",
    css=(ASSETS / "terms.css").read_text(encoding="utf-8"),
    js=(ASSETS / "terms.js").read_text(encoding="utf-8"),
)


def button() -> None:
    """Opens over the page without a rerun of it; ?term=convolution in the URL opens it with the page."""
    _TERMS(key="terms", data={}, width="content")
