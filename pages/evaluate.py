"""How often a run is right, and exactly where it is wrong."""

import streamlit as st

from core import api, dataset, evaluate
from core.metrics import TOO_FEW
from core.types import Dataset, Evaluation, Interval
from pages.shared import frame, thumbs
from pages.shared.detail import drawer
from pages.shared.figures import confusion

PER_PAGE = 60
MISTAKES, ANY = "(mistakes)", "(any)"


def percent(share: Interval | None) -> str:
    return "undefined" if share is None else f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def headline(e: Evaluation) -> None:
    """Accuracy with n and interval in one line; a share of few images is shown as a count."""
    if e.accuracy is None:
        st.warning(
            "None of the predicted images carries a label of this run's classes today. Turn off “Labels of today” to count by those "
            "it was trained with.",
            icon=":material/label_off:",
        )
        return
    right = int(e.confusion.trace())
    interval = f"95 % interval {e.accuracy.low:.1%} to {e.accuracy.high:.1%}"
    if e.n < TOO_FEW or e.loss is None:
        st.markdown(f"#### {right} of {e.n} right\n{interval}. Too few images to call it an accuracy.")
    else:
        loss = f"loss {e.loss.value:.3f} ({e.loss.low:.3f} to {e.loss.high:.3f})"
        st.markdown(f"#### {e.accuracy.value:.1%} accuracy\n{right:,} of {e.n:,} {e.split} images right, {interval}; {loss}.")
    notes = []
    if e.changed:
        notes.append(f"{e.changed:,} label{'s' if e.changed != 1 else ''} changed since training")
    if e.without_label:
        notes.append(f"{e.without_label:,} images left out: they carry no label of this run's classes today")
    if notes:
        st.caption(f":material/info: {'; '.join(notes)}.")


def worst(current: Dataset, e: Evaluation) -> None:
    """The most frequent confusions, each with its most confident pictures."""
    st.markdown("**Most often confused**")
    pairs = evaluate.most_confused(e)
    if not pairs:
        st.caption("No mistakes at all.")
    for i, (true, predicted, n) in enumerate(pairs[:5]):
        found = dataset.images_of(current.id, list(evaluate.cell(e, true, predicted)["image_id"][:3]))
        strip = "".join(
            f'<img src="{api.thumb_url(i)}" alt="" style="width:52px;height:52px;object-fit:cover;border-radius:4px;'
            f'image-rendering:{"pixelated" if max(i.width, i.height) <= 64 else "auto"}">'
            for i in found
        )
        with st.container(horizontal=True, vertical_alignment="center", key=f"pair-{i}"):
            st.html(f'<div style="display:flex;gap:4px">{strip}</div>', width="content")
            if st.button(f"{n} × {frame.plain(true)} taken for {frame.plain(predicted)}", type="tertiary", key=f"worst-{i}"):
                choose_cell(e, true, predicted)


def matrix(e: Evaluation) -> None:
    """Draws the matrix; a click chooses the cell."""
    how = st.segmented_control(
        "Show", ["counts", "row percent"], default="counts", required=True, key="matrix-how", label_visibility="collapsed"
    )
    dark = st.context.theme.type == "dark"
    picked = st.plotly_chart(
        confusion(e, how == "row percent", dark),
        key=f"matrix-{e.run_id}-{e.split}",
        on_select="rerun",
        selection_mode="points",
        config={"displayModeBar": False},
        alt="Confusion matrix: rows actual, columns predicted",
    )
    clicked = tuple(int(picked["selection"]["points"][0]["customdata"][k]) for k in ("0", "1")) if picked["selection"]["points"] else None
    last = f"clicked-{e.run_id}-{e.split}"
    if clicked != st.session_state.get(last):  # the chart reports its selection in every run, not only at the click
        st.session_state[last] = clicked
        if clicked:
            choose_cell(e, e.classes[clicked[0]], e.classes[clicked[1]])


def choose_cell(e: Evaluation, true: str, predicted: str) -> None:
    """Fills the two boxes above the pictures."""
    st.session_state[f"actual-{e.run_id}"], st.session_state[f"predicted-{e.run_id}"] = true, predicted
    st.session_state["cell-page"] = 1


