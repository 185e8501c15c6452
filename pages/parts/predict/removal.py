"""Old predictions: removed now, or every day by a rule, for those who may."""

from __future__ import annotations

import streamlit as st

from core import roles
from core.data import removal
from core.data.removal import Rule
from core.errors import AppError
from core.types import Dataset
from pages.shared import frame, times

OPEN = "remove-open"  # in the session


def button(current: Dataset) -> None:
    """Leads to what is removed; nothing for those who may not."""
    if not roles.current().may("admin", current.id):
        return
    in_force = len(removal.rules(current.id))
    words = f"Remove old ones ({in_force} rule{'s' if in_force > 1 else ''})" if in_force else "Remove old ones"
    if st.button(words, icon=":material/auto_delete:", key="remove-old"):
        st.session_state[OPEN] = True
        _remove(current)
    else:  # whatever draws the page anew closes it
        st.session_state[OPEN] = False


def is_open() -> bool:
    return bool(st.session_state.get(OPEN))


def _closed() -> None:
    st.session_state[OPEN] = False


@st.dialog("Remove old predictions", width="medium", on_dismiss=_closed)
def _remove(current: Dataset) -> None:
    with frame.told():
        days = int(st.number_input("Older than … days", 1, 3650, 90, key="remove-days"))
        some = st.multiselect("Answered as", current.classes, key="remove-classes", placeholder="any class")
        waiting = st.checkbox("Also what waits for a person, if nobody has decided on it", key="remove-waiting")
        n = removal.count(current.id, removal.ago(days), some, waiting)
        st.caption(
            f"That is **{n:,}** at the moment, with the files of those pictures. What was decided, escalated or appealed, second opinions, the "
            "audit's sample and known answers always stay, and so do the dataset's images. What is removed does not come back."
        )
        with st.container(horizontal=True):
            now = st.button("Remove them now", icon=":material/delete_forever:", key="remove-now", disabled=not n)
            daily = st.button("Do so every day", icon=":material/event_repeat:", key="remove-daily")
        if now:
            gone = removal.remove(current.id, removal.ago(days), some, waiting, frame.user())
            st.session_state["predict-told"] = f"{gone:,} predictions were removed."
            st.rerun()
        if daily:
            removal.set_rule(current.id, days, some, waiting, frame.user())
        for one in removal.rules(current.id):
            _rule(current, one)


def _rule(current: Dataset, one: Rule) -> None:
    """A rule in force: what it says, when it ran, and what it takes next."""
    what = f"answers of {', '.join(map(frame.plain, one.classes))}" if one.classes else "all answers"
    also = ", also what waits for a person" if one.waiting else ""
    ran = (
        f"Ran last {times.when(one.ran_at)} and took {one.removed or 0:,}." if one.ran_at else "It has not run yet: it does within an hour."
    )
    n = removal.count(current.id, one.before, one.classes, one.waiting, one.at)
    with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"rule-{one.id}"):
        st.markdown(
            f"**Every day {what} older than {one.days:,} day{'s' if one.days > 1 else ''}{also}**, set by {frame.plain(one.by)}, "
            f"{times.when(one.at)}.  \n{ran} Next it takes {n:,}, and what grows that old meanwhile.",
            width="stretch",
        )
        st.button("Switch off", icon=":material/event_busy:", key=f"rule-off-{one.id}", on_click=_off, args=(one.id,))


def _off(rule_id: int) -> None:
    try:
        removal.switch_off(rule_id, frame.user())
    except AppError as e:
        st.session_state["predict-error"] = e
