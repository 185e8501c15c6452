"""Param -> widget: the only place that knows both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from core.types import Param


def field(param: Param, default: Any = None, *, key: str, titles: Callable[[str], str] = str, disabled: bool = False) -> Any:
    """Draws one parameter with its help and returns its value."""
    value = param.default if default is None else default
    title = f"{param.title} ({param.unit})" if param.unit else param.title
    common = {"key": key, "help": param.help, "disabled": disabled}
    if param.kind == "bool":
        return st.toggle(title, value=value, **common)
    if param.kind == "choice":
        return st.selectbox(title, param.options, index=param.options.index(value), format_func=titles, filter_mode=None, **common)
    if param.kind == "int":
        return st.number_input(title, int(param.low or 0), int(param.high or 10**9), int(value), step=1, **common)
    # A learning rate runs over seven orders of magnitude: a number field with steps would be useless, text is checked on start.
    return st.text_input(title, f"{value:g}", **common)


FORM = "train_form"  # in the session: {"values": settings, "preset": name or "", "number": grows with each filling}


def filled() -> dict[str, Any]:
    """What a preset or a clone has put into the training form; nothing at first."""
    return dict(st.session_state.get(FORM, {"values": {}, "preset": "", "number": 0}))


def fill(values: Mapping[str, Any], preset: str = "") -> None:
    """Puts settings into the training form from the next run of the script on; what is not among them takes its default."""
    st.session_state[FORM] = {"values": dict(values), "preset": preset, "number": filled()["number"] + 1}