def show_mistakes(e: Evaluation) -> None:
    choose_cell(e, MISTAKES, ANY)


def images_of(current: Dataset, e: Evaluation) -> None:
    """The pictures of a cell, a row, a column, or all mistakes; the two boxes do by keyboard what a click on the matrix does."""

    def first_page() -> None:
        st.session_state["cell-page"] = 1

    with st.container(horizontal=True, vertical_alignment="bottom"):
        actual = st.selectbox("Actual", [MISTAKES, ANY, *e.classes], key=f"actual-{e.run_id}", on_change=first_page, width=220)
        predicted = st.selectbox("Predicted", [ANY, *e.classes], key=f"predicted-{e.run_id}", on_change=first_page, width=220)
        st.button(
            "Show all mistakes", key="all-mistakes", on_click=show_mistakes, args=(e,), disabled=(actual, predicted) == (MISTAKES, ANY)
        )
    said = None if predicted == ANY else predicted
    rows = evaluate.cell(e, None if actual in (MISTAKES, ANY) else actual, said)
    if actual == MISTAKES:
        rows = rows[rows["true"] != rows["predicted"]]
    what = ("mistakes" if actual == MISTAKES else "any class" if actual == ANY else f"actual {actual}") + (
        f", predicted {said}" if said else ""
    )
    st.subheader(f"{len(rows):,} image{'s' if len(rows) != 1 else ''}: {frame.plain(what)}", anchor=False)
    st.caption("Most confident first. A wrong label can be corrected right here: choose the image, press the class's key.")
    if rows.empty:
        st.caption("No image is counted here.")
        return
    pages = -(-len(rows) // PER_PAGE)
    number = min(st.session_state.get("cell-page", 1), pages)
    part = rows.iloc[(number - 1) * PER_PAGE : number * PER_PAGE]
    found = dataset.images_of(current.id, list(part["image_id"]))
    if not found:
        st.caption("These images are not in this dataset, so they cannot be shown.")
        return
    event = thumbs.image_grid(current, found, key="cell-grid", rows=part, split=e.split, caption="prediction", editable=True)
    if pages > 1:
        st.pagination(pages, key="cell-page")
    drawer(current, event.open, "evaluate")


def per_class(e: Evaluation) -> None:
    st.dataframe(
        [
            {"class": c.name, "n": c.n, "precision": percent(c.precision), "recall": percent(c.recall), "f1": percent(c.f1)}
            for c in e.per_class
        ],
        hide_index=True,
        column_config={
            "class": st.column_config.TextColumn("Class"),
            "n": st.column_config.NumberColumn("n", help="Images that carry this label"),
            "precision": st.column_config.TextColumn(
                "Precision", help="Of the images it gave this class, the share that are. In brackets the 95 % interval."
            ),
            "recall": st.column_config.TextColumn("Recall", help="Of the images that are this class, the share it found."),
            "f1": st.column_config.TextColumn("F1", help="Precision and recall in one figure: their harmonic mean."),
        },
    )


with frame.page("Evaluate", "How often it is right, and exactly which pictures it gets wrong.") as current:
    current = frame.need_dataset(current)
    if run := frame.run_picker(current):
        splits = evaluate.splits(run.id)
        if not splits:
            st.info("This run had neither validation nor test images, so nothing can be measured.", icon=":material/info:")
            st.stop()
        with st.container(horizontal=True, vertical_alignment="center"):
            split = st.segmented_control(
                "Split", splits, default=splits[0], required=True, key=f"split-{run.id}", label_visibility="collapsed",
                help="Use validation while you still choose between runs. Look at test once, at the end.",
            )  # fmt: skip
            today = st.toggle("Labels of today", True, key="today", help="Off: the labels the run was trained with.")
        e = evaluate.evaluate(run.id, split, today)
        headline(e)
        if e.n:
            left, right = st.columns([3, 2])
            with left:
                matrix(e)
                st.caption("Rows are what the pictures are, columns what the network said. Click a cell to see its pictures.")
            with right:
                worst(current, e)
            images_of(current, e)
            with st.expander("Precision, recall and F1 per class", icon=":material/table:"):
                per_class(e)
