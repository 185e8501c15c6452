"""Param -> widget: the only place that knows both; and what a preset, a clone or a button puts into the training form."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from core.catalog.params import PARAMS
from core.types import Param


def field(
    param: Param,
    default: Any = None,
    *,
    key: str,
    titles: Callable[[str], str] = str,
    disabled: bool = False,
    names: Sequence[str] = (),
) -> Any:
    """Draws one parameter with its help and returns its value; it keeps it while another page is open. names: of a list of names."""
    value = param.default if default is None else default
    title = f"{param.title} ({param.unit})" if param.unit else param.title
    common: dict[str, Any] = {"key": key, "help": param.help, "disabled": disabled, "persist_state": "session"}
    if param.kind == "bool":
        return st.toggle(title, value=value, **common)
    if param.kind == "choice":
        return st.selectbox(title, param.options, index=param.options.index(value), format_func=titles, filter_mode=None, **common)
    if param.kind == "names":
        chosen = [name for name in value if name in names]
        return tuple(st.multiselect(title, names, default=chosen, placeholder="All", **common))
    if param.kind == "int":
        # Without bounds: a field with them keeps what is out of them to itself, and a run would start with the number before.
        return st.number_input(title, value=int(value), step=1, **common)
    # A learning rate runs over seven orders of magnitude: a number field with steps would be useless, text is checked at once.
    return st.text_input(title, written(value), **common)


def written(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.8g}"


def changed(param: Param, default: Any, key: str) -> bool:
    """Whether the field of this key holds, or is about to be drawn with, another value than the default."""
    standard = param.default if default is None else default
    value = st.session_state.get(key, standard)
    if param.kind == "float":
        return written(value).strip() != written(param.default)
    return bool(value != param.default) if param.kind != "names" else bool(value)


LASTS = 30.0  # seconds; who has left the page before its button was reached does not mean it any more
FORM = "train_form"  # in the session: {"values": settings, "preset": name or "", "number": grows with each filling}


def pressed(title: str, *, key: str, **looks: Any) -> bool:
    """A button whose click lasts until the script reaches it: a rerun may cut the script short before."""
    when = f"{key}-pressed"
    st.button(title, key=key, on_click=lambda: st.session_state.update({when: time.monotonic()}), **looks)
    return time.monotonic() - st.session_state.pop(when, -LASTS) < LASTS


def filled() -> dict[str, Any]:
    """What a preset or a clone has put into the training form; nothing at first."""
    return dict(st.session_state.get(FORM, {"values": {}, "preset": "", "number": 0}))


def fill(values: Mapping[str, Any], preset: str = "") -> None:
    """Puts settings into the training form from the next run of the script on; what is not among them takes its default."""
    st.session_state[FORM] = {"values": dict(values), "preset": preset, "number": filled()["number"] + 1}


def change(values: Mapping[str, Any], to: Mapping[str, Any]) -> None:
    """Puts what stands in the form into it again with some of it changed; another network brings its own defaults."""
    kept = values
    if to.get("architecture", values["architecture"]) != values["architecture"]:
        own = {"batch_size", "learning_rate", "image_size"}
        kept = {name: value for name, value in values.items() if PARAMS[name].group != "network" and name not in own}
    fill({**kept, **to}, filled()["preset"])
