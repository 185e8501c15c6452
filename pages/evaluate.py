"""How often a run is right, and exactly where it is wrong."""

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from core.api import signing
from core.data import store
from core.evaluate import evaluate
from core.metrics import TOO_FEW
from core.types import ClassMetrics, Dataset, Evaluation, Image, Interval
from pages.parts.evaluate import cell
from pages.parts.evaluate.calibration import calibration
from pages.parts.evaluate.report import report_popover
from pages.parts.evaluate.slices import slices
from pages.parts.evaluate.thresholds import thresholds
from pages.shared import frame, openings
from pages.shared.matrix import matrix

VIEWS = {
    "matrix": "Confusion matrix",
    "classes": "Classes",
    "hardest": "Hardest images",
    "thresholds": "Thresholds",
    "calibration": "Calibration",
    "slices": "Slices",
}
LABELS = {"today": "Labels of today", "training": "Labels it was trained with"}
MANY = 30  # classes; of more, the most confused pairs lead and the matrix follows
PAIRS, MORE_PAIRS = 6, 12
HARDEST = {
    "Top losses": ("loss", "Where the network held the label least likely: wrong labels gather here."),
    "Most confident mistakes": ("confident", "Wrong, and sure of it: a wrong label, or something it has never learned."),
    "Least certain": ("uncertain", "Where its two likeliest classes lie closest together: the ambiguous pictures."),
}
ORDERS = {
    "classes": "Class order",
    "recall": "Lowest recall first",
    "precision": "Lowest precision first",
    "f1": "Lowest F1 first",
    "n": "Fewest images first",
}


# At first glance ------------------------------------------------------------------------------------


def percent(share: Interval | None) -> str:
    return "undefined" if share is None else f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def shows(e: Evaluation, text: str, title: str, ids: Callable[[], Sequence[str]], key: str, sort: str = "listed") -> None:
    """A number on the page that leads to its images, which are looked up only then."""
    st.button(text, key=key, type="tertiary", on_click=lambda: cell.choose(e, title, list(ids()), sort=sort))


def headline(current: Dataset, e: Evaluation) -> None:
    """Accuracy with n and interval in one line, the further metrics small under it."""
    if e.accuracy is None:
        st.warning(
            "None of the predicted images carries a label of this run's classes today. Choose “Labels it was trained with” to count by "
            "those.",
            icon=":material/label_off:",
        )
        return
    right = int(e.confusion.trace())
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="headline"):
        few = e.n < TOO_FEW
        st.header(f"{right} of {e.n} right" if few else f"{e.accuracy.value:.1%} accuracy", anchor=False, width="content")
        st.markdown(
            f"95% interval {e.accuracy.low:.1%} to {e.accuracy.high:.1%}, n = {e.n:,} {e.split} images"
            + (": too few to call it an accuracy" if few else ""),
            width="content",
        )
        shows(e, f"{right:,} right", "right answers", lambda: _right(e), "all-right", "confident")
        shows(e, f"{e.n - right:,} wrong", "mistakes", lambda: list(evaluate.mistakes(e)["image_id"]), "all-mistakes", "confident")
        since_training(current, e)
    if e.n >= TOO_FEW:
        small = [f"balanced accuracy {percent(e.balanced_accuracy)}", f"macro F1 {percent(e.macro_f1)}"]
        if e.loss is not None:
            small.append(f"cross-entropy loss {e.loss.value:.3f} ({e.loss.low:.3f} to {e.loss.high:.3f})")
        small += [f"top-{k} accuracy {percent(share)}" for k, share in e.top_k.items() if k in (2, 5)]
        st.caption(
            "  ·  ".join(small),
            help="Balanced accuracy: the mean recall of all classes, so that large classes count no more than small ones. Macro F1: the mean "
            "of the classes' F1, which joins precision and recall. Cross-entropy: how little the network believed in the true labels, 0 at best, in nats. "
            "Top-2 accuracy: the share of images whose label is among the two likeliest answers. In brackets the 95% intervals.",
        )


def _right(e: Evaluation) -> Sequence[str]:
    rows = evaluate.cell(e, None, None)
    return list(rows["image_id"][rows["true"] == rows["predicted"]])


def since_training(current: Dataset, e: Evaluation) -> None:
    """What has become of the labels since: counts that lead to their images."""

    def then_and_now() -> pd.DataFrame:
        trained = evaluate.evaluate(e.run_id, e.split, today=False).rows
        return trained.assign(now=e.rows.set_index("image_id")["true"].reindex(trained["image_id"]).to_numpy())

    def changed() -> list[str]:
        rows = then_and_now()
        other = list(rows["image_id"][(rows["now"] != rows["true"]).to_numpy()])
        return [image.id for image in store.get_images(current.id, other)]

    def left_out() -> list[str]:
        rows = then_and_now()
        return list(rows["image_id"][rows["now"].isna()])

    if e.changed:
        text = f":material/edit: {e.changed:,} label{'s' if e.changed != 1 else ''} changed since training"
        shows(e, text, "labels changed since training", changed, "changed")
    if e.without_label:
        text = f":material/label_off: {e.without_label:,} left out: no label of this run's classes"
        shows(e, text, "left out", left_out, "left-out")


