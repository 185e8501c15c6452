"""The images behind a number: of a cell, a row, a column or a list, to be filtered, sorted, relabelled, flagged and excluded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import pandas as pd
import streamlit as st

from core.data import store
from core.evaluate import evaluate
from core.types import Dataset, Evaluation, Image
from pages.shared import frame, thumbs
from pages.shared.detail import drawer
from pages.shared.matrix import Cell

PER_PAGE = 60
MOST_READ = 2000  # images whose facts are read for every run of the page; of more only where a filter asks for them
CHOSEN = "cell"
FLAGGED = ("any", "flagged", "not flagged")
SORTS = {
    "listed": "As listed",
    "confident": "Most confident first",
    "uncertain": "Least certain first",
    "loss": "Largest loss first",
    "newest": "Newest first",
}
_numbers = count(1)


@dataclass(frozen=True)
class Choice:
    run_id: str
    split: str
    today: bool
    title: str
    ids: tuple[str, ...]  # stay as they were chosen: what is relabelled does not vanish from under the hand
    cell: Cell | None
    sort: str
    number: int  # another one for each choice


def choose(e: Evaluation, title: str, image_ids: Sequence[str], *, sort: str = "listed", cell: Cell | None = None) -> None:
    """Shows these images on the page; cell: the one they are, whose count then stands in the heading."""
    st.session_state[CHOSEN] = Choice(e.run_id, e.split, e.today, title, tuple(image_ids), cell, sort, next(_numbers))
    for name, value in zip(("actual", "predicted"), cell or (None, None), strict=True):
        if value is not None:
            st.query_params[name] = value
        else:
            st.query_params.pop(name, None)


def choose_cell(e: Evaluation, cell: Cell) -> None:
    """Shows the images counted in a cell, a row (actual, None) or a column (None, predicted)."""
    actual, predicted = cell
    if cell != (None, None):
        choose(e, named(cell), list(evaluate.cell(e, actual, predicted)["image_id"]), sort="confident", cell=cell)


def named(cell: Cell) -> str:
    return ", ".join(f"{what} {name}" for what, name in zip(("actual", "predicted"), cell, strict=True) if name is not None)


def close() -> None:
    st.session_state.pop(CHOSEN, None)
    for name in ("actual", "predicted"):
        st.query_params.pop(name, None)


def chosen(e: Evaluation) -> Choice | None:
    """What is chosen of this evaluation; a cell that the URL names is chosen when the page opens."""
    held: Choice | None = st.session_state.get(CHOSEN)
    if held and (held.run_id, held.split) != (e.run_id, e.split):
        close()
        held = None
    if held is None:
        cell = (st.query_params.get("actual"), st.query_params.get("predicted"))
        if cell == (None, None) or any(name is not None and name not in e.classes for name in cell):
            return None
        choose_cell(e, cell)
    elif held.cell and held.today != e.today:  # by other labels it holds other images
        choose_cell(e, held.cell)
    return st.session_state.get(CHOSEN)


def images(current: Dataset, e: Evaluation, closable: bool = True) -> None:
    """The chosen images; nothing while none are chosen. closable: a person chose them, so they may be closed and are brought into view."""
    one = chosen(e)
    if one is None:
        return
    with st.container(key="cell-images"):
        counted = list(one.ids) if one.cell is None else list(evaluate.cell(e, *one.cell)["image_id"])
        with st.container(horizontal=True, vertical_alignment="center"):
            st.header(f"{len(counted):,} image{'s' if len(counted) != 1 else ''}: {frame.plain(one.title)}", anchor=False)
            if closable:
                st.button("Close", key="cell-close", icon=":material/close:", type="tertiary", on_click=close)
        with st.container(key="cell-said"):  # of one height, so that no picture moves away under the hand
            _said(e, one, counted)
        if not one.ids:
            return
        table, found = _filtered(current, e, one)
        pages = -(-len(table) // PER_PAGE)
        number = min(frame.page_number(_page(one)), max(1, pages))
        part = table.iloc[(number - 1) * PER_PAGE : number * PER_PAGE]
        shown = [found[i] for i in part["image_id"] if i in found] if found else store.get_images(current.id, list(part["image_id"]))
        gone = len(one.ids) - len(found) if found else len(part) - len(shown)
        if gone:
            of = len(one.ids) if found else len(part)
            st.caption(f":material/hide_image: {gone:,} of these {of:,} images {'is' if gone == 1 else 'are'} not in the dataset any more.")
        if not shown:
            if len(table) == 0 and not gone:
                st.caption("No image passes the filter.")
            return
        event = thumbs.image_grid(
            current,
            shown,
            key="cell-grid",
            rows=part,
            split=e.split,
            caption="prediction",
            size=112,
            editable=True,
            first=_first(current, one, part),
            words={"remove": "Exclude", "flag": "Flag as ambiguous"},
            shown=one.number if closable else None,
        )
        if pages > 1:
            frame.pager(pages, _page(one))
        st.caption(
            "*Exclude* takes the label away: an image without a label is counted nowhere and goes into no later run. A flagged image stays "
            "counted; Browse on the Dataset page finds it again. *Undo* takes back either."
        )
        drawer(current, event.open, "evaluate")


def _page(one: Choice) -> str:
    return f"cell-page-{one.number}"


def _said(e: Evaluation, one: Choice, counted: list[str]) -> None:
    """What to do here; once something was relabelled out of the cell, or into it, what became of it."""
    out, into = len(set(one.ids) - set(counted)), len(set(counted) - set(one.ids))
    if not one.ids:
        st.caption("No image is counted here.")
    elif not out and not into:
        st.caption(
            "Choose an image, then its right class: the numbers follow at once."
            if e.today
            else "The numbers are those of the labels it was trained with: new labels do not change them."
        )
    else:
        parts = [f"{out:,} of those shown {'is' if out == 1 else 'are'} counted elsewhere now"] if out else []
        parts += [f"{into:,} more {'is' if into == 1 else 'are'} counted here now"] if into else []
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption(f":material/sync: {', '.join(parts)}.", width="content")
            st.button(
                "Renew", key="cell-renew", type="tertiary", help="Shows what the cell holds now", on_click=choose_cell, args=(e, one.cell)
            )


def _filtered(current: Dataset, e: Evaluation, one: Choice) -> tuple[pd.DataFrame, dict[str, Image]]:
    """The rows (image_id, predicted, confidence, actual) that pass the filter, sorted; and, where they were read, all chosen images."""
    whole = evaluate.evaluate(e.run_id, e.split, today=False).rows  # also of those that carry no label now
    wanted = {i: place for place, i in enumerate(one.ids)}
    table = whole[whole["image_id"].isin(wanted)]
    table = table.iloc[table["image_id"].map(wanted).argsort(kind="stable")]
    actual = e.rows.set_index("image_id")["true"].reindex(table["image_id"])
    table = table.assign(actual=actual.to_numpy()).drop(columns="true")
    found = {i.id: i for i in store.get_images(current.id, one.ids)} if len(one.ids) <= MOST_READ else {}

    def box(title: str, column: str) -> str | None:
        names = [None, *sorted(set(table[column].dropna()), key=e.classes.index)]
        key = f"cell-{column}-{one.number}"
        return st.selectbox(title, names, key=key, on_change=frame.first_page, format_func=lambda name: "Any" if name is None else name)

    with st.container(horizontal=True, vertical_alignment="center"):
        sorts = [s for s in SORTS if s != "listed" or one.sort == "listed"]
        sort = st.selectbox(
            "Order", sorts, index=sorts.index(one.sort), format_func=SORTS.__getitem__, key=f"cell-sort-{one.number}",
            on_change=frame.first_page, label_visibility="collapsed", width=190, filter_mode=None,
        )  # fmt: skip
        with st.popover("Filter", icon=":material/filter_list:", key=f"cell-filter-{one.number}"):
            actual_is, predicted_is = box("Actual", "actual"), box("Predicted", "predicted")
            low, high = st.slider(
                "Confidence (%)", 0, 100, (0, 100), key=f"cell-confidence-{one.number}", on_change=frame.first_page,
                help="The probability that the network gave to its answer.",
            )  # fmt: skip
            flag = st.segmented_control(
                "Flag",
                FLAGGED,
                default=FLAGGED[0],
                required=True,
                format_func=str.capitalize,
                key=f"cell-flag-{one.number}",
                on_change=frame.first_page,
            )
            text = st.text_input("File name contains", key=f"cell-name-{one.number}", on_change=frame.first_page).strip().lower()
        passing = table
        if actual_is is not None:
            passing = passing[passing["actual"] == actual_is]
        if predicted_is is not None:
            passing = passing[passing["predicted"] == predicted_is]
        if (low, high) != (0, 100):
            passing = passing[passing["confidence"].between(low / 100, high / 100)]
        if flag != FLAGGED[0] or text or sort == "newest":
            found = found or {i.id: i for i in store.get_images(current.id, one.ids)}
            kept = {
                i.id
                for i in found.values()
                if (flag == FLAGGED[0] or i.flagged == (flag == "flagged")) and (not text or text in i.source.lower())
            }  # fmt: skip
            passing = passing[passing["image_id"].isin(kept)]
        if len(passing) != len(table):
            st.caption(f"{len(passing):,} of {len(table):,} pass", width="content")
    return _sorted(e, passing, str(sort), found), found


def _sorted(e: Evaluation, table: pd.DataFrame, sort: str, found: dict[str, Image]) -> pd.DataFrame:
    if sort == "confident":
        return table.sort_values("confidence", ascending=False, kind="stable")
    if sort == "newest":
        return table.sort_values("image_id", key=lambda ids: ids.map(lambda i: found[i].added_at), ascending=False, kind="stable")
    if sort == "listed":
        return table
    ranked = evaluate.top_losses(e) if sort == "loss" else evaluate.least_certain(e)
    place = pd.Series(range(len(ranked)), index=ranked["image_id"].to_numpy())  # who is not ranked comes last
    return table.iloc[place.reindex(table["image_id"]).to_numpy().argsort(kind="stable")]


def _first(current: Dataset, one: Choice, part: pd.DataFrame) -> list[str]:
    """Those classes lead that are likely meant: what the network said, and what stands there."""
    if len(current.classes) <= 4 or (one.cell is None and len(current.classes) <= 12):
        return []
    likely: list[Any] = [*reversed(one.cell or ()), *part["predicted"].value_counts().index[:4], *part["actual"].value_counts().index[:4]]
    return [name for name in dict.fromkeys(likely) if name in current.classes]
