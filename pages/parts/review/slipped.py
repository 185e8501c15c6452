"""What slipped through: the audit of what passed, this week and over the last weeks, and whether the scores have drifted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core.data import queue
from core.data.queue import Submission
from core.review import audit, measures, policy, report, taken
from core.review.audit import Audit, Drifted
from core.review.slipped import Recall, Slipped
from core.types import Dataset
from pages.parts.review import gallery
from pages.shared import frame, times
from pages.shared.figures import VALIDATION, base

BANDS = {"pass": "pass", "ask": "ask a person", "block": "block"}
ICONS = {"too few": ":material/hourglass_empty:", "none": ":material/check:", "slight": ":material/warning:", "large": ":material/warning:"}


def show(current: Dataset) -> None:
    acting = policy.active(current.id)
    weeks = audit.weeks(current.id)
    week = weeks[-1]
    if acting is None and not any(one.passed + one.blocked + one.asked for one in weeks):
        st.info(
            "No policy has sorted anything here yet, so nothing has passed without a person. Write a policy and make it active first.",
            icon=":material/policy:",
        )
        return
    _headline(week)
    waits = queue.counts(current.id).get("audit", 0)
    with st.container(horizontal=True, vertical_alignment="center"):
        _button("Should not have passed", week.found, "slipped-found")
        _button("Audited of what passed", week.looked, "slipped-looked")
        _button("Wrongly blocked", week.wrong_blocks, "slipped-blocks")
        if waits:
            st.button(f"{waits:,} to audit: to the queue", icon=":material/fact_check:", key="slipped-audit", on_click=_to_queue)
    _classes(week)
    _strata(week)
    _weeks(weeks)
    gallery.chosen("slipped", _words)
    _drift(audit.drifted(current.id, week.since), waits)
    _reports(current)


def _to_queue() -> None:
    st.query_params["view"] = "queue"


def _headline(week: Audit) -> None:
    st.subheader(f"Last 7 days: wrongly passed {report.missed(week.any)}", anchor=False)
    still = f" {week.waiting:,} still wait for a person and are not counted." if week.waiting else ""
    st.caption(
        f"Of what came, {week.passed:,} passed and {week.blocked:,} {'was' if week.blocked == 1 else 'were'} blocked without a person, and people were asked about {week.asked:,}.{still} "
        "A share of what passed is drawn at random and looked at; from that the rest is estimated. None found does not mean none: the upper end of the interval says how many there may be. It counts what who looked decided, mistakes too: look at what was found."
    )
    if week.wrongly_blocked.n:
        st.markdown(f"Wrongly blocked, of what was audited: {report.share(week.wrongly_blocked)}.")


def _button(title: str, ids: Sequence[int], key: str) -> None:
    st.button(f"{title}: **{len(ids):,}**", key=key, on_click=gallery.choose, args=("slipped", title, ids), disabled=not ids)


def _classes(week: Audit) -> None:
    if not week.by_class:
        return
    rows = [
        {
            "Class": one.name,
            "Wrongly passed, of all that passed": report.missed(one.slipped),
            "Caught, of all of the class": report.recalled(one.recall),
        }
        for one in week.by_class
    ]

    def clicked() -> None:
        for row, _ in st.session_state["slipped-classes"]["selection"]["cells"]:
            gallery.choose("slipped", f"{week.by_class[row].name} that passed", week.by_class[row].found)

    st.dataframe(
        pd.DataFrame(rows), hide_index=True, width="stretch", key="slipped-classes", on_select=clicked, selection_mode="single-cell"
    )
    st.caption(
        "Click a class to see what was found of it. Caught: what people decided to be the class and what was blocked, as far as its audit confirms it, beside what is estimated to have slipped through."
    )


def _strata(week: Audit) -> None:
    if week.any is None or not week.any.n:
        return
    rows = [
        {
            "Risk": one.name.removeprefix("risk "),
            "Passed": one.size,
            "Audited": one.sampled,
            "Wrong": one.found,
            "Share wrong": report.share(one.share),
        }
        for one in week.any.strata
    ]
    with st.expander("By band of the risk", icon=":material/stacked_bar_chart:"):
        st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")
        st.caption("Bands of which too few were audited are joined. The risk is the highest probability of a class that the policy blocks.")


def _weeks(weeks: Sequence[Audit]) -> None:
    """What slipped through and what was caught, of any class or of one, over the last weeks."""
    if not any(one.any and one.any.n for one in weeks):
        return
    names = sorted({one.name for week in weeks for one in week.by_class})
    choices: dict[str, tuple[str | None, bool]] = {"Wrongly passed": (None, False)}
    for name in names:
        choices |= {f"Wrongly passed: {name}": (name, False), f"Caught: {name}": (name, True)}
    chosen = str(st.selectbox("By week", list(choices), key="slipped-of", filter_mode=None, width=320))
    st.plotly_chart(
        over_time(weeks, chosen, *choices[chosen]), key="slipped-weeks", config={"displayModeBar": False}, alt=f"{chosen}, by week"
    )
    st.caption(
        "Each point is a week that ends on its day, with its 95% interval; a hollow one is a week in which none was found to have slipped "
        "through: the bar says how many there may be all the same."
    )


def over_time(weeks: Sequence[Audit], title: str = "Wrongly passed", name: str | None = None, caught: bool = False) -> go.Figure:
    """The share wrongly passed, or of a class caught, by week, with intervals; a week of which it is not known has no point."""
    some = [(one.until, found, missed) for one in weeks for found, missed in _known(one, name, caught)]
    figure = base(f"{title}, by week (n = {sum(found.n for _, found, _ in some):,} audited)", 300)
    values = [found.value or 0.0 for _, found, _ in some]
    days = [datetime.fromisoformat(until).astimezone(times.zone()).date() for until, _, _ in some]
    figure.add_scatter(
        x=days,
        y=values,
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [found.high - value for (_, found, _), value in zip(some, values, strict=True)],
            "arrayminus": [value - found.low for (_, found, _), value in zip(some, values, strict=True)],
        },
        customdata=[(found.n, missed.found, found.low, found.high) for _, found, missed in some],
        mode="lines+markers",
        line={"color": VALIDATION, "width": 2},
        marker={"size": 8, "symbol": ["circle" if missed.found else "circle-open" for _, _, missed in some]},
        hovertemplate="week to %{x}: %{y:.2%} (%{customdata[2]:.2%} to %{customdata[3]:.2%})<br>"
        "%{customdata[1]} found, n = %{customdata[0]:,} audited<extra></extra>",
    )
    figure.update_xaxes(title="week that ends on", tickformat="%-d %b", tickvals=days)
    figure.update_yaxes(title="share of the class" if caught else "share of what passed", tickformat=".1~%", rangemode="tozero")
    return figure


def _known(week: Audit, name: str | None, caught: bool) -> list[tuple[Slipped | Recall, Slipped]]:
    """The figure of a week, and what slipped through behind it; none where it is not known."""
    of = next((one for one in week.by_class if one.name == name), None)
    missed = week.any if name is None else of and of.slipped
    found = of and of.recall if caught else missed
    return [(found, missed)] if found and missed and found.value is not None else []


def _words(item: Submission) -> str:
    said = measures.answer(item.verdict, item.label) or "not decided yet"
    return f"{said} (risk {item.risk:.0%})"


# Drift --------------------------------------------------------------------------------------------


def _drift(found: Drifted | None, waits: int) -> None:
    st.subheader("Have the scores drifted?", anchor=False)
    if found is None:
        st.caption(report.DRIFT_UNKNOWN)
        return
    one = found.scores
    alarm = one.level in ("slight", "large")
    if alarm:
        st.warning(one.words, icon=ICONS[one.level])
        if waits:
            st.button(f"To the audit: {waits:,} wait", icon=":material/fact_check:", key="drift-audit", on_click=_to_queue)
    else:
        st.markdown(f"{ICONS[one.level]} {one.words}")
    if one.psi is not None and one.psi_by_chance is not None and one.ks is not None:
        st.caption(
            f"The policy's validation images (n = {one.then:,}) against what came in the last 7 days (n = {one.now:,}): population stability index "
            f"{one.psi:.2f} (by chance up to {one.psi_by_chance:.2f}), Kolmogorov–Smirnov {one.ks:.2f}."
        )
    rows = [
        {"Band": BANDS[band], "Validation images": report.share(moved.then), "Last 7 days": report.share(moved.now),
         "Difference": f"{100 * moved.difference.low:+.1f} to {100 * moved.difference.high:+.1f} points" if moved.difference else ""}
        for band, moved in found.bands.items()
    ]  # fmt: skip
    st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")


# Taking it out ------------------------------------------------------------------------------------


def _reports(current: Dataset) -> None:
    st.subheader("Reports and statements", anchor=False)
    st.caption(
        "A report names nobody and is one HTML file. Statements of reasons have a row for each decision, without anything about a person."
    )
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in current.name)
    today = f"{times.now():%Y-%m-%d}"
    since = (times.now() - timedelta(days=28)).astimezone(UTC).isoformat()
    by = frame.user()
    with st.expander("What a statement says of your platform", icon=":material/edit_note:"):
        category = st.text_input(
            "Category", key="statement-category", max_chars=80, placeholder="STATEMENT_CATEGORY_…", persist_state="session"
        )
        scope = st.text_input("Territorial scope", key="statement-scope", max_chars=200, placeholder="AT,DE", persist_state="session")
        st.caption("The same in every statement, in the words of the database it goes to; an empty field stays empty.")

    def stated(form: taken.Form) -> str:  # in another thread, where nothing of the page is known
        return taken.statements_of_reasons(current.id, form, by, since, "9999", (category or "").strip(), (scope or "").strip())[1]

    files = [
        ("The day's report", lambda: taken.review_report(current.id, "day", by)[1], "day", "html", "text/html"),
        ("The week's report", lambda: taken.review_report(current.id, "week", by)[1], "week", "html", "text/html"),
        ("Statements of 4 weeks (CSV)", lambda: stated("csv"), "statements", "csv", "text/csv"),
        ("Statements of 4 weeks (JSONL)", lambda: stated("jsonl"), "statements", "jsonl", "application/jsonl"),
    ]  # fmt: skip
    with st.container(horizontal=True):
        for title, what, name, kind, mime in files:
            st.download_button(
                title, frame.deferred(what), f"{stem}-{name}-{today}.{kind}", mime, key=f"download-{name}-{kind}", on_click="ignore",
                icon=":material/summarize:" if kind == "html" else ":material/gavel:",
            )  # fmt: skip
