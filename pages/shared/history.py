"""What was done to the labels, in words; the Dataset page's History view, and taking back."""

from __future__ import annotations

import html
import secrets
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic

import streamlit as st

from core.api import signing
from core.data import history, labels, removed, store
from core.data.labels import Which
from core.types import Act, Dataset, Image, LabelEvent
from pages.shared import frame, thumbs, times

PER_PAGE = 20
SHOWN = 24  # images of an act
STRIP = 12  # small pictures beside it
LAST = "last-all"  # in the session: the last act on many images: (dataset, operation, what is said of it)
MOVED = {"remove": "removed from the dataset", "return": "brought back into the dataset"}
WHY = {
    "import": "import",
    "manual": "by hand",
    "cluster": "from a cluster",
    "model": "model's answer accepted",
    "review": "review",
    "flag": "by hand",
    "unflag": "by hand",
    "merge": "classes merged",
    "retire": "class retired",
    "restore": "class brought back",
    "undo": "taken back",
    "remove": "by hand",
    "return": "by hand",
}
PERIODS = ("All", "Last hour", "Today", "Last 7 days", "From – to")


def said(name: str | None) -> str:
    return "no label" if name is None else frame.plain(name)


def change(event: LabelEvent) -> str:
    """What an event did to its image."""
    if event.source in MOVED:
        return MOVED[event.source]
    if event.source in ("flag", "unflag"):
        return "flagged" if event.source == "flag" else "flag removed"
    if event.source == "import" and event.label is None and event.previous is None:
        return "brought in without a label"
    if event.label == event.previous:
        return "flag taken back" if event.source == "undo" else f"{said(event.label)} again"
    return f"{said(event.previous)} → {said(event.label)}"


def images(n: int) -> str:
    return f"{n:,} image{'' if n == 1 else 's'}"


def _what(act: Act) -> str:
    if act.source in MOVED:
        return f"{images(act.images)} {MOVED[act.source]}"
    if act.acts > 1:
        what = {"flag": "images flagged", "unflag": "flags removed"}.get(act.source, "labels given")
        given = "" if act.source in ("flag", "unflag") else f" → {'several classes' if act.mixed else said(act.label)}"
        return f"{act.images:,} {what}{given}"
    if act.source in ("flag", "unflag"):
        return f"{images(act.images)} {'flagged' if act.source == 'flag' else 'no longer flagged'}"
    if act.mixed:
        return f"{images(act.images)} → {'what they had before' if act.source == 'undo' else 'several classes'}"
    return f"{images(act.images)} → {said(act.label)}"


def _why(act: Act) -> str:
    return (
        frame.plain(act.note)
        if act.note and act.source in ("merge", "retire", "restore", "remove")
        else WHY.get(act.source, frame.plain(act.source))
    )


def say(text: str, icon: str) -> None:
    """Shown by the next run of the page, whatever interrupts this one: a second click does."""
    st.session_state["said"] = (text, icon)


def spoken() -> None:
    """Shows what was said."""
    if "said" in st.session_state:
        text, icon = st.session_state["said"]
        st.toast(text, icon=icon)
        del st.session_state["said"]


def _undo(current: Dataset, which: Which, operation: str, source: str = "") -> None:
    """source: of the events, where they have one."""
    done = labels.undo(current.id, which, frame.user(), operation)
    if done.images:
        text = f"{images(done.images)} {'has' if done.images == 1 else 'have'} what {'it' if done.images == 1 else 'they'} had before."
        if source in MOVED:
            text = (
                f"{images(done.images)} {'is' if done.images == 1 else 'are'} {'back in' if source == 'remove' else 'out of'} the dataset."
            )
        text += f" {done.stay:,} changed since and stay{'s' if done.stay == 1 else ''}." if done.stay else ""
    else:
        text = f"Nothing was taken back: {images(done.stay)} changed or removed since."
    say(text, ":material/undo:")
    st.rerun()


