"""Choose a network, start it, watch it learn."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import catalog, networks, train
from core.types import Dataset, Snapshot
from pages.shared import form, frame, learning, network
from pages.shared.runs import table
from pages.shared.watch import panel


def settings_form(current: Dataset) -> None:
    """Three groups of fields on the left, what will happen on the right."""
    filled = form.filled()
    key = f"{current.id}-{filled['number']}"
    with frame.told():
        snapshot, warnings = train.plan(current.id)
        left, right = st.columns([5, 3], gap="medium")
        with left:
            values = network.choose(current, filled["values"], key)
            values |= learning.fields(current, values, filled["values"], key)
        with right:
            what_will_happen(current, snapshot, warnings, values, filled["preset"])


def what_will_happen(current: Dataset, snapshot: Snapshot, warnings: list[str], values: dict[str, Any], preset: str) -> None:
    n = {split: sum(1 for r in snapshot.rows if r.split == split) for split in ("train", "validation", "test")}
    arch = networks.architecture(values["architecture"])
    with st.container(border=True, key="what-will-happen"):
        text = f"**{arch.title}** learns {len(snapshot.classes)} classes from **{n['train']:,} training images**."
        if n["validation"]:
            text += f" After every epoch {n['validation']:,} validation images decide when to stop."
        if n["test"]:
            text += f" {n['test']:,} test images are kept aside and looked at last."
        config = None
        with frame.told():  # a wrong setting is named at once, beside the button
            config = catalog.run_config(values)
            if estimate := train.estimate(current.id, config):
                text += f" About **{estimate:.0f} s**, judged by the last such run here."
        st.markdown(text)
        for warning in warnings:
            st.markdown(f":orange[:material/warning:] {frame.plain(warning)}")
        start = st.button("Start training", type="primary", icon=":material/play_arrow:", key="start", disabled=config is None)
        with frame.told():
            if start:
                st.session_state["watched"] = train.start(current.id, values, frame.user(), preset).id
                st.rerun()


with frame.page("Train", "A network looks at the labelled images again and again until it can tell the classes apart.") as current:
    current = frame.need_dataset(current)
    if gone := st.session_state.get("deleted_run"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("The run was moved to the bin.", width="content")
            if st.button("Undo", icon=":material/undo:"):
                train.restore(gone)
                del st.session_state["deleted_run"]
                st.rerun()
    found = train.list_runs(current.id)
    going = sorted((s for s in found if s.active), key=lambda s: s.status != "running")
    shown = next((s for s in found if s.run.id == st.session_state.get("watched")), going[0] if going else None)
    if shown is not None:
        st.session_state["watched"] = shown.run.id  # it stays in view when it ends
        panel(shown)
        with st.expander("Train another network", icon=":material/add:", expanded=False):
            settings_form(current)
    else:
        settings_form(current)
    if found:
        table(found)
