"""Removing images from the dataset, and bringing them back: marked in a grid, undone where it was done or in History."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import streamlit as st

from core.data import labels, removed
from core.types import Dataset
from pages.shared import frame
from pages.shared.grid import GridAct
from pages.shared.history import LAST, images, say

OUT = GridAct("bin", "Remove images", "Remove images from the dataset; this can be undone")
BACK = GridAct("restore", "Bring back", "Bring back into the dataset, with the labels they had")
STAY = (
    "Removed images are in no count, list, map, export or later run. Their files stay on this server, and a run keeps what it was trained on. "
    "*Bring back* returns them with the labels they had."
)


def act(current: Dataset) -> GridAct | None:
    """Of a grid of images, for who may do it."""
    return OUT if frame.may("delete", current.id, say=False) else None


def remove(current: Dataset, ids: Sequence[str]) -> None:
    """What somebody has marked; does nothing where that is nothing."""
    if ids:
        with frame.told():
            operation = secrets.token_hex(16)
            n = removed.remove(current.id, ids, frame.user(), operation)
            st.session_state[LAST] = (current.id, operation, f"{images(n)} removed from the dataset")
            st.rerun()


def bring_back(current: Dataset, ids: Sequence[str]) -> None:
    if ids:
        with frame.told():
            n = removed.bring_back(current.id, ids, frame.user(), secrets.token_hex(16))
            say(f"{images(n)} {'is' if n == 1 else 'are'} back in the dataset.", ":material/undo:")
            st.rerun()


def taken_back(current: Dataset) -> None:
    """The last act on many images, with its undo."""
    last = st.session_state.get(LAST)
    if last is None or last[0] != current.id:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="last-act"):
        st.caption(f":material/check: {frame.plain(last[2])}.", width="content")
        if st.button("Undo", icon=":material/undo:", key="undo-all", type="tertiary"):
            with frame.told():
                done = labels.undo(current.id, labels.Which(operation=last[1]), frame.user(), f"{last[1][:24]}-undo")
                stay = f"; {done.stay:,} were changed since and stay" if done.stay else ""
                st.toast(
                    f"{images(done.images)} {'is as it was' if done.images == 1 else 'are as they were'}{stay}.", icon=":material/undo:"
                )
                del st.session_state[LAST]
                st.rerun()
