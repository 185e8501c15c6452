"""The dataset as a zip: choose a form, wait, download."""

import streamlit as st

from core.api import signing
from core.data.formats.known import FORMATS
from core.errors import NotFound
from core.runs import jobs
from core.share import export
from core.types import Dataset
from pages.shared import frame, times


def export_popover(current: Dataset) -> None:
    """Beside the page's other acts; an export that runs, or was killed, is found again after a reload."""
    chosen = f"export-{current.id}"
    with st.popover("Export", icon=":material/archive:"), frame.told():
        if not frame.may("export", current.id):
            return
        if chosen not in st.session_state and (found := export.unseen(current.id)):
            st.session_state[chosen] = found.id
        state = _state(chosen)
        if state is None:
            _form(current, chosen)
        elif state.status == "running":
            _watch(state.id)
        elif done := export.report(state):
            _done(state, done, chosen)
        else:
            _failed(state)
            _form(current, chosen)


def _state(chosen: str) -> jobs.State | None:
    try:
        return export.state(st.session_state[chosen]) if chosen in st.session_state else None
    except NotFound:  # it was removed to make room
        del st.session_state[chosen]
        return None


def _form(current: Dataset, chosen: str) -> None:
    format = st.radio(
        "Export as a zip",
        list(FORMATS),
        format_func=lambda name: FORMATS[name].title,
        captions=[one.sentence for one in FORMATS.values()],
        key="export-kind",
    )
    run_id = None
    if "predictions" in FORMATS[format].can and (found := {r.id: r for r in export.runs_with_predictions(current.id)}):
        run_id = st.selectbox(
            "Add the predictions of",
            [None, *found],
            format_func=lambda r: "No run" if r is None else f"{found[r].name}, {times.stamp(found[r].created_at)}",
            key="export-run",
            help="They are those of its validation and test images.",
        )
    originals = st.toggle(
        "Originals untouched (with their EXIF)",
        key="export-originals",
        help="Otherwise pictures are turned upright, and place, time, camera and comments are taken out.",
    )
    if st.button("Make the zip", type="primary", icon=":material/archive:", key="export-start"):
        with frame.told():
            st.session_state[chosen] = export.start(current.id, format, frame.user(), originals, run_id)
            st.rerun()


@st.fragment(run_every=0.5)
def _watch(export_id: str) -> None:
    state = export.state(export_id)
    if state.status != "running":
        st.rerun()
    st.progress(state.share, frame.plain(state.words))
    help = "Nothing of it is kept."
    st.button("Stop the export", icon=":material/stop_circle:", key="export-stop", help=help, on_click=export.stop, args=(export_id,))


def _done(state: jobs.State, done: export.ExportReport, chosen: str) -> None:
    st.markdown(f"**{frame.plain(state.job['file'])}**  \n{done.images:,} images, {done.bytes / 1e6:,.1f} MB")
    st.link_button("Download", signing.signed(export.address(state)), type="primary", icon=":material/download:")
    if left_out := done.skipped:
        st.caption(f"{len(left_out):,} left out, as {frame.plain(left_out[0].name)}: {frame.plain(left_out[0].reason)}")
    if st.button("Another export", type="tertiary", key="export-again"):
        del st.session_state[chosen]
        st.rerun()


def _failed(state: jobs.State) -> None:
    if state.status == "stopped":
        st.caption("The export was stopped; nothing was written.")
    else:
        st.error(f"**{frame.plain(state.message)}** {frame.plain(state.hint)}", icon=":material/error:")
