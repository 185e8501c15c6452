"""Teach me: a head on cached features learns from the labels given so far, and says how well."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import streamlit as st

from core.data import classes, dataset, labels
from core.errors import AppError, Invalid
from core.label import embed, teach
from core.types import Dataset
from pages.shared import frame
from pages.shared.figures import learning_curve
from pages.shared.history import LAST

ASKED = "teach-asked"  # in the session: the dataset for which Teach me was pressed
AFTER = "teach-after"  # the dataset whose images are looked at because somebody pressed Teach me
ERROR = "teach-error"
ENOUGH = 20  # labels, from which on a first lesson is worth it


def embedding_needed(current: Dataset, why: str, arranged: bool = False) -> None:
    """Says what is missing and offers to look at all images once; arranged: and to arrange the map."""
    running = embed.state(current.id)
    if running is not None and running.status == "running":
        st.info(f"{why} Loupe is looking at the images now; see above.", icon=":material/hourglass_top:")
        return
    embed.expect()
    with st.container(border=True, key="embedding-needed"):
        st.markdown(f"{why} Loupe looks at every image once with a network that comes with it; nothing leaves this machine.")
        if st.button(
            "Arrange the map" if arranged and embed.latest(current.id) else "Look at all images",
            type="primary",
            icon=":material/visibility:",
        ):
            with frame.told():
                embed.start(current.id, frame.user(), arranged)
                st.rerun()


def teach_button(current: Dataset) -> None:
    """Teaches the model; looks at the images first where it has to."""
    state = embed.state(current.id)
    busy = state is not None and state.status == "running"
    if state is None:
        embed.expect()
    st.button(
        "Teach me", icon=":material/school:", key="teach-me", disabled=busy, on_click=_asked, args=(current.id,), help="A small model learns from the labels given so far. Images that Loupe has not looked at yet it looks at first."
    )  # fmt: skip
    # Kept until it is done: a page that is drawn anew just then begins this again, and would lose it.
    pressed = st.session_state.get(ASKED) == current.id
    wanted = st.session_state.get(AFTER) == current.id and not busy
    if pressed or wanted:
        try:
            if not dataset.totals(current.id)[1]:
                raise Invalid("No image has a label yet.", "Label a few images of at least two classes first.")
            unseen = embed.latest(current.id) is None or embed.missing(current.id)
            if unseen and not wanted:
                embed.start(current.id, frame.user(), arranged=False)
                _answered()
                st.session_state[AFTER] = current.id
                st.rerun()
            with st.spinner("Learning …"):
                teach.teach(current.id, frame.user())
                _answered()
            st.session_state.pop("batch", None)  # the order has changed
            frame.first_page()
            st.rerun()
        except AppError as e:
            _answered()
            st.session_state[ERROR] = e  # said below, where there is room


def _answered() -> None:
    for name in (ASKED, AFTER):
        st.session_state.pop(name, None)


def _asked(dataset_id: int) -> None:
    st.session_state[ASKED] = dataset_id


def teach_line(current: Dataset) -> None:
    """How far Loupe has looked at the images, or what the model has learned."""
    if error := st.session_state.pop(ERROR, None):
        frame.show(error)
    state = embed.state(current.id)
    if state is not None and state.status == "running":
        watch(current)
        return
    if state is not None and state.status in ("failed", "lost"):
        st.error(f"**{frame.plain(state.message)}** {frame.plain(state.hint)}", icon=":material/error:")
    lessons = teach.lessons(current.id)
    with st.container(horizontal=True, vertical_alignment="center", key="teach-line"):
        st.caption(_said(lessons, dataset.totals(current.id)[1]), width="stretch")
        if lessons:
            with st.popover("Curve", icon=":material/show_chart:", type="tertiary", help="How much more labels have helped."):
                st.plotly_chart(learning_curve(lessons), key="learning-curve", config={"displayModeBar": False}, width=520)
            accept(current)


def _said(lessons: list[teach.Lesson], labelled: int = 0) -> str:
    if not lessons:
        first = "Press" if labelled >= ENOUGH else f"Label about {ENOUGH} images, then press"
        return (
            f"{first} **Teach me**: a small model learns from them, "
            "shows first what it is least sure of, finds labels that may be wrong, and offers its surest answers."
        )
    last = lessons[-1]
    how = "labelled validation images it had not seen" if last.how == "validation" else "labelled images it had not seen (cross-validation)"
    share = last.accuracy
    given = f"{last.labels:,} labels" if last.learned in (None, last.labels) else f"{last.learned:,} of {last.labels:,} labels"
    text = f"Learned from **{given}**, none of them of test images. "
    if share is None:
        text += "Nothing judges it yet: that takes more labels that people gave. "
    else:
        text += (
            f"Right on **{share.value:.1%}** of {last.n:,} {how}; 95% interval {share.low:.0%} to {share.high:.0%}, "
            "about the images labelled so far, not the whole dataset. "
        )
    if len(lessons) > 1:
        more = last.labels - lessons[-2].labels
        text += f"Since the lesson before: {more:+,} labels, {last.changed:,} answers changed. "
    return text + f"At least 95% sure of {last.sure:,} images without a label, not counting test images."


@st.fragment(run_every=1)
def watch(current: Dataset) -> None:
    with frame.guarded("embedding"):
        state = embed.state(current.id)
        if state is None or state.status != "running":
            st.rerun()
        with st.container(border=True, key="embedding-progress", horizontal=True, vertical_alignment="center"):
            st.progress(state.share, frame.plain(state.words), width="stretch")
            help = "What is done stays: the next time goes on from there."
            st.button("Stop", icon=":material/stop_circle:", key="embedding-stop", help=help, on_click=_stop, args=(current.id,))


def _stop(dataset_id: int) -> None:
    embed.stop(dataset_id)
    st.session_state.pop(AFTER, None)


def label_many(current: Dataset, ids: Sequence[str], name: str, source: str, over: bool = False, *, new: bool = False) -> int:
    """Gives the label, a new class if it is said to be new, to all the images as one act that can be undone here; returns how many changed."""
    operation, before, by = secrets.token_hex(16), st.session_state.get(LAST), frame.user()
    # Set first: a second click may cut this run short at the next look into the session, after the labels are stored.
    st.session_state[LAST] = (current.id, operation, f"Images labelled “{name}”")
    if new:
        try:
            name = classes.add(current.id, name)
        except AppError:
            st.session_state[LAST] = before
            raise
    changed = labels.apply_to_all(current.id, ids, name, by, operation, source, over)
    said = f"{changed:,} image{'s' * (changed != 1)} labelled “{name}”"
    st.session_state[LAST] = (current.id, operation, said) if changed else before
    return changed


def accept(current: Dataset) -> None:
    """Takes over the model's surest answers as labels, one class at a time, after they were looked at."""
    with st.popover("Accept answers", icon=":material/done_all:", type="tertiary"):
        _answers(current)