def caveats(current: Dataset, e: Evaluation) -> None:
    """What one should know about the numbers."""
    if e.invalid:
        st.warning(
            f"For {e.invalid:,} image{'s' if e.invalid != 1 else ''} the network gave probabilities that are no numbers (NaN): training "
            "went wrong there. They count as answered; loss, thresholds and calibration leave them out.",
            icon=":material/running_with_errors:",
        )
    if len(e.classes) == 1:
        st.info("This run knows one class only: it can give no other answer, so being right says nothing.", icon=":material/info:")
    absent = [c.name for c in e.per_class if not c.n]
    if absent and e.n:
        some = ", ".join(frame.plain(name) for name in absent[:6]) + (f" and {len(absent) - 6:,} more" if len(absent) > 6 else "")
        gone = [name for name in absent if name not in current.classes] if e.today else []
        why = f" {len(gone):,} of them {'is' if len(gone) == 1 else 'are'} no class of this dataset any more." if gone else ""
        st.caption(f":material/info: No {e.split} image is labelled {some}: recall is undefined there.{why}")


# The views ------------------------------------------------------------------------------------------


def picture(image: Image) -> str:
    return (
        f'<img src="{signing.thumb_url(image)}" alt="" style="width:48px;height:48px;object-fit:cover;border-radius:4px;'
        f'image-rendering:{"pixelated" if max(image.width, image.height) <= 64 else "auto"}">'
    )


def worst(current: Dataset, e: Evaluation, most: int) -> None:
    """The most frequent confusions: their most confident pictures, beside one that is what the network said."""
    st.markdown("**Most often confused**")
    pairs = evaluate.most_confused(e)
    if not pairs:
        st.caption("No mistakes at all.")
        return
    back = {(true, predicted): n for true, predicted, n in pairs}
    wrong = evaluate.mistakes(e)
    for i, (true, predicted, n) in enumerate(pairs[:most]):
        taken = store.get_images(current.id, list(wrong["image_id"][(wrong["true"] == true) & (wrong["predicted"] == predicted)][:2]))
        real = store.get_images(current.id, list(evaluate.cell(e, predicted, predicted)["image_id"][:1]))
        strip = "".join(picture(image) for image in taken)
        if taken and real:
            strip += f'<span style="align-self:center;padding:0 2px;opacity:.6">≠</span>{picture(real[0])}'
        other = back.get((predicted, true), 0)
        with st.container(horizontal=True, vertical_alignment="center", key=f"pair-{i}"):
            st.html(f'<div style="display:flex;gap:4px">{strip}</div>', width="content")
            st.button(
                f"{n:,} × {frame.plain(true)} taken for {frame.plain(predicted)}", help=f"And {other:,} the other way." if other else None,
                type="tertiary", key=f"worst-{i}", on_click=cell.choose_cell, args=(e, (true, predicted)),
            )  # fmt: skip
    if len(pairs) > most:
        st.caption(f"{len(pairs) - most:,} more kinds of confusion are in the matrix.")


def matrix_view(current: Dataset, e: Evaluation) -> None:
    """The matrix, and beside it the worst confusions or the images of what was clicked."""
    many = len(e.classes) > MANY
    one = cell.chosen(e)
    slots = st.container(key="matrix-beside").columns([2, 3] if many else [3, 2], gap="medium")
    with slots[1 if many else 0]:
        clicked = matrix(e, key=f"matrix-{e.run_id}-{e.split}", chosen=one.cell if one else None)
        if clicked:
            cell.choose_cell(e, clicked)
        st.caption("Rows are what the pictures are, columns what the network said. Click a cell, or a class's name, to see its pictures.")
    with slots[0 if many else 1]:
        if cell.chosen(e):
            cell.images(current, e)
        else:
            worst(current, e, MORE_PAIRS if many else PAIRS)


