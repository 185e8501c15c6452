"""A run as one file to hand on: choose what is in it, wait, download."""

from __future__ import annotations

import streamlit as st

from core.evaluate import evaluate
from core.runs import jobs
from core.share import report
from core.types import Run
from pages.shared import frame, times
from pages.shared.form import pressed


def report_popover(run: Run) -> None:
    """Beside the page's other acts; a report that was made, or is on its way, is found again after a reload."""
    key = f"report-{run.id}"
    with st.popover("Report", icon=":material/description:", key=f"{key}-popover"), frame.told():
        if not frame.may("export", run.dataset_id):
            return
        state = report.state(run.id)
        if state is not None and state.status == "running":
            _watch(run.id)
            return
        st.markdown(
            "**The run as one page**  \nData, settings, curves, every metric with its interval, the confusion matrix and the worst mistakes "
            "with maps, in one HTML file that needs nothing else. It prints well: “Save as PDF” in the browser's print window makes a PDF "
            f"of it. It holds up to {report.MISTAKES} of the images."
        )
        if state is not None:
            _ended(run, state)
        test = "test" in evaluate.splits(run.id) and st.toggle(
            "With the test images", key=f"{key}-test", help="Test images are for the end. This counts as opening the test set."
        )
        if pressed("Make it again" if state else "Make the report", icon=":material/description:", key=f"{key}-make"):
            report.start(run.id, bool(test), frame.user())
            st.rerun()


@st.fragment(run_every=0.5)
def _watch(run_id: str) -> None:
    with frame.guarded("report"):
        state = report.state(run_id)
        if state is None or state.status != "running":
            st.rerun()
        st.progress(state.share, state.what or "Starting")
        st.button(
            "Stop",
            icon=":material/stop_circle:",
            key=f"report-{run_id}-stop",
            help="Nothing of it is kept.",
            on_click=report.stop,
            args=(run_id,),
        )


def _ended(run: Run, state: jobs.State) -> None:
    if state.status == "stopped":
        st.caption(":material/stop_circle: It was stopped; nothing was made.")
    elif state.status != "done":
        st.error(f"**{frame.plain(state.message)}** {frame.plain(state.hint)}", icon=":material/error:")
    else:
        test = "with" if state.job["test"] else "without"
        st.download_button(
            f"Download ({state.end['bytes'] / 1e6:.1f} MB, {test} test images)",
            frame.deferred(lambda: report.page(run.id, state.id)),
            file_name=f"{_file_name(run.name)}-report.html",
            mime="text/html",
            type="primary",
            icon=":material/download:",
            key=f"report-{run.id}-download",
            on_click="ignore",
        )
        st.caption(f"Made {times.when(state.job['at'])}.")


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_ " else "-" for c in name).strip() or "run"
