"""Pictures whose answer is known: a newcomer practises on them, and a lead mixes them in."""

from __future__ import annotations

import streamlit as st

from core.data import store
from core.errors import AppError, Conflict
from core.review import known, policy, review
from core.review.measures import NONE
from core.train import train
from core.types import Dataset
from pages.parts.review import gallery
from pages.shared import frame, thumbs
from pages.shared.detail import picture

STARTED, TOLD = "practice", "practice-told"  # in the session: whether one practises, and what the last answer was
FROM = {"test": "Labelled test images", "decided": "Decided items"}


def invite(current: Dataset) -> None:
    """A word to a newcomer above the queue."""
    if known.is_new(current.id, frame.user()):
        with st.container(horizontal=True, vertical_alignment="center", key="practice-invite"):
            st.caption("New here? Practise first on pictures whose answer is known: you see after each what it is.", width="content")
            st.button("Practise", icon=":material/school:", type="tertiary", key="practice-go", on_click=_go)


def _go() -> None:
    st.query_params.update({"view": "figures", "figures": "yours"})
    _start(True)


def warm_up(current: Dataset, me: str) -> bool:
    """Offers a newcomer to practise; whether that is what is on the page now."""
    done, there = len(known.answered(current.id, me)), known.there(current.id)
    if not there or done >= known.WARM_UP:
        if st.session_state.get(STARTED) and TOLD in st.session_state:
            _told(current, last=True)
            return True
        return False
    if not st.session_state.get(STARTED):
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**New here? Practise first.** {min(there, known.WARM_UP)} pictures whose answer is known; you see after each what it is. "
                "It measures nobody."
            )
            st.button("Practise", type="primary", icon=":material/school:", key="practice-start", on_click=_start, args=(True,))
        return False
    one = known.practice(current.id, me)
    if TOLD in st.session_state:
        _told(current, last=one is None)
        return True
    if one is None:
        st.success("You have practised on all there is.", icon=":material/school:")
        st.button("To your figures", key="practice-end", on_click=_start, args=(False,))
        return True
    st.progress(done / known.WARM_UP, f"Practice: {done} of {min(there, known.WARM_UP)} answered")
    left, right = st.columns([3, 2])
    with left, st.container(key="blurred-practice" if gallery.blur() else "clear-practice"), frame.guarded("practice"):
        picture(gallery.url(one) or "", "the picture to practise on", "50vh")
    with right:
        st.caption("It is …")
        with st.container(horizontal=True):
            for each in thumbs.class_list(current):
                st.button(
                    frame.plain(each["name"]), shortcut=each["key"] if len(each["key"]) == 1 else None, key=f"practice-{one.id}-{each['name']}",
                    on_click=_answer, args=(one.id, each["name"], me),
                )  # fmt: skip
        st.button(
            "None of these", icon=":material/close:", shortcut="x", key=f"practice-{one.id}-none", on_click=_answer, args=(one.id, NONE, me)
        )
        st.button("Stop practising", type="tertiary", key="practice-stop", on_click=_start, args=(False,))
    return True


def _start(on: bool) -> None:
    st.session_state[STARTED] = on
    st.session_state.pop(TOLD, None)


def _answer(submission_id: int, said: str, me: str) -> None:
    try:
        right, answer = known.practise(submission_id, said, me, frame.session())
    except Conflict:  # a second click, or somebody else has it on the screen
        return
    except AppError as e:
        st.session_state[TOLD] = (submission_id, f"{e.message} {e.hint}", None)
        return
    words = f"Right: it is **{frame.plain(answer)}**." if right else f"You said {frame.plain(said)}; it is **{frame.plain(answer)}**."
    st.session_state[TOLD] = (submission_id, words, right)


def _told(current: Dataset, last: bool) -> None:
    """What the last answer was worth, beside its picture and the guideline of its class."""
    submission_id, words, right = st.session_state[TOLD]
    if right:
        st.success(words, icon=":material/check_circle:")
    else:
        st.warning(words, icon=":material/info:")
    gallery.pictures(gallery.part([submission_id], "practice-part"), lambda item: item.known or "", gallery.blur())
    if last:
        st.button("That was the last: to your figures", type="primary", key="practice-end", on_click=_start, args=(False,))
    else:
        st.button(
            "Next", type="primary", icon=":material/arrow_forward:", shortcut="enter", key="practice-next", on_click=_start, args=(True,)
        )


# Mixing in ----------------------------------------------------------------------------------------


def known_answers(current: Dataset) -> None:
    """How many there are, and mixing in more."""
    there, acting = known.there(current.id), policy.active(current.id)
    st.markdown(
        f"**{there:,} picture{'' if there == 1 else 's'} with a known answer** {'is' if there == 1 else 'are'} mixed in. "
        "They look like any other picture in the queue, and each person gets each of them once; how many of a hundred they are, the policy says. "
        "They never change a label and never join the dataset."
    )
    if acting is None:
        st.info("No policy is active, so none is dealt in the queue. Newcomers can practise on them all the same.", icon=":material/info:")
    usable = train.usable(current.id)
    if not usable:
        st.info("There is no trained network yet: each of them comes with a network's answer. Train one first.", icon=":material/info:")
        return
    run_id = acting.run_id if acting and any(one.run.id == acting.run_id for one in usable) else usable[0].run.id
    if done := st.session_state.pop("known-done", None):
        st.success(done, icon=":material/check:")
    kind = st.segmented_control("From", list(FROM), format_func=FROM.__getitem__, default="test", required=True, key="known-from")
    images = known.test_images(current.id, known.MOST) if kind == "test" else []
    some = known.adjudicated(current.id, known.MOST) if kind == "decided" else []
    left = len(images) + len(some)
    if kind == "test":
        st.caption(
            "Test images, with the labels they carry. Whoever labelled one of them may know it again, and a wrong label counts against whoever is right."
        )
    else:
        st.caption("What a lead has decided, or two people alike. Whoever decided one of them may know it again.")
    if not left:
        st.info("There is none that is not mixed in already.", icon=":material/info:")
        return
    n = int(st.number_input(f"How many, of {left:,}", 1, left, min(50, left), key=f"known-n-{kind}", width=200))
    if st.button(f"Mix in {n:,}", icon=":material/shuffle:", key="known-mix"):
        _ask(current, str(kind), n, run_id)


@st.dialog("Are you sure?")
def _ask(current: Dataset, kind: str, n: int, run_id: str) -> None:
    with frame.guarded("known answers"):
        st.markdown(
            f"Mix **{n:,} picture{'' if n == 1 else 's'}** with a known answer into the queue of {frame.plain(current.name)}? "
            "They take everybody's time, and stay."
        )
        with st.container(horizontal=True):
            if st.button(f"Mix in {n:,}", type="primary", icon=":material/shuffle:", key="known-yes"):
                with st.spinner("Asking the network …"):
                    if kind == "test":
                        made = review.mix_in(
                            current.id, store.get_images(current.id, [i.id for i in known.test_images(current.id, n)]), run_id, frame.user()
                        )
                    else:
                        made = known.mix_in_decided(known.adjudicated(current.id, n), frame.user())
                st.session_state["known-done"] = f"{made:,} {'is' if made == 1 else 'are'} mixed in."
                st.rerun()
            if st.button("Leave it", key="known-no"):
                st.rerun()