def history_view(current: Dataset) -> str | None:
    """Everybody's acts, newest first; returns the image that somebody wants to see."""
    which, period = _filters(current)
    pages_key = f"acts-{current.id}-{which.by}-{period}"
    number = frame.page_number(pages_key)
    acts, total = history.told(current.id, number, PER_PAGE, by=which.by, since=which.since, until=which.until)
    pages = max(1, -(-total // PER_PAGE))
    if number > pages:
        number = st.session_state[pages_key] = pages
        acts, total = history.told(current.id, number, PER_PAGE, by=which.by, since=which.since, until=which.until)
    if not acts:
        st.info("Nothing was done to the labels here.", icon=":material/history:")
        return None
    opened = None
    with st.container(key="acts", gap=None):
        for act in acts:
            opened = (_row if act.acts > 1 else _act)(current, act) or opened
    with st.container(horizontal=True, vertical_alignment="center", key="acts-pager"):
        st.caption(
            f"{total:,} {'entries' if total != 1 else 'entry'}, {PER_PAGE} a page. Taking back is an act too, and can be taken back.",
            width="content",
        )
        if pages > 1:
            frame.pager(pages, pages_key)
    return opened


def _filters(current: Dataset) -> tuple[Which, str]:
    """Which acts are wanted, and the period in words."""
    key = f"acts-by-{current.id}"
    people = history.people(current.id)
    st.session_state[key] = st.session_state.get(key) if st.session_state.get(key) in people else ""  # the list of people grows
    with st.container(horizontal=True, vertical_alignment="bottom", key="act-filters"):
        by = st.selectbox("Person", ["", *people], format_func=lambda name: name or "Everybody", key=key, width=220) or None
        period = st.selectbox("Period", PERIODS, key="acts-period", width=180, filter_mode=None)
        since, until = _period(str(period))
        which = Which(by=by, since=_iso(since) if since else None, until=_iso(until) if until else None)
        if (
            by is not None
            and frame.may("label", current.id, say=False)
            and st.button(f"Take back all of {frame.plain(by)} …", icon=":material/undo:", key="take-all")
        ):
            _take_all(current, which, by, _spoken(str(period), since, until), secrets.token_hex(16))
    return which, f"{period}-{since and since.date()}-{until and until.date()}"


def _period(period: str) -> tuple[datetime | None, datetime | None]:
    current = times.now()
    today = _midnight(current.date())
    if period == "Last hour":
        return current - timedelta(hours=1), None
    if period == "Today":
        return today, None
    if period == "Last 7 days":
        return current - timedelta(days=7), None
    if period == "From – to":
        days = st.date_input(f"Days ({times.zone_title()})", (today.date() - timedelta(days=6), today.date()), key="acts-days", width=260)
        first, *rest = days if isinstance(days, tuple) and days else (today.date(),)
        return _midnight(first), _midnight((rest[0] if rest else first) + timedelta(days=1))
    return None, None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), times.zone())


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _spoken(period: str, since: datetime | None, until: datetime | None) -> str:
    if since and until:
        return f" from {since:%d %b} to {until - timedelta(days=1):%d %b %Y}"
    return {"All": "", "Last hour": " in the last hour", "Today": " today", "Last 7 days": " in the last 7 days"}[period]


