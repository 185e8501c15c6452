"""All that was decided, page by page: who said what of which picture, and what it is now."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core import roles
from core.api import signing
from core.data import decisions, queue
from core.data.queue import Decision, Submission, Verdict
from core.errors import AppError, NotFound
from core.review import review
from core.types import Dataset
from pages.parts.review import gallery
from pages.shared import frame, times
from pages.shared.detail import picture

PER_PAGE = 50
ALL = "all"
VERDICTS: dict[str, str] = {
    "accepted": "Accepted",
    "corrected": "Corrected",
    "rejected": "None of these",
    "escalated": "Escalated",
    "appealed": "Appealed",
}


def show(current: Dataset) -> None:
    which = _which(current)
    total = decisions.count(current.id, review.told(current.id, which))
    if not total:
        st.info(
            "No decision matches."
            if which != decisions.Said()
            else "Nothing was decided yet. What you decide in the queue is listed here.",
            icon=":material/gavel:",
        )
        return
    pages = -(-total // PER_PAGE)
    key = f"decisions-{which}"
    number = min(frame.page_number(key), pages)
    found = review.decisions(current.id, which, (number - 1) * PER_PAGE, PER_PAGE)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{total:,} decision{'' if total == 1 else 's'}, newest first. Choose a line to see its picture.", width="stretch")
        vague = gallery.blur()
    event = st.dataframe(
        _table(found, vague), hide_index=True, on_select="rerun", selection_mode="single-row", key=f"decisions-{which}-{number}",
        column_config={
            "Picture": st.column_config.ImageColumn(width="small"), "Note": st.column_config.TextColumn(width="medium"),
            "Decision": st.column_config.TextColumn(width=110), "Now": st.column_config.TextColumn(width=150),
        },
        row_height=44,
    )  # fmt: skip
    if pages > 1:
        frame.pager(pages, key)
    rows = event["selection"]["rows"]
    if rows and rows[0] < len(found):
        with frame.told():
            _one(current, found[rows[0]][1].id, vague)


def _which(current: Dataset) -> decisions.Said:
    if st.query_params.pop("all", ""):  # of the audit: whatever was filtered here before
        st.query_params.update({"by": ALL, "verdict": ALL})
        st.session_state["decisions-back"] = True
    st.session_state.setdefault("decisions-back", True)
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters"):
        people = [ALL, *decisions.people(current.id)]
        by = frame.url_choice("by", "Person", people, ALL, lambda p: "Everybody" if p == ALL else p)
        verdict = frame.url_choice("verdict", "Decision", [ALL, *VERDICTS], ALL, lambda v: "All" if v == ALL else VERDICTS[v])
        text = st.text_input("Name or hash", key="q", bind="query-params", on_change=frame.first_page, icon=":material/search:")
        back = st.toggle("Also those taken back", key="decisions-back", persist_state="session")
    only: Verdict | None = None if verdict == ALL else verdict  # type: ignore[assignment]
    return decisions.Said(None if by == ALL else by, only, (text or "").strip(), standing=not back)


def _table(found: list[tuple[Decision, Submission]], vague: bool) -> pd.DataFrame:
    """vague: without the pictures, as a table cannot blur them."""
    zone = f"Time ({times.zone_title()})"
    return pd.DataFrame(
        [
            {
                **({} if vague else {"Picture": _url(item)}),
                "Name": review.named(item),
                "Decision": _said(one),
                "Person": one.by,
                zone: times.column(one.at),
                "Network said": item.predicted if one.hint else "hidden",
                "Taken back": f"by {one.undone_by}, {times.column(one.undone_at)}" if one.undone_at else "",
                "Now": _now(item),
                "Note": one.note or one.reason,
            }
            for one, item in found
        ]
    )


def _url(item: Submission) -> str | None:
    try:
        return signing.upload_url(item.dataset_id, review.picture(item), stored=False)
    except NotFound:
        return None


def _said(one: Decision) -> str:
    return one.label or VERDICTS[one.verdict]


def _now(item: Submission) -> str:
    """What became of it."""
    if item.state == "decided":
        return item.label or "none of these"
    return "" if item.state == "known" else queue.SAID[item.state]


def _one(current: Dataset, submission_id: int, vague: bool) -> None:
    """The picture of a line with all that was said of it, and what may be done."""
    item = review.today(queue.get(submission_id))
    leads = roles.current().may("lead", current.id)
    left, right = st.columns([2, 3])
    with left, frame.told(), st.container(key="blurred-decided" if vague else "clear-decided"):
        picture(
            signing.upload_url(item.dataset_id, review.picture(item), stored=False),
            f"{review.named(item)}, now: {_now(item) or 'not told'}",
        )
    with right:
        st.subheader(frame.plain(review.named(item)), anchor=False)
        st.markdown(f"Sent by {frame.plain(item.by)}, {times.when(item.at)}. Now: **{frame.plain(_now(item) or 'not told')}**.")
        for one, _ in review.decisions(current.id, decisions.Said(item=item.id)):
            back = f" Taken back by {frame.plain(one.undone_by or '')}, {times.when(one.undone_at)}." if one.undone_at else ""
            note = f" “{frame.plain(one.note)}”" if one.note else ""
            with st.container(horizontal=True, vertical_alignment="center", key=f"event-{one.seq}"):
                st.markdown(f"{frame.plain(one.by)}, {times.when(one.at)}: **{frame.plain(_said(one))}**.{note}{back}", width="stretch")
                mine = one.by == frame.user() or leads
                if not one.undone_at and mine and one.verdict != "appealed":
                    st.button(
                        "Take back", icon=":material/undo:", type="tertiary", key=f"back-{one.seq}", on_click=_back, args=(current, one)
                    )
        if item.state == "decided" and leads:
            _appeal(item)


def _back(current: Dataset, one: Decision) -> None:
    try:
        review.undo(current.id, frame.user(), one.seq)
        st.toast("Taken back: the picture waits for a decision again.", icon=":material/undo:")
    except AppError as e:
        st.toast(f"{frame.plain(e.message)} {frame.plain(e.hint)}", icon=":material/error:")


def _appeal(item: Submission) -> None:
    with st.form(f"appeal-{item.id}", border=False):
        note = st.text_input("Ask somebody else to look again, because …", max_chars=2000)
        if st.form_submit_button("Appeal", icon=":material/balance:"):
            review.appeal(item.id, frame.user(), note)
            st.rerun()
