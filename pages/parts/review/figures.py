"""What decisions are worth: one's own figures first, then for a lead the team's, the known answers and what slipped through."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, timedelta

import pandas as pd
import streamlit as st

from core import roles
from core.data import decisions
from core.data.queue import FINAL, Submission
from core.metrics import TOO_FEW, Share
from core.review import measures
from core.review.agreement import Figure
from core.review.measures import NONE, Figures, Judged, Outcome
from core.review.quality import Pace
from core.types import Dataset, Interval
from pages.parts.review import gallery, practice, slipped
from pages.shared import frame, times

PERIODS = {"7": "Last 7 days", "28": "Last 4 weeks", "all": "All time"}
LITTLE = "Of fewer than 30 the count stands here: a share of so few says little."
TRUTH = (
    "Counted against the final answer: a known one, or what somebody else decided in the end, too. What one person alone decided says "
    "nothing of whether it is right, so it is left out."
)


def show(current: Dataset) -> None:
    """Everybody sees their own; a lead sees the rest, too."""
    views = {"yours": "Yours"}
    if roles.current().may("lead", current.id):
        views |= {"team": "The team", "slipped": "What slipped through", "known": "Known answers"}
    view = frame.url_view("figures", views, key="review-figures", label="Figures") if len(views) > 1 else "yours"
    if view == "team":
        team(current)
    elif view == "slipped":
        slipped.show(current)
    elif view == "known":
        practice.known_answers(current)
    else:
        yours(current)


def _since(view: str) -> str | None:
    period = frame.url_choice("period", "Time", list(PERIODS), "28", PERIODS.__getitem__, width=180)
    if period == "all":
        return None
    return (times.now() - timedelta(days=int(period))).astimezone(UTC).isoformat(timespec="milliseconds")


# Yours --------------------------------------------------------------------------------------------


def yours(current: Dataset) -> None:
    """One's own decisions, how right and how fast they are, and what became of what one escalated."""
    me = frame.user()
    if practice.warm_up(current, me):
        return
    found = measures.yours(current.id, me)
    today = times.now().replace(hour=0, minute=0, second=0, microsecond=0)
    if not found.decided:
        frame.empty(
            "You have decided nothing here yet",
            "Your figures stand here once you have: how many, how fast, and how many were right where the answer is known. You see them first.",
            "To the queue",
            "review.py",
            ":material/rate_review:",
            {"view": "queue"},
        )
        return
    with st.container(horizontal=True, gap="large"):
        st.metric("Today", f"{_made(current, me, today):,}", help="Decisions since midnight, your time")
        st.metric("Last 7 days", f"{_made(current, me, times.now() - timedelta(days=7)):,}")
        st.metric("Seconds per decision", f"{found.pace.median:.1f}" if found.pace else "not timed", help=_pace_help(found.pace))
        st.metric("Right on known answers", _short(found.known), help=_help(found.known))
    st.markdown(f"**Known answers:** {_known_words(found.known)}")
    st.markdown(f"**Where somebody else decided, too:** {_share(measures.right(found.judged))}.")
    st.caption(f"{TRUTH} What was escalated or appealed is the hardest there is, so this is no average of your work.")
    wrong = [one for one in found.judged if not one.right]
    with st.container(horizontal=True):
        _button("Answers that differ", wrong, "yours-wrong", "yours")
        _button("All that was compared", found.judged, "yours-judged", "yours")
        st.button("All your decisions", key="yours-decisions", on_click=st.query_params.update, args=({"view": "decisions", "by": me},))
    _outcomes("What became of what you escalated", found.escalated, "yours-escalated")
    _outcomes("Appeals against your decisions", found.appealed, "yours-appealed")
    gallery.chosen("yours", _words(found.judged))


def _made(current: Dataset, by: str, since: object) -> int:
    at = since.astimezone(UTC).isoformat(timespec="milliseconds")  # type: ignore[attr-defined]
    return sum(one.verdict in (*FINAL, "escalated") for one, _ in decisions.made(current.id, by, at))


def _known_words(one: Share) -> str:
    if not one.n:
        return "you have answered none yet. They are mixed into the queue where a policy says so, and look like any other picture."
    return f"{_share(one)} right."


def _outcomes(title: str, some: Sequence[Outcome], key: str) -> None:
    if not some:
        return
    st.subheader(f"{title} ({len(some):,})", anchor=False)
    lines = []
    for one in some[: gallery.PER_PAGE]:
        note = f" “{frame.plain(one.note)}”" if one.note else ""
        if one.final is None:
            said = "It waits for somebody else."
        elif one.said is None:
            said = f"It was decided as **{frame.plain(one.final)}**."
        else:
            said = (
                "It was **upheld**." if one.upheld else f"It was **overturned**: {frame.plain(one.said)} became {frame.plain(one.final)}."
            )
        lines.append(f"- {said}{note}")
    st.markdown("\n".join(lines))
    ids = [one.submission_id for one in some]
    st.button("Show the pictures", icon=":material/photo_library:", key=key, on_click=gallery.choose, args=("yours", title, ids))