def classes_view(e: Evaluation) -> None:
    """Precision, recall and F1 of each class; a click on a figure shows the images it is made of."""
    order = st.selectbox(
        "Order",
        list(ORDERS),
        format_func=ORDERS.__getitem__,
        key="classes-order",
        width=230,
        filter_mode=None,
        label_visibility="collapsed",
    )
    right = {c.name: int(e.confusion[i, i]) for i, c in enumerate(e.per_class)}

    def rank(c: ClassMetrics) -> float:
        if order == "n":
            return c.n
        share: Interval | None = getattr(c, str(order))
        return 2.0 if share is None else share.value

    found = list(e.per_class) if order == "classes" else sorted(e.per_class, key=rank)
    key = f"classes-{e.run_id}-{e.split}-{order}"

    def clicked() -> None:
        for row, column in st.session_state[key]["selection"]["cells"]:
            _choose_metric(e, found[row], column)

    st.dataframe(
        [
            {
                "class": c.name,
                "n": c.n,
                "right": right[c.name],
                "predicted": c.predicted,
                "recall": frame.part(c.recall, right[c.name], c.n),
                "precision": frame.part(c.precision, right[c.name], c.predicted),
                "f1": "undefined" if c.f1 is None else f"{c.f1.value:.2f} ({c.f1.low:.2f} to {c.f1.high:.2f})",
            }
            for c in found
        ],
        hide_index=True,
        key=key,
        on_select=clicked,
        selection_mode="single-cell",
        column_config={
            "class": st.column_config.TextColumn("Class", pinned=True),
            "n": st.column_config.NumberColumn("n", format="localized", help="Images that carry this label"),
            "right": st.column_config.NumberColumn(
                "Right", format="localized", help="Images of this class that the network gave this class"
            ),
            "predicted": st.column_config.NumberColumn("Predicted", format="localized", help="Images that the network gave this class"),
            "recall": st.column_config.TextColumn(
                "Recall", help="Of the images that are this class, the share it found. In brackets the 95% interval."
            ),
            "precision": st.column_config.TextColumn("Precision", help="Of the images it gave this class, the share that are."),
            "f1": st.column_config.TextColumn("F1", help="Precision and recall in one figure: their harmonic mean."),
        },
    )
    st.caption(
        "Click a figure to see its images. Shares of fewer than 30 images are written as counts; in brackets the 95% interval. "
        "Undefined: there is nothing to divide by."
    )


def _choose_metric(e: Evaluation, c: ClassMetrics, column: str) -> None:
    """The images a figure of a class is made of: what it divides by."""
    if column in ("n", "recall", "class"):
        cell.choose_cell(e, (c.name, None))
    elif column == "right":
        cell.choose_cell(e, (c.name, c.name))
    elif column in ("predicted", "precision"):
        cell.choose_cell(e, (None, c.name))
    else:
        rows = e.rows[(e.rows["true"] == c.name) | (e.rows["predicted"] == c.name)]
        cell.choose(e, f"actual or predicted {c.name}", list(rows["image_id"]), sort="confident")


def hardest_view(e: Evaluation) -> None:
    """The images that the network found hardest, in three senses."""
    which = str(
        st.segmented_control(
            "Which", list(HARDEST), default=next(iter(HARDEST)), required=True, key="hardest", label_visibility="collapsed"
        )
    )
    sort, what = HARDEST[which]
    st.caption(what)
    mine = (e.run_id, e.split, e.today, which)
    if st.session_state.get("hardest-shown") == mine and cell.chosen(e):
        return
    st.session_state["hardest-shown"] = mine
    ranked = {"loss": evaluate.top_losses, "confident": evaluate.mistakes, "uncertain": evaluate.least_certain}[sort](e)
    cell.choose(e, which.lower(), list(ranked["image_id"][:1000]), sort=sort)


with frame.page("Evaluate", "How often it is right, and exactly which pictures it gets wrong.") as current:
    current = frame.need_dataset(current)
    controls = st.container(horizontal=True, vertical_alignment="bottom", key="controls")
    with controls:
        run = frame.run_picker(current)
    if run:
        splits = evaluate.splits(run.id)
        if not splits:
            st.info("This run had neither validation nor test images, so nothing can be measured.", icon=":material/info:")
            st.stop()
        with controls:
            split = frame.url_view(
                "split", {name: name for name in splits}, key=f"split-{run.id}", label="Split",
                help="Use validation while you still choose between runs. Look at test once, at the end.",
            )  # fmt: skip
            labels = frame.url_view("labels", LABELS, key="labels", label="Labels")
            openings.chip(run)
            report_popover(run)
        if split == "test" and not openings.gate(current, run):
            st.stop()
        e = evaluate.evaluate(run.id, split, labels == "today")
        headline(current, e)
        caveats(current, e)
        if not e.n:
            cell.images(current, e)
            st.stop()
        view = frame.url_view("view", VIEWS, key="evaluate-view")
        if st.session_state.get("evaluate-was", view) != view:  # what was chosen in another view is put away
            cell.close()
        st.session_state["evaluate-was"] = view
        if view == "matrix":
            matrix_view(current, e)
            st.stop()
        if view == "classes":
            classes_view(e)
        elif view == "hardest":
            hardest_view(e)
        elif view == "thresholds":
            thresholds(e)
        elif view == "calibration":
            calibration(run, e)
        else:
            slices(current, run, e)
        cell.images(current, e, closable=view != "hardest")
