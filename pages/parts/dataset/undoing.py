"""Undoing an import: what it brought in goes, but for what somebody has changed or trained on since."""

from __future__ import annotations

import streamlit as st

from core.data import brought
from core.data.brought import Brought, Undoing
from core.types import Dataset
from pages.shared import frame, times
from pages.shared.history import images, say

PER_PAGE = 10
MOST_RUNS = 5  # named
LOOKED = "undo-import-looked"  # in the session: what the open dialog was told


def imports_view(current: Dataset) -> None:
    """All imports that added images, to be undone; folded, as one looks for them rarely."""
    folded = st.expander("Undo an import", icon=":material/download_done:", key="imports-open", on_change="rerun")
    if not folded.open:
        return
    with folded, st.container(key="imports", gap=None):
        key = f"imports-page-{current.id}"
        number = int(st.session_state.get(key) or 1)
        found, total = brought.page(current.id, number, PER_PAGE)
        if not found:
            st.caption("No import has added images here since Loupe keeps what each of them brought.")
        for one in found:
            _line(current, one)
        if total > PER_PAGE:
            st.pagination(-(-total // PER_PAGE), key=key)


def _line(current: Dataset, one: Brought) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key=f"import-{one.id}"):
        gone = "" if one.here else "  ·  :gray[none of them is in the dataset now]"
        st.markdown(
            f"**{frame.plain(one.source)}**  ·  {images(one.images)}{gone}  \n:small[:gray[{frame.plain(one.by)}, {times.when(one.began)}]]",
            width="stretch",
        )
        if one.here:
            undo_button(current, one.id, one.source, f"undo-import-{one.id}")


def undo_button(current: Dataset, import_id: int, source: str, key: str) -> None:
    if frame.may("delete", current.id, say=False) and st.button("Undo this import …", icon=":material/undo:", type="tertiary", key=key):
        st.session_state.pop(LOOKED, None)
        _ask(current, import_id, source)


@st.dialog("Undo this import")
def _ask(current: Dataset, import_id: int, source: str) -> None:
    with frame.guarded("undo of an import"):
        found = looked(current.id, import_id)
        if found.goes:
            go = "goes" if found.goes == 1 else "go"
            st.markdown(f"**{images(found.goes)}** that **{frame.plain(source)}** brought in {go} out of **{frame.plain(current.name)}**.")
        else:
            st.markdown(f"Nothing that **{frame.plain(source)}** brought in can go.")
        if reasons := stays(found):
            st.markdown("\n".join(f"- {one}" for one in reasons))
        st.caption(
            "This can be taken back in History. The files stay on this server. Classes that the import added stay, and so do labels that it "
            "gave to images which were here: History takes those back."
        )
        with st.container(horizontal=True):
            if found.goes and st.button(f"Remove {images(found.goes)}", type="primary", icon=":material/undo:", key="undo-import-yes"):
                bar = st.progress(0.0)

                def tell(done: int, total: int, what: str) -> None:
                    bar.progress(done / max(1, total), what)

                done = brought.undo(current.id, import_id, frame.user(), tell)
                say(f"The import is undone: {images(done.goes)} removed from the dataset.", ":material/undo:")
                st.rerun()
            if st.button("Cancel", key="undo-import-no"):
                st.rerun()


def looked(dataset_id: int, import_id: int) -> Undoing:
    """What undo would do, kept while the dialog is open: the lists of all runs are read for it."""
    if LOOKED not in st.session_state:
        with st.spinner("Looking at what it brought in …"):
            st.session_state[LOOKED] = brought.look(dataset_id, import_id)
    found: Undoing = st.session_state[LOOKED]
    return found


def stays(found: Undoing) -> list[str]:
    """Why images of the import stay, in Markdown."""
    reasons = []
    if found.changed:
        stay = "stays" if found.changed == 1 else "stay"
        reasons.append(f"{images(found.changed)} {stay}: labelled or flagged by somebody since, or their class was merged or retired.")
    if found.used:
        named = [f"{frame.plain(name)} ({n:,})" for name, n in list(found.runs.items())[:MOST_RUNS]]
        named += [f"{len(found.runs) - MOST_RUNS:,} more"] if len(found.runs) > MOST_RUNS else []
        stay = "stays" if found.used == 1 else "stay"
        reasons.append(
            f"{images(found.used)} {stay}: runs have used them: {', '.join(named)}. Delete those runs first, or mark the images and remove them."
        )
    if found.gone:
        reasons.append(f"{images(found.gone)} {'was' if found.gone == 1 else 'were'} removed before.")
    return reasons