def _button(title: str, some: Sequence[Judged], key: str, where: str) -> None:
    ids = [one.submission_id for one in some]
    st.button(f"{title}: **{len(ids):,}**", key=key, on_click=gallery.choose, args=(where, title, ids), disabled=not ids)


# The team -----------------------------------------------------------------------------------------

COLUMNS = {
    "who": "Person",
    "decided": "Decided on",
    "known": "Right, known answers",
    "judged": "Right, against the final answer",
    "agreement": "Same answer as the other, second opinions",
    "pace": "Seconds per decision",
    "shown": "Network's mistakes taken over, shown",
    "blind": "the same, hidden",
}


def team(current: Dataset) -> None:
    """Everybody and the network, in alphabetical order; a click on a number shows its pictures."""
    found = measures.team(current.id, _since("team"))
    if found.nameless:
        said = "decision was" if found.nameless == 1 else "decisions were"
        st.caption(f"{found.nameless:,} {said} made by people who gave no name, as Review allowed before it asked: counted for nobody.")
    if not found.people:
        st.info("Nobody whose name is known has decided anything in this time. Choose a longer one.", icon=":material/group:")
        return
    everybody = [*found.people, found.network]
    st.caption(
        f"{TRUTH} {LITTLE} In brackets 95% intervals. People stand in alphabetical order: intervals that overlap say nothing of who is better. Click a number to see its pictures."
    )
    table = pd.DataFrame([_row(one) for one in everybody]).rename(columns=COLUMNS)
    key = "team-table"

    def clicked() -> None:
        for row, column in st.session_state[key]["selection"]["cells"]:
            _choose(everybody[row], next(name for name, title in COLUMNS.items() if title == column))

    st.dataframe(
        table,
        hide_index=True,
        key=key,
        on_select=clicked,
        selection_mode="single-cell",
        column_config={COLUMNS["who"]: st.column_config.Column(pinned=True)},
    )
    _network_words(found.network)
    names = {one.who: one for one in (found.everybody, *everybody)}
    if st.session_state.get("team-who") not in names:
        st.session_state.pop("team-who", None)
    who = names[str(st.selectbox("Of", list(names), key="team-who", width=260))]
    if who is not found.network:
        left, right = st.columns(2, gap="large")
        with left:
            _agreement(who)
        with right:
            _hints(who)
    st.subheader("Given against final", anchor=False)
    _confusion(who)
    every = {one.submission_id: one for one in who.judged}
    gallery.chosen("team", _words(every.values()))


def _row(one: Figures) -> dict[str, str]:
    network = one.who == measures.NETWORK
    return {
        "who": one.who,
        "decided": f"{len(one.decided):,}",
        "known": _cell(one.known),
        "judged": _cell(measures.right(one.judged)),
        "agreement": "" if network else _figure(one.agreement.raw, percent=True),
        "pace": "" if network else f"{one.pace.median:.1f} (n = {one.pace.n:,})" if one.pace else "not timed",
        "shown": "" if network else _cell(one.hint.shown),
        "blind": "" if network else _cell(one.hint.blind),
    }


def _choose(one: Figures, column: str) -> None:
    ids = {
        "who": one.decided,
        "decided": one.decided,
        "known": [row.submission_id for row in one.judged if row.known],
        "judged": [row.submission_id for row in one.judged],
        "agreement": tuple(one.twice),
        "pace": one.decided,
        "shown": measures.swayed(one.judged, "shown"),
        "blind": measures.swayed(one.judged, "blind"),
    }[column]
    st.session_state["team-who"] = one.who
    gallery.choose("team", f"{one.who}, {COLUMNS[column].lower()}", ids)


def _network_words(one: Figures) -> None:
    st.caption(
        f"The network stands against everything that people decided. Who sees its answer leans to it: on those decided without it, it was right "
        f"in {_share(one.blind)}."
    )


Line = tuple[str, str, tuple[int, ...]]  # what is counted, the number, its items


def _numbers(key: str, who: str, lines: Sequence[Line]) -> None:
    """Numbers that lead to their pictures by a click."""

    def clicked() -> None:
        for row, _ in st.session_state[key]["selection"]["cells"]:
            gallery.choose("team", f"{who}: {lines[row][0]}", lines[row][2])

    table = pd.DataFrame([line[:2] for line in lines], columns=["Of what", "Value"])
    st.dataframe(table, hide_index=True, key=key, on_select=clicked, selection_mode="single-cell", width="stretch")


def agreeing(one: Figures) -> list[Line]:
    """How far answers to the same picture agree."""
    said, every = one.agreement, tuple(one.twice)
    of_class = [
        (f"Where one says {name}", _figure(each, percent=True), tuple(item for item, answers in one.twice.items() if name in answers))
        for name, each in said.by_class.items()
        if each.n
    ]
    return [
        ("The same answer twice", _figure(said.raw, percent=True), every),
        ("Krippendorff's α", _figure(said.alpha), every),
        ("Gwet's AC1", _figure(said.ac1), every),
        *of_class,
    ]