def _row(current: Dataset, act: Act) -> str | None:
    """Many acts in a row as one line, which opens into them."""
    key = f"acts-of-{act.last}"
    open_key = "row-shown"
    shown = st.session_state.get(open_key) == act.last
    _line(current, act, f"row-{key}", shown, open_key)
    if not shown:
        return None
    with st.container(key="acts-in-row", gap=None):
        number = int(st.session_state.get(key) or 1)
        acts, total = labels.acts(current.id, labels.which(act), number, PER_PAGE)
        opened = [_act(current, one) for one in acts]
        if total > PER_PAGE:
            st.pagination(-(-total // PER_PAGE), key=key)
    return next((one for one in opened if one), None)


def _act(current: Dataset, act: Act) -> str | None:
    shown = st.session_state.get("act-shown") == act.last
    _line(current, act, f"row-act-{act.last}", shown, "act-shown")
    return _images(current, act) if shown else None


def _line(current: Dataset, act: Act, key: str, shown: bool, open_key: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key=key):
        text = f"**{_what(act)}**  ·  {_why(act)}"
        if act.standing < act.images:
            text += f"  ·  :gray[{'all' if not act.standing else f'{act.images - act.standing:,}'} changed since]"
        st.markdown(f"{text}  \n:small[:gray[{frame.plain(act.by)}, {_time(act)}]]", width="stretch")
        _strip(current, act)
        with st.container(horizontal=True, width="content"):
            st.button(
                "Hide" if shown else "Show",
                icon=":material/visibility_off:" if shown else ":material/visibility:",
                type="tertiary",
                key=f"show-{key}",
                on_click=_show,
                args=(open_key, None if shown else act.last),
            )
            if act.standing and frame.may(_verb(act), current.id, say=False):  # gone after the first of two clicks: nothing is left
                help = {
                    "remove": "Its images come back into the dataset, with the labels they had.",
                    "return": "Its images are removed from the dataset again.",
                }.get(act.source, "Its images go back to what they carried before; those changed since stay.")
                title = "Take back" if act.acts == 1 else "Take all back"
                if st.button(title, icon=":material/undo:", type="tertiary", key=f"back-{key}", help=help):
                    with frame.told():
                        if monotonic() - st.session_state.get("undone-at", 0.0) < 1:
                            st.rerun()  # a second click, which fell on the row that has moved here
                        st.session_state["undone-at"] = monotonic()
                        _undo(current, labels.which(act), secrets.token_hex(16), act.source)


def _verb(act: Act) -> str:
    """What taking it back takes: a decision of Review goes with its label."""
    if act.source in MOVED:
        return "delete"
    return "label" if act.source != "review" else "decide" if act.by == frame.user() else "lead"


def _time(act: Act) -> str:
    began, ended = times.when(act.began or act.at), times.when(act.at)
    return ended if began == ended else f"{began} to {ended}"


def _strip(current: Dataset, act: Act) -> None:
    """Some of its pictures, small."""
    found = _shown(current, act, labels.images_of(current.id, act, STRIP, newest=True))
    pictures = "".join(f'<img class="small-picture" src="{html.escape(signing.thumb_url(i))}" alt="">' for i in found)
    if pictures:
        st.html(f'<div class="strip">{pictures}</div>', width=STRIP * 43 if act.acts > 1 else 3 * 43)


def _shown(current: Dataset, act: Act, ids: list[str]) -> list[Image]:
    """Of an act that removed them those that are still removed, too, for who may bring them back."""
    found = store.get_images(current.id, ids)
    if act.source == "remove" and frame.may("delete", current.id, say=False):
        found += removed.get(current.id, ids)
    return found


def _show(open_key: str, last: int | None) -> None:
    st.session_state[open_key] = last


def _images(current: Dataset, act: Act) -> str | None:
    found = _shown(current, act, labels.images_of(current.id, act, SHOWN))
    with st.container(key="act-images"):
        if not found:
            st.caption("These images are not in the dataset any more.")
            return None
        if act.images > len(found):
            st.caption(f"The first {len(found)} of {act.images:,}, with the labels they carry now.")
        return thumbs.image_grid(current, found, key="act-grid", size=80, caption="label").open


@st.dialog("Take back")
def _take_all(current: Dataset, which: Which, by: str, period: str, operation: str) -> None:
    with frame.guarded("take back"):
        found = labels.count_undo(current.id, which)
        stay = f" {images(found.stay)} stay as they are, because something changed or removed them since." if found.stay else ""
        if not found.images:
            st.markdown(f"Nothing is left to take back of what **{frame.plain(by)}** did{period}.{stay}")
            return
        st.markdown(
            f"Take back everything **{frame.plain(by)}** did{period}? "
            f"**{images(found.images)}** go{'es' if found.images == 1 else ''} back to what they carried before.{stay} "
            "This can itself be taken back in History."
        )
        with st.container(horizontal=True):
            if st.button(f"Take back {images(found.images)}", type="primary", icon=":material/undo:", key="take-all-yes"):
                _undo(current, which, operation)
            if st.button("Cancel", key="take-all-no"):
                st.rerun()
