"""Every component's script and style: assets/<name>/<name>.js and .css, registered with Streamlit once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

ASSETS = Path(__file__).resolve().parents[2] / "assets"
# Streamlit runs what it is given as a blob, where nothing can be imported by a relative path: so it is given this line alone.
SCRIPT = 'const {{ default: draw }} = await import(new URL("/assets/{name}/{name}.js", location.origin));\nexport default draw;\n'


def component(name: str, isolate_styles: bool = True) -> Callable[..., Any]:
    """The component of that name, to be called with its key and data."""
    css = (ASSETS / name / f"{name}.css").read_text(encoding="utf-8")
    if isolate_styles:
        css = (ASSETS / "common" / "prologue.css").read_text(encoding="utf-8") + css
    return st.components.v2.component(f"loupe_{name}", css=css, js=SCRIPT.format(name=name), isolate_styles=isolate_styles)
