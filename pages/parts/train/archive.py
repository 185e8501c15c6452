"""A run as one zip: out of the panel of a run, and in on the Train page."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core.api import signing
from core.data import store, uploads
from core.errors import NotFound
from core.runs import jobs
from core.settings import settings
from core.share import archive
from core.types import Dataset, Run
from pages.shared import frame
from pages.shared.upload import upload

EXPORT_HELP = "One zip with its weights, ONNX, preprocessing, metrics and a model card."
NEW = ""  # in the list of datasets: one that is made for the run


def _state(key: str) -> jobs.State | None:
    try:
        return archive.state(st.session_state[key]) if key in st.session_state else None
    except NotFound:  # it was removed to make room
        del st.session_state[key]
        return None


@st.fragment(run_every=0.5)
def _watch(job_id: str) -> None:
    with frame.guarded("archive"):
        state = archive.state(job_id)
        if state.status != "running":
            st.rerun()
        words = f"{state.what}, {state.done:,} of {state.total:,}" if state.total > 3 else state.what
        st.progress(state.share, words or "Starting")
        st.button(
            f"Stop the {state.kind.noun}",
            icon=":material/stop_circle:",
            key=f"stop-{job_id}",
            help="Nothing of it is kept.",
            on_click=archive.stop,
            args=(job_id,),
        )


def _failed(state: jobs.State) -> None:
    if state.status == "stopped":
        st.caption(f"The {state.kind.noun} was stopped; nothing was kept.")
    else:
        st.error(f"**{frame.plain(state.message)}** {frame.plain(state.hint)}", icon=":material/error:")


# Out ----------------------------------------------------------------------------------------------


def export_popover(run: Run) -> None:
    """Among the other ways on from a run; an export that runs, or whose zip is still here, is found again after a reload."""
    key = f"archive-{run.id}"
    if key not in st.session_state and (found := archive.latest_export(run.id)):
        st.session_state[key] = found.id
    with st.popover("Export", icon=":material/archive:", help=EXPORT_HELP, key=f"{key}-popover"), frame.told():
        state = _state(key)
        if state is None:
            st.markdown(
                "**The run as one zip**  \nWeights (safetensors and ONNX), labels, preprocessing as numbers and as code, settings, "
                "the list of its images with hashes, metrics, predictions, a model card, and a check that ONNX answers as PyTorch does. "
                "It holds no images. Loupe can import it again."
            )
        elif state.status == "running":
            _watch(state.id)
            return
        elif (done := archive.exported(state)) is not None:
            _exported(state, done)
        else:
            _failed(state)
        if st.button(
            "Make the zip" if state is None else "Make it again",
            type="primary" if state is None else "tertiary",
            icon=":material/archive:",
            key=f"{key}-start",
        ):
            st.session_state[key] = archive.start_export(run.id, frame.user())
            st.rerun()


def _exported(state: jobs.State, done: archive.Exported) -> None:
    st.markdown(f"**{frame.plain(state.job['file'])}**  \n{done.bytes / 1e6:,.1f} MB, kept here for a day")
    st.link_button("Download", signing.signed(archive.address(state)), type="primary", icon=":material/download:")
    if done.parity is None or not done.parity["images"]:
        st.warning(frame.plain(done.words), icon=":material/info:")
    elif done.parity["passed"]:
        st.caption(f":green[:material/check:] {frame.plain(done.words)}")
    else:
        st.error(frame.plain(done.words), icon=":material/error:")


# In -----------------------------------------------------------------------------------------------


def import_expander(current: Dataset) -> None:
    """Below everything else on the Train page."""
    key = "archive-import"
    state = _state(key)
    with (
        st.expander("Import a run", icon=":material/unarchive:", expanded=state is not None, key=f"{key}-{state is not None}"),
        frame.told(),
    ):
        if state is not None and state.status == "running":
            _watch(state.id)
            return
        if state is not None and (done := archive.imported(state)) is not None:
            del st.session_state[key]
            _arrived(current, done)
        elif state is not None:
            _failed(state)
        sent = upload(
            key=f"{key}-upload-{st.session_state.get('archive-imports', 0)}",
            url="/api/upload",
            token=frame.token(),
            accept=".zip",
            multiple=False,
            label="Drop the zip of a run here",
            hint="Made with Export, here or on another machine",
            max_mb=settings().max_upload_mb,
        )
        if sent:
            ((path, title),) = uploads.files(sent["upload"])
            _choose(current, archive.look(path, title), path, title, key)


def _choose(current: Dataset, looked: archive.Looked, path: Path, title: str, key: str) -> None:
    """What is in the zip, and which dataset it should belong to."""
    run, here = looked.run, {d.name: n for d, n in looked.here}
    names = [d.name for d in store.list_datasets()]
    default = looked.match.name if looked.match else current.name
    if run.dataset_name not in names:
        names.append(NEW)
    total = looked.images
    classes = ", ".join(run.classes[:6]) + (", …" if len(run.classes) > 6 else "")
    st.markdown(f"**{frame.plain(run.name)}**, {len(run.classes)} classes: {frame.plain(classes)}")

    def label(name: str) -> str:
        if name == NEW:
            return f"A new dataset “{run.dataset_name}” without images"
        return f"{name}  ·  {here.get(name, 0):,} of the run's {total:,} images"

    name = st.selectbox(
        "Dataset it belongs to", names, names.index(default), format_func=label, key=f"{key}-dataset-{path}", filter_mode=None
    )
    if here.get(name, 0) < total:
        st.caption(f":material/info: {archive.WITHOUT_PICTURES}")
    if st.button("Import the run", type="primary", icon=":material/unarchive:", key=f"{key}-start"):
        st.session_state[key] = archive.start_import(path, title, name or run.dataset_name, frame.user())
        st.session_state["archive-imports"] = st.session_state.get("archive-imports", 0) + 1  # an empty drop zone next time
        st.rerun()


def _arrived(current: Dataset, imported: archive.Imported) -> None:
    """Shows the run, in the dataset it came into."""
    st.session_state["watched"] = imported.run_id
    st.toast(f"{frame.plain(imported.name)} was imported into {frame.plain(imported.dataset_name)}.", icon=":material/unarchive:")
    if imported.dataset_name != current.name:
        frame.choose_dataset(imported.dataset_name)
    st.rerun()


def without_images(run: Run) -> None:
    """Says in a run's panel what cannot work because images of it are not here."""
    here, total = archive.images_here(run.id)
    if here < total:
        many = "None" if here == 0 else f"Only {here:,}"
        st.caption(
            f":material/info: {many} of its {total:,} images {'is' if here < 2 else 'are'} in this dataset. {archive.WITHOUT_PICTURES}"
        )