@st.fragment
def _answers(current: Dataset) -> None:
    """They are looked for when somebody asks: among 100,000 images that takes half a second, and the page is drawn often."""
    with frame.guarded("answers"):
        least = st.slider("At least so sure", 0.8, 0.99, 0.95, 0.01, format="%.2f", key="least")
        sign = (current.id, least, len(teach.lessons(current.id)))
        if st.button("Find answers", icon=":material/search:", key="find-answers"):
            st.session_state["answers"] = (sign, teach.suggest(current.id, least))
        of, found = st.session_state.get("answers", (None, {}))
        if of == sign and not found:
            st.caption("There is no image without a label that the model is so sure of.")
        st.caption(
            "Their labels say that they came from the model: it learns from them, but they do not judge it. Images of the test split are "
            "left to people. Look at the answers first in the order “Surest”; Dataset → History takes them back."
        )
        with st.container(horizontal=True):
            for name, ids in sorted(found.items(), key=lambda pair: -len(pair[1])) if of == sign else ():
                if st.button(f"{len(ids):,} × {frame.plain(name)}", key=f"accept-{current.id}-{name}", icon=":material/check:"):
                    with frame.told():
                        if not label_many(current, ids, name, "model"):
                            st.toast("These images have labels by now.", icon=":material/info:")
                        del found[name]
                        st.rerun()
