"""Many pictures at once: a zip, files, a folder on the server, or one that is watched; asked in the background."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

import streamlit as st

from core import roles
from core.data import places, queue, sources, uploads
from core.data.sources import Source
from core.errors import AppError
from core.review import batch
from core.settings import settings
from core.types import Dataset, Run
from pages.parts.predict.answers import STATES
from pages.shared import frame, times
from pages.shared.upload import upload

MOST_TOLD = 100  # refused files that are listed
DROP = "many-drop"  # in the session: how often the drop zone has begun anew; not "many", which is the size of Review's grid
GOING = "many-going"  # in the session: the predictions that were going on at the last look
WORDS: dict[str, str] = dict(queue.SAID.items()) | {"waits": "were there", "decided": "were decided before"}  # of what came again


def show(current: Dataset, run: Run, others: Sequence[Run]) -> None:
    chosen = [run.id]
    if others:
        names = {one.id: one.name for one in others}
        more = st.multiselect(
            "Ask other networks, too", list(names), format_func=names.__getitem__, key="also-ask", placeholder="None",
            help="Where their answers differ, the picture is marked.",
        )  # fmt: skip
        chosen += more
    own, *server = st.columns(2 if roles.current().may_somewhere("import") else 1)  # who brings images in reads folders
    with own, st.container(border=True, height="stretch"):
        st.markdown("**From your computer**  \nA zip, or as many pictures as you like. They stay on this host and join no dataset.")
        sent = upload(
            key=f"many-{st.session_state.get(DROP, 0)}", url="/api/upload", token=frame.token(), accept="", multiple=True,
            label="Drop files here", hint="A zip or pictures", max_mb=settings().max_upload_mb,
        )  # fmt: skip
        if sent:
            with frame.told():
                source = sources.uploaded(uploads.files(sent["upload"]))
                _button(f"Ask about {source.shown()}", "own", current, chosen, source, "zip" if source.kind == "zip" else "upload")
    for column in server:
        with column, st.container(border=True, height="stretch"):
            _server(current, chosen)
    _batches(current)


def _server(current: Dataset, chosen: list[str]) -> None:
    st.markdown("**From a folder on this server**  \nNothing is moved. A watched folder is looked into until you stop it.")
    st.code("\n".join(str(r) for r in settings().roots), language=None, wrap_lines=True)
    folders = places.folders_under_roots()
    if folders:
        choice = st.selectbox("Folder or zip", folders, format_func=str, key="many-folder", index=None, placeholder="Choose")
        if choice:
            with frame.told():
                path = places.allowed_folder(str(choice))
                watch = path.is_dir() and st.checkbox("Watch it: answer what is put there from now on, too", key="many-watch")
                source = batch.watched(path) if watch else sources.at(path)
                words = f"Watch {PurePath(choice).name}" if watch else f"Ask about {PurePath(choice).name}"
                _button(words, "server", current, chosen, source, "watched" if watch else "folder", watch)
    else:
        st.caption("These folders are empty. Put pictures into one of them, then reload the page.",
                   help="Whoever runs Loupe can name other folders in LOUPE_ROOTS.")  # fmt: skip


def _button(words: str, key: str, current: Dataset, runs: list[str], source: Source, how: str, watch: bool = False) -> None:
    st.button(
        words, type="primary", icon=":material/play_arrow:", key=f"many-start-{key}", on_click=begin,
        args=(current, runs, source, how, watch),
    )  # fmt: skip


def begin(current: Dataset, runs: list[str], source: Source, how: str, watch: bool = False) -> None:
    try:
        batch.start(current.id, runs, source, frame.user(), how, watch)
    except AppError as e:
        st.session_state["predict-error"] = e
        return
    st.session_state[DROP] = st.session_state.get(DROP, 0) + 1  # the drop zone begins anew: a second click starts nothing
    st.session_state.pop("many-folder", None)


def _again(job_id: str) -> None:
    try:
        batch.again(job_id, frame.user())
    except AppError as e:
        st.session_state["predict-error"] = e


def _stop(job_id: str) -> None:
    try:
        batch.stop(job_id)
    except AppError as e:
        st.session_state["predict-error"] = e


@st.fragment(run_every=1.5)
def _batches(current: Dataset) -> None:
    """The predictions of the last two days, with what goes on at the moment."""
    with frame.guarded("predictions"):
        found = batch.recent(current.id)
        before, going = st.session_state.get(GOING), {one.state.id for one in found if one.state.status == "running"}
        st.session_state[GOING] = going
        if before and before - going:  # the numbers of the whole page follow
            st.rerun()
        if not found:
            return
        st.header("The last two days", anchor=False)
        for one in found[:20]:
            _row(one)


def _row(one: batch.Batch) -> None:
    state, title = one.state, frame.plain(Source.from_dict(one.job["source"]).shown())
    with st.container(border=True, key=f"batch-{state.id}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            icon = {"running": "hourglass_top", "done": "check_circle", "stopped": "stop_circle"}.get(state.status, "error")
            st.markdown(f":material/{icon}: **{title}**, by {frame.plain(one.job['by'])}, {times.when(one.job['at'])}", width="stretch")
            if state.status == "running":
                st.button("Stop", icon=":material/stop:", key=f"stop-{state.id}", on_click=_stop, args=(state.id,))
            elif state.status != "done":
                st.button("Go on", icon=":material/play_arrow:", key=f"again-{state.id}", on_click=_again, args=(state.id,))
        if state.status == "running":
            watching = state.what == "Watching the folder"
            st.progress(1.0 if watching else state.share, f"Watching the folder: {state.done:,} answered" if watching else state.words)
        elif state.status == "done":
            _outcome(one)
        else:
            st.caption(frame.plain(f"{state.message} {state.hint}"))
        if one.refused:
            with st.expander(f"{one.refused:,} file{'s' if one.refused != 1 else ''} without an answer", icon=":material/broken_image:"):
                for failure in batch.refused(state.id)[:MOST_TOLD]:
                    st.markdown(f"**{frame.plain(failure.file)}**: {frame.plain(failure.message)} {frame.plain(failure.hint)}")
                if one.refused > MOST_TOLD:
                    st.caption(f"and {one.refused - MOST_TOLD:,} more")


def _outcome(one: batch.Batch) -> None:
    """What became of the pictures; each part leads to all of that network that are there by now."""
    end = one.state.end
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"became-{one.state.id}"):
        st.caption(
            f"{end['done']:,} picture{'s' if end['done'] != 1 else ''}{':' if end['states'] else ', none of them new'}", width="content"
        )
        for name, n in end["states"].items():
            view = next((view for view, (_, states) in STATES.items() if name in states), "any")
            if st.button(
                _said(n, WORDS.get(name, name)),
                type="tertiary",
                key=f"became-{one.state.id}-{name}",
                help=f"All that this network answered and that {_said(2, WORDS.get(name, name))[2:]} by now",
            ):
                st.query_params.update({"view": "all", "state": view, "answer": "", "by": one.job["runs"][0], "q": ""})
                st.rerun()
        if before := end.get("before"):
            st.caption(_said(before, "were answered before"), width="content")


def _said(n: int, words: str) -> str:
    return f"{n:,} {words.replace('were ', 'was ', 1) if n == 1 else words.replace('waits ', 'wait ', 1)}"
