"""Labels that an import brought for images which are here already: one click gives them, what differs is shown and replaced only on purpose."""

from __future__ import annotations

from collections import Counter

import streamlit as st

from core.data import imports, store
from core.data.late import Late, Later
from core.runs import jobs
from pages.shared import frame, thumbs
from pages.shared.history import images, say

SHOWN = 12  # pictures of each kind


def late_labels(state: jobs.State, came: Later) -> None:
    if came.give:
        n, one = len(came.give), len(came.give) == 1
        st.markdown(
            f"**{images(n)} that {'is' if one else 'are'} here without a label {'has' if one else 'have'} one in this source**: {_counted(came.give)}."
        )
        st.button(
            f"Give {'this label' if one else f'these {n:,} labels'}", type="primary", icon=":material/sell:", key="give-labels",
            on_click=_give, args=(state, came.give), help="One act: History takes it back.",
        )  # fmt: skip
        _pictures(came, came.give, "late-give")
    if came.differ:
        n, one = len(came.differ), len(came.differ) == 1
        st.markdown(
            f"**{images(n)} {'carries' if one else 'carry'} another label here than in this source**, and {'keeps' if one else 'keep'} it."
        )
        if st.button(f"Replace {'this label' if one else f'these {n:,} labels'} …", icon=":material/swap_horiz:", key="replace-labels"):
            _replace(state, came)
        _pictures(came, came.differ, "late-differ")


def _counted(late: Late) -> str:
    counts = Counter(label for _, label in late.values())
    first = ", ".join(f"{frame.plain(name)} {n:,}" for name, n in counts.most_common(SHOWN))
    return first + (f" and {len(counts) - SHOWN:,} more classes" if len(counts) > SHOWN else "")


def _pictures(came: Later, late: Late, key: str) -> None:
    """Some of them, of as many classes as there is room for, each with its labels."""
    before: Counter[str] = Counter()
    place = {}
    for image_id, (_, label) in late.items():
        place[image_id] = before[label]
        before[label] += 1
    found = store.get_images(came.dataset.id, sorted(late, key=place.__getitem__)[:SHOWN])
    notes = {
        image.id: late[image.id][1] if late[image.id][0] is None else f"{late[image.id][0]}, source: {late[image.id][1]}" for image in found
    }
    thumbs.image_grid(came.dataset, found, key=key, notes=notes, size=96)


def _give(state: jobs.State, wanted: Late) -> None:
    with frame.told():
        n = imports.give_labels(state, wanted, frame.user())
        say(f"{images(n)} labelled. History takes it back.", ":material/sell:")


@st.dialog("Are you sure?")
def _replace(state: jobs.State, came: Later) -> None:
    with frame.guarded("replace labels"):
        n = len(came.differ)
        st.markdown(
            f"{images(n)} of **{frame.plain(came.dataset.name)}** {'gets' if n == 1 else 'get'} the label of {frame.plain(imports.title(state))} in place of {'its' if n == 1 else 'their'} own. History takes it back."
        )
        tests = sum(split == "test" for split in store.splits(came.dataset.id, list(came.differ)).values())
        sure = True
        if tests:
            sure = st.checkbox(
                f"Also {images(tests)} of the test split: figures measured so far were measured with other labels.", key="sure-of-tests"
            )
        if st.button(
            "Replace", type="primary" if sure else "secondary", icon=":material/swap_horiz:", disabled=not sure, key="replace-for-good"
        ):
            with frame.told():
                done = imports.give_labels(state, came.differ, frame.user())
                say(f"{images(done)} labelled anew. History takes it back.", ":material/swap_horiz:")
                st.rerun()