def swayed(one: Figures) -> list[Line]:
    """How many wrong answers of the network were given, too."""
    said = one.hint
    return [
        ("Taken over where it was shown", _share(said.shown), measures.swayed(one.judged, "shown")),
        ("Taken over where it was hidden", _share(said.blind), measures.swayed(one.judged, "blind")),
    ]


def _agreement(one: Figures) -> None:
    everybody = one.who == measures.EVERYBODY
    st.subheader("How far people agree" if everybody else f"How far {frame.plain(one.who)} and the others agree", anchor=False)
    if not one.agreement.n:
        whose = "No picture" if everybody else f"None of {frame.plain(one.who)}'s pictures"
        st.caption(f"{whose} was drawn for a second opinion yet. A policy says how many are.")
        return
    _numbers(f"team-agreement-{one.who}", one.who, agreeing(one))
    st.caption(
        "α: 1 is always, 0 is what chance would do; AC1: the same, and steady where a class is rare. On pictures drawn at random for a "
        "second opinion only: those that were escalated are the hard ones."
    )


def _hints(one: Figures) -> None:
    st.subheader("Do the network's mistakes mislead?", anchor=False)
    said = one.hint
    if not said.shown.n and not said.blind.n:
        st.caption(
            "Not known yet: it takes wrong answers of the network, drawn for a second opinion, some shown and some hidden by the policy."
        )
        return
    _numbers(f"team-hint-{one.who}", one.who, swayed(one))
    if said.difference is not None:
        d = said.difference
        verdict = "the hint misleads" if d.low > 0 else "the hint helps against mistakes" if d.high < 0 else "this may be chance"
        st.markdown(f"Difference {100 * d.value:+.1f} points ({100 * d.low:+.1f} to {100 * d.high:+.1f}): **{verdict}**.")


def _confusion(one: Figures) -> None:
    c = one.confusion
    if not one.judged:
        st.caption("Nothing of this can be compared with a final answer yet.")
        return
    table = pd.DataFrame(c.counts, index=pd.Index(c.classes, name="Final answer"), columns=list(c.classes))
    key = f"team-confusion-{one.who}"

    def clicked() -> None:
        for row, column in st.session_state[key]["selection"]["cells"]:
            if column in c.classes:
                ids = [r.submission_id for r in one.judged if r.final == c.classes[row] and r.given == column]
                gallery.choose("team", f"{one.who}: is {c.classes[row]}, given {column}", ids)

    st.dataframe(table, key=key, on_select=clicked, selection_mode="single-cell", width="content")
    lines = [f"{frame.plain(name)}: {_share(share)}" for name, share in c.by_class.items() if share.n]
    st.caption(f"Rows are the final answer, columns the one given; n = {c.right.n:,}. Right by class: {'; '.join(lines)}.")


# In words -----------------------------------------------------------------------------------------


def _share(one: Share) -> str:
    if one.interval is None:
        return "none counted yet"
    if one.n < TOO_FEW:
        return f"{one.k:,} of {one.n:,}"
    return f"{one.interval.value:.1%} ({_ends(one.interval)}; {one.k:,} of {one.n:,})"


def _cell(one: Share) -> str:
    if one.interval is None:
        return "none yet"
    return f"{one.k:,} of {one.n:,}" if one.n < TOO_FEW else f"{one.interval.value:.1%} ({_ends(one.interval)}), n = {one.n:,}"


def _ends(one: Interval) -> str:
    return f"{one.low:.0%} to {one.high:.0%}"


def _short(one: Share) -> str:
    if one.interval is None:
        return "none yet"
    return f"{one.k} of {one.n}" if one.n < TOO_FEW else f"{one.interval.value:.1%}"


def _help(one: Share) -> str:
    return LITTLE if one.n < TOO_FEW or one.interval is None else f"95% interval {_ends(one.interval)}, n = {one.n:,}"


def _pace_help(one: Pace | None) -> str:
    if one is None:
        return "No decision was timed yet"
    between = f" (95% interval {one.interval.low:.1f} to {one.interval.high:.1f})" if one.interval else ""
    return f"The median{between}, n = {one.n:,}; half of them took {one.quartiles[0]:.1f} to {one.quartiles[1]:.1f} s"


def _figure(one: Figure, percent: bool = False) -> str:
    if one.value is None:
        return f"undefined (n = {one.n:,})" if one.n else "none yet"
    if percent and one.n < TOO_FEW:
        return f"{round(one.value * one.n):,} of {one.n:,}"
    form = "{:.0%}" if percent else "{:.2f}"
    between = f"{form.format(one.interval.low)} to {form.format(one.interval.high)}; " if one.interval else ""
    return f"{form.format(one.value)} ({between}n = {one.n:,})"


def _words(rows: object) -> gallery.Words:
    """What was said of an item beside what it is."""
    by_id: dict[int, Judged] = {one.submission_id: one for one in rows}  # type: ignore[attr-defined]

    def words(item: Submission) -> str:
        if one := by_id.get(item.id):
            return one.final if one.right else f"{one.given}, is {one.final}"
        if item.state == "decided":
            return NONE if item.verdict == "rejected" else item.label or ""
        return "a known answer" if item.state == "known" else "not decided yet"

    return words
