"""One line for each device: what it trains, its memory, and who waits."""

from __future__ import annotations

import streamlit as st

from core.train import devices, watch
from pages.shared import frame


@st.fragment(run_every=2)
def line() -> None:
    """Drawn while something trains or waits."""
    with frame.told():
        found = devices.devices()
    if found is None:
        st.caption(":material/memory: The devices are busy answering.")
        return
    listed, waiting = found
    for one in listed:
        doing = f"trains {frame.plain(one.run)}" if one.run else "is free"
        full = f"{watch.memory(one.used / 1e6)} of {watch.memory(one.memory / 1e6)} memory in use"
        st.caption(f":material/memory: {frame.plain(one.name)} {doing} · {full}")
    if waiting:
        st.caption(f":material/hourglass_top: In line: {', '.join(map(frame.plain, waiting))}")
