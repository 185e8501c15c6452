"""A run as one file to hand on: choose what is in it, wait, download."""

from __future__ import annotations

import streamlit as st

from core.errors import AppError
from core.evaluate import evaluate
from core.share import report
from core.types import Run
from pages.shared import frame
from pages.shared.form import pressed


def report_popover(run: Run) -> None:
    """Beside the page's other acts."""
    key = f"report-{run.id}"
    with st.popover("Report", icon=":material/description:", key=f"{key}-popover"), frame.told():
        making: report.Making | None = st.session_state.get(key)
        if making is not None and not making.future.done():
            _watch(making, key)
            return
        st.markdown(
            "**The run as one page**  \nData, settings, curves, every metric with its interval, the confusion matrix and the worst mistakes "
            "with maps, in one HTML file that needs nothing else. It prints well: “Save as PDF” in the browser's print window makes a PDF "
            f"of it. It holds up to {report.MISTAKES} of the images."
        )
        if making is not None:
            _ended(run, making, key)
        test = "test" in evaluate.splits(run.id) and st.toggle(
            "With the test images", key=f"{key}-test", help="Test images are for the end. This counts as opening the test set."
        )
        if pressed("Make it again" if making else "Make the report", icon=":material/description:", key=f"{key}-make"):
            st.session_state[key] = report.start(run.id, bool(test), frame.user())
            st.rerun()


@st.fragment(run_every=0.5)
def _watch(making: report.Making, key: str) -> None:
    if making.future.done():
        st.rerun()
    st.progress(making.share, "Stopping" if making.stopping else making.what)
    if st.button("Stop", icon=":material/stop_circle:", key=f"{key}-stop", disabled=making.stopping):
        making.stopping = True


def _ended(run: Run, making: report.Making, key: str) -> None:
    try:
        page = making.future.result().encode()
    except report.Stopped:
        st.caption(":material/stop_circle: It was stopped; nothing was made.")
        return
    except AppError as e:
        frame.show(e)
        return
    st.download_button(
        f"Download ({len(page) / 1e6:.1f} MB, {'with' if making.test else 'without'} test images)",
        page,
        file_name=f"{_file_name(run.name)}-report.html",
        mime="text/html",
        type="primary",
        icon=":material/download:",
        key=f"{key}-download",
        on_click="ignore",
    )


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_ " else "-" for c in name).strip() or "run"
