"""The button “Terms” in the header of every page; its panel (assets/glossary/glossary.js) is loaded when it is first opened."""

from __future__ import annotations

from pages.shared import component

_TERMS = component.component("terms")


def button() -> None:
    """Opens over the page without a rerun of it; ?term=convolution in the URL opens it with the page."""
    _TERMS(key="terms", data={}, width="content")
