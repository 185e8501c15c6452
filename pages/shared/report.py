"""A run as one file to hand on: choose what is in it, wait, download."""

import streamlit as st

from core import evaluate, report
from core.types import Run
from pages.shared import frame
from pages.shared.form import pressed


def report_button(run: Run) -> None:
    """Beside the page's other acts."""
    if st.button("Report", icon=":material/description:", key=f"report-{run.id}"):
        st.session_state.pop(f"report-made-{run.id}", None)
        _dialog(run)


@st.dialog("Report", on_dismiss="rerun")  # the rerun also ends the work
def _dialog(run: Run) -> None:
    with frame.told():
        made = f"report-made-{run.id}"
        st.markdown(
            "One HTML file with the data, the settings, the curves, every metric with its interval, the confusion matrix and the worst "
            "mistakes with maps. It needs nothing else, and prints well: “Save as PDF” in the browser's print window makes a PDF of it. "
            f"It holds up to {report.MISTAKES} of the images."
        )
        test = "test" in evaluate.splits(run.id) and st.toggle(
            "With the test images",
            key=f"report-test-{run.id}",
            help="Test images are for the end. This counts as opening the test set.",
        )
        if pressed("Make the report", type="primary", icon=":material/description:", key=f"report-make-{run.id}"):
            bar = st.progress(0.0, "Counting")
            st.button("Stop", icon=":material/stop_circle:", key=f"report-stop-{run.id}")  # any click ends this run of the script
            splits = ["validation", "test"] if test else ["validation"]
            st.session_state[made] = report.make(
                run.id, splits, frame.user(), lambda done, total, what: bar.progress(done / total, what)
            ).encode()
            st.rerun(scope="fragment")
        if made in st.session_state:
            data = st.session_state[made]
            st.download_button(
                f"Download ({len(data) / 1e6:.1f} MB)",
                data,
                file_name=f"{_file_name(run.name)}-report.html",
                mime="text/html",
                icon=":material/download:",
                key=f"report-download-{run.id}",
                on_click="ignore",
            )


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_ " else "-" for c in name).strip() or "run"
