"""Find a learning rate: one button, a curve, and the field is filled."""

from __future__ import annotations

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.catalog import networks
from core.errors import NotFound
from core.train import finder
from core.types import Dataset
from pages.shared import figures, form, frame


def find_rate(current: Dataset, values: dict[str, Any], under: DeltaGenerator, below: DeltaGenerator, key: str) -> None:
    """The button under the field, and below the row what was found with it; values: the whole form as it stands."""
    place = f"find-{current.id}"  # in the session: the id of the trial that is shown, and whether it has filled the field
    shown, done = st.session_state.get(place, ("", False))
    with under:
        pressed = form.pressed(
            "Find a learning rate",
            icon=":material/troubleshoot:",
            type="tertiary",
            key=f"{key}-find-rate",
            help="A trial of some 100 steps while the learning rate rises from 1e-7 to 10. It sees training images only, and its weights "
            "are thrown away.",
        )
    with below, frame.told():
        if pressed:
            st.session_state[place] = (finder.start(current.id, values, frame.user()), False)
            st.rerun()
        if not shown:
            return
        try:
            found = finder.state(shown)
        except NotFound:
            del st.session_state[place]
            return
        if found.curve is not None and found.curve.suggested is not None and not done:
            st.session_state[place] = (shown, True)
            form.change(values, {"learning_rate": float(f"{found.curve.suggested:.2g}")})
            st.rerun()
        with st.container(border=True, key="found-rate"):
            _progress(shown) if found.active else _outcome(found, place)


@st.fragment(run_every=0.5)
def _progress(find_id: str) -> None:
    with frame.guarded("finder"):
        found = finder.state(find_id)
        if not found.active:
            st.rerun()
        with st.container(horizontal=True, vertical_alignment="center"):
            what = found.message or (
                f"Step {found.done} of {finder.steps(found.config)}"
                if found.done
                else "Waiting for its turn"
                if found.status == "queued"
                else "Starting"
            )
            st.progress(min(1.0, found.done / finder.steps(found.config)), f"Finding a learning rate: {what}", width="stretch")
            st.button("Stop", icon=":material/stop_circle:", key="find-stop", on_click=finder.stop, args=(find_id,))


def _outcome(found: finder.Find, place: str) -> None:
    text, close = st.columns([5, 1])
    text.markdown(_said(found))
    if close.button("Close", icon=":material/close:", type="tertiary", key="find-close"):
        del st.session_state[place]
        st.rerun()
    if found.curve is not None and found.curve.rates:
        st.plotly_chart(figures.rate_curve(found.curve), key=f"find-curve-{found.id}", config={"displayModeBar": False})


def _said(found: finder.Find) -> str:
    config = found.config
    how = f"{networks.architecture(config.architecture).title}, {config.batch_size} images a step"
    if found.status == "stopped":
        return "Stopped. The field was left as it was."
    if found.curve is None:
        return f":orange[:material/warning:] No learning rate was found. {frame.plain(found.message)}"
    if found.curve.suggested is None:
        return (
            ":orange[:material/warning:] The loss did not fall at any learning rate, so the field was left as it was. "
            "A larger batch makes the curve smoother; labels at random would look like this, too."
        )
    return (
        f"The loss fell fastest around **{found.curve.suggested:.2g}**; that stands in the field now. "
        f"Tried with {frame.plain(how)}, {len(found.curve.rates)} steps: the dots; the line is smoothed."
    )
