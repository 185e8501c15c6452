"""Predictions that wait for a person: accept, correct or reject, one key each."""

import html

import streamlit as st

from core.api import signing
from core.data.queue import Submission, Verdict
from core.errors import AppError, Conflict
from core.review import review
from core.types import Dataset, Prediction
from pages.parts.review import policy
from pages.shared import animation, frame, thumbs
from pages.shared.detail import already, picture

VIEWS = {"queue": "Queue", "policy": "Policy"}


def decide(submission: Submission, verdict: Verdict, label: str | None, sure: bool = False) -> None:
    try:
        have = review.known(submission)
        review.decide(submission.id, verdict, label, frame.user(), sure)
        if verdict == "accepted" and have is not None and have.label is not None:
            st.toast(f"{frame.plain(submission.name)} keeps its label {frame.plain(have.label)}.")
            return
        words = {"accepted": f"accepted as {submission.predicted}", "corrected": f"corrected to {label}", "rejected": "rejected"}
        st.toast(f"{frame.plain(submission.name)} {frame.plain(words[verdict])}.")
    except Conflict:
        pass  # a double click: the decision stands, the next one is shown
    except AppError as e:
        st.session_state["review-error"] = e


def one(current: Dataset, submission: Submission, waiting: int) -> None:
    left, right = st.columns([3, 2])
    with right:
        # Kept in the URL, so that a reload shows nothing that was meant to stay vague.
        blur = st.toggle(
            "Blur pictures", key="blur", bind="query-params", help="Shows them only vaguely, for material that is hard to look at."
        )
        hide = st.toggle("Hide the network's answer", key="hide", bind="query-params", help="Decide without being influenced by it.")
        st.markdown(f"{frame.plain(submission.name)}, sent by {frame.plain(submission.by)}  \n{waiting:,} waiting, least certain first")
        have = review.known(submission)
        is_test = have is not None and have.split == "test"
        has_label = have is not None and have.label is not None
        sure = False
        if have is not None:
            st.info(f"{already(have)} Accepting an answer never changes a label.", icon=":material/inventory_2:")
        if is_test:
            sure = st.checkbox("I am sure: change the label of a test image", key=f"sure-{submission.id}")
        if not hide:
            st.markdown(f"The network says **{frame.plain(submission.predicted)}**, {submission.probability:.0%} sure.")
            st.button(
                f"Accept {frame.plain(submission.predicted)}", type="primary", icon=":material/check:", shortcut="a", key=f"accept-{submission.id}",
                on_click=decide, args=(submission, "accepted", None, sure), width="stretch",
                disabled=is_test and not has_label and not sure,
            )  # fmt: skip
        st.caption("It is …" if hide else "Or it is …")
        with st.container(horizontal=True):
            for name, key in ((one["name"], one["key"]) for one in thumbs.class_list(current)):
                verdict = "accepted" if name == submission.predicted and not has_label else "corrected"
                st.button(
                    frame.plain(name), shortcut=key if len(key) == 1 else None, key=f"correct-{submission.id}-{name}", on_click=decide, args=(submission, verdict, name, sure),
                    disabled=is_test and not sure,
                )  # fmt: skip
        with st.container(horizontal=True):
            st.button(
                "Reject: none of these", icon=":material/close:", shortcut="x", key=f"reject-{submission.id}", on_click=decide,
                args=(submission, "rejected", None), help="The picture never joins the dataset.",
            )  # fmt: skip
            st.button("Later", icon=":material/schedule:", shortcut="l", key=f"later-{submission.id}", on_click=later, args=(submission,))
    with left, st.container(key="blurred-one" if blur else "clear-one"), frame.guarded("review"):
        file = review.picture(submission)
        shown = frames(submission)
        picture(signing.upload_url(file, shown.frame if shown else 1), "the picture to decide on", "56vh")
        if shown:
            if hide:
                st.caption(f":material/burst_mode: {len(shown.frames):,} frames were judged; this is frame {shown.frame:,}.")
            else:
                animation.note(shown)
            if (label := shown.top(1)[0][0]) != review.sent(submission) and not hide:
                st.warning(f"It was sent with the answer of its first frame alone; of all frames, **{frame.plain(label)}** counts.")
            st.caption("If it joins the dataset, its first frame is what is learned from.")
            animation.strip(shown, file, hide)


def frames(submission: Submission) -> Prediction | None:
    """The frames of an animated picture with their answers; none where they cannot be asked any more, as when the run was deleted."""
    try:
        return review.frames(submission)
    except AppError as e:
        st.caption(frame.plain(f"Its frames cannot be judged: {e.message} {e.hint}"))
        return None


def later(submission: Submission) -> None:
    """Puts it behind all others, for this session."""
    st.session_state.setdefault("later", []).append(submission.id)


def next_one(waiting: list[Submission]) -> Submission:
    """The least certain that was not put off; when all were, the one put off first."""
    put_off = st.session_state.get("later", [])
    return min(waiting, key=lambda s: put_off.index(s.id) + 1 if s.id in put_off else 0)


def take_back(submission: Submission) -> None:
    try:
        review.reopen(submission.id, frame.user())
        st.toast(f"{frame.plain(submission.name)} waits for a decision again.", icon=":material/undo:")
    except Conflict:
        pass  # a double click: it waits already


def decided(current: Dataset) -> None:
    """The last ten decisions, each of which can be taken back."""
    blur, hide = st.session_state.get("blur"), st.session_state.get("hide")
    last = review.decided(current.id)
    if not last:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("The last decisions", anchor=False, width="content")
        st.button("Undo the last", icon=":material/undo:", shortcut="ctrl+z", key="undo", on_click=take_back, args=(last[0],))
    for s in last:
        with st.container(horizontal=True, vertical_alignment="center", key=f"{'blurred' if blur else 'decided'}-{s.id}", gap="medium"):
            with frame.told():
                url = html.escape(signing.upload_url(review.picture(s)))
                st.html(f'<img class="small-picture" src="{url}" alt="">', width=44)
            what = {
                "accepted": f"accepted as **{frame.plain(s.label or '')}**",
                "corrected": f"corrected to **{frame.plain(s.label or '')}**",
            }
            said = "" if hide else f" The network said {frame.plain(s.predicted)} ({s.probability:.0%})."
            by = frame.plain(s.decided_by or "")
            st.markdown(f"{frame.plain(s.name)}: {what.get(s.verdict or '', 'rejected')}.{said} By {by}.", width="stretch")
            st.button("Take back", type="tertiary", icon=":material/undo:", key=f"back-{s.id}", on_click=take_back, args=(s,))


with frame.page("Review", "Decide on predictions: what you accept or correct joins the dataset, what you reject never does.") as current:
    current = frame.need_dataset(current)
    if frame.url_view("view", VIEWS, key="review-view") == "policy":
        policy.show(current)
        st.stop()
    if error := st.session_state.pop("review-error", None):
        frame.show(error)
    waiting = review.queue(current.id)
    if waiting:
        with frame.told():
            one(current, next_one(waiting), review.queue_length(current.id))
    else:
        frame.empty(
            "The queue is empty",
            "Predictions come here from the Predict page, by *send to review*.",
            "Predict pictures",
            "predict.py",
            ":material/upload_file:",
        )
    decided(current)
