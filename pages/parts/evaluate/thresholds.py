"""A threshold for each class: what it catches and what it lets in, with the curves over all thresholds."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.evaluate import thresholds as numbers
from core.types import Evaluation, Interval
from pages.parts.evaluate import cell
from pages.parts.review import policy_draft
from pages.shared import frame
from pages.shared.figures import SPLIT_COLORS, precision_recall, roc

GOALS: dict[str, tuple[numbers.Goal, float, str]] = {
    "Best balance": ("balance", 0.0, "The threshold with the best F1: precision and recall in one figure."),
    "Catch 95%": ("catch", 0.95, "The highest threshold that still catches 95% of the class."),
    "Keep out 99%": ("keep out", 0.99, "The lowest threshold that keeps out 99% of the others."),
}
FIRST = 0.5
CONFIG = {"displayModeBar": False}


def thresholds(e: Evaluation) -> None:
    """The threshold of one class: chosen on validation images, only looked at on test images."""
    st.caption(
        "The network gives every class a probability. A threshold says from which probability on an image is taken for the class: a high "
        "one lets little in and misses much, a low one the other way round. Each class has its own. Without one the likeliest class is the answer, below 50% too: that is what the matrix counts."
    )
    top = st.container(horizontal=True, vertical_alignment="bottom", key="threshold-top")
    with top:
        name = str(st.selectbox("Class", e.classes, key=f"threshold-class-{e.run_id}", persist_state="session", width=240))
    found = numbers.curves(e, name)
    if found.auc is None:
        _undefined(e, found)
    else:
        _one(e, name, found, top)
    _all(e)


def _key(e: Evaluation, name: str) -> str:
    return f"threshold-{e.run_id}-{name}"  # of both splits: what was chosen on validation is looked at on test


def _undefined(e: Evaluation, found: numbers.Curves) -> None:
    if not found.n:
        why = f"no {e.split} image has a valid probability"
    else:
        why = f"no {e.split} image is labelled" if not found.positives else f"every {e.split} image is labelled"
        why += f" {frame.plain(found.name)}"
    st.info(f"Undefined: {why}, so there is nothing to tell apart. Choose another class or split.", icon=":material/info:")


def _one(e: Evaluation, name: str, found: numbers.Curves, top: DeltaGenerator) -> None:
    chooses = e.split == "validation"
    key = _key(e, name)

    def reach(goal: numbers.Goal, share: float) -> None:
        if (value := numbers.choose(e, name, goal, share)) is not None:
            st.session_state[key] = value
        else:
            st.toast("No threshold keeps out so many.", icon=":material/info:")

    if chooses:
        with top:
            for title, (goal, share, tip) in GOALS.items():
                st.button(title, key=f"threshold-{goal}", help=tip, on_click=reach, args=(goal, share))
    else:
        st.caption(
            ":material/lock: These are test images: look at what the threshold does, and choose it on the validation images. Whoever "
            "chooses by test images has no test any more."
        )
    st.session_state.setdefault(key, FIRST)
    threshold = float(
        st.slider(
            f"Taken for {frame.plain(name)} from this probability on", 0.0, 1.0, step=1 / numbers.STEPS, format="%.3f", key=key,
            disabled=not chooses, persist_state="session",
        )
    )  # fmt: skip
    at = numbers.at(e, name, threshold)
    _says(at)
    _counts(e, at)
    if chooses and st.button(
        "Begin a policy with it", icon=":material/gavel:", key="threshold-policy", type="tertiary",
        help=f"Opens Review: pictures pass below {threshold:.3f}, and a person is asked from there on. Nothing is sorted until a policy is made active.",
    ):  # fmt: skip
        st.session_state[policy_draft.GIVEN] = (e.run_id, name, threshold)
        st.switch_page("review.py", query_params={"view": "policy", "policy": "write", "run": e.run_id})
    left, right = st.columns(2, gap="medium")
    color = SPLIT_COLORS[e.split]
    with left:
        picked = f"roc-{key}-{e.split}"
        st.plotly_chart(
            roc(found, at, color), key=picked, config=CONFIG, selection_mode="points",
            on_select=(lambda: _take(picked, key)) if chooses else "ignore", alt=f"ROC curve of {name}",
        )  # fmt: skip
        st.caption(
            f"**ROC curve.** Every threshold is a point: up, more of {frame.plain(name)} is caught; right, more others are let in. "
            f"The area under it (AUC) is {_area(found.auc)}: 1 tells them apart without a mistake, 0.5 (dotted) is guessing."
        )
    with right:
        picked_too = f"pr-{key}-{e.split}"
        st.plotly_chart(
            precision_recall(found, at, color), key=picked_too, config=CONFIG, selection_mode="points",
            on_select=(lambda: _take(picked_too, key)) if chooses else "ignore", alt=f"Precision-recall curve of {name}",
        )  # fmt: skip
        st.caption(
            f"**Precision-recall curve.** Right, more of {frame.plain(name)} is caught; up, more of what is taken for it truly is. "
            f"The area (average precision) is {_area(found.average_precision)}. Look here where the class is rare: {found.positives:,} of "
            f"{found.n:,} images are (dotted)."
        )


def _take(chart: str, key: str) -> None:
    """A click on a curve sets its threshold."""
    points = st.session_state[chart]["selection"]["points"]
    if points and "customdata" in points[0]:
        value = points[0]["customdata"]
        st.session_state[key] = min(1.0, max(0.0, round(float(value[0] if isinstance(value, list) else value["0"]), 3)))


def _says(at: numbers.Threshold) -> None:
    name = frame.plain(at.name)
    verb = "is" if at.let_in == 1 else "are"
    st.markdown(
        f"**At {at.threshold:.3f}:** catches {at.caught:,} of {at.positives:,} {name} images; {at.let_in:,} of {at.others:,} others {verb} taken for "
        f"{name}."
    )


def _counts(e: Evaluation, at: numbers.Threshold) -> None:
    """The four counts, each of which leads to its images, and the three shares they make."""
    missed, kept_out = at.positives - at.caught, at.others - at.let_in
    parts: tuple[tuple[numbers.Part, int, str], ...] = (
        ("caught", at.caught, "caught"),
        ("missed", missed, "missed"),
        ("let in", at.let_in, "others let in"),
        ("kept out", kept_out, "others kept out"),
    )

    def show(part: numbers.Part, text: str) -> None:
        title = f"{text} at {at.threshold:.3f} ({at.name})"
        cell.choose(e, title, numbers.images(e, at.name, at.threshold, part))

    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="threshold-counts"):
        for part, n, text in parts:
            st.button(f"{n:,} {text}", key=f"threshold-{part}", type="tertiary", disabled=not n, on_click=show, args=(part, text))
    taken = at.caught + at.let_in
    st.caption(
        f"Recall {frame.part(at.recall, at.caught, at.positives)}, precision {frame.part(at.precision, at.caught, taken)}, others let in "
        f"{frame.part(at.false_positives, at.let_in, at.others)}; in brackets the 95% interval."
    )


def _area(area: Interval | None) -> str:
    return "undefined" if area is None else f"{area.value:.3f} ({area.low:.3f} to {area.high:.3f})"


def _all(e: Evaluation) -> None:
    """Every class with its areas and what its threshold does; read when it is opened: of 1,000 classes it takes seconds."""
    opened = st.expander("All classes", key=f"threshold-all-{e.run_id}", icon=":material/table:", on_change="rerun")
    with opened:
        if not opened.open:
            return
        key = f"threshold-table-{e.run_id}-{e.split}"
        rows = []
        for name in e.classes:
            found = numbers.curves(e, name)
            at = numbers.at(e, name, float(st.session_state.get(_key(e, name), FIRST)))
            rows.append(
                {
                    "class": name,
                    "n": at.positives,
                    "auc": _area(found.auc),
                    "ap": _area(found.average_precision),
                    "threshold": f"{at.threshold:.3f}",
                    "recall": frame.part(at.recall, at.caught, at.positives),
                    "let_in": f"{at.let_in:,} of {at.others:,}",
                    "precision": frame.part(at.precision, at.caught, at.caught + at.let_in),
                }
            )

        def clicked() -> None:
            for row in st.session_state[key]["selection"]["rows"]:
                st.session_state[f"threshold-class-{e.run_id}"] = e.classes[row]

        st.dataframe(
            rows,
            hide_index=True,
            key=key,
            on_select=clicked,
            selection_mode="single-row",
            column_config={
                "class": st.column_config.TextColumn("Class", pinned=True),
                "n": st.column_config.NumberColumn("n", format="localized", help="Images that are the class"),
                "auc": st.column_config.TextColumn("AUC", help="Area under the ROC curve, with its 95% interval."),
                "ap": st.column_config.TextColumn(
                    "Average precision", help="Area under the precision-recall curve, with its 95% interval."
                ),
                "threshold": st.column_config.TextColumn("Threshold", help="0.500 until another one is set."),
                "recall": st.column_config.TextColumn("Recall", help="Share of the class that is caught."),
                "let_in": st.column_config.TextColumn("Others let in", help="Others that are taken for the class."),
                "precision": st.column_config.TextColumn("Precision", help="Share of what is taken for the class that truly is."),
            },
        )
        st.caption("Choose a row to see its curves above. Shares of fewer than 30 images are written as counts.")
