"""Everything that was predicted: found, sorted, sent to review, taken out as CSV or JSONL, and removed when it is old."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import get_args

import streamlit as st

from core import roles
from core.api import signing
from core.data import images, queue
from core.data.queue import State, Submission, Which
from core.errors import AppError
from core.review import batch, near, predict, review, taken
from core.review.near import Found
from core.types import Band, Dataset, Run
from pages.parts.predict import removal
from pages.shared import frame, times

PER_PAGE = 24
MOST_SENT = 2000  # at once
STATES: dict[str, tuple[str, tuple[State, ...]]] = {
    "any": ("Any", ()),
    "predicted": ("Answered, sent to nobody", ("predicted",)),
    "waiting": ("Wait for a person", queue.OURS),
    "passed": ("Passed", ("passed",)),
    "blocked": ("Blocked", ("blocked",)),
    "decided": ("Decided", ("decided",)),
}
BANDS: dict[Band, str] = {"pass": "passes", "ask": "a person is asked", "block": "blocked"}
UNKNOWN: tuple[State, ...] = tuple(one for one in get_args(State) if one != "known")


def show(current: Dataset, runs: Sequence[Run]) -> None:
    """The page of all answers, by the filters in its URL."""
    names = {one.id: one.name for one in runs}
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters"):
        text = st.text_input("Name or hash", key="q", bind="query-params", icon=":material/search:", placeholder="part of the name")
        state = frame.url_choice("state", "State", list(STATES), "any", lambda name: STATES[name][0])
        label = frame.url_choice("answer", "Answer", ["", *current.classes], "", lambda name: name or "Any")
        sort = frame.url_choice("sort", "Order", list(queue.SORTS), "newest", str.capitalize)
        which_run = frame.url_choice("by", "Network", ["", *names], "", lambda one: names.get(one, "Any"))
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover("Find by picture", icon=":material/image_search:"):
            sought = st.file_uploader(
                "Drop a picture to find it again", type=sorted(images.EXTENSIONS), key="find-picture",
                help="Finds the very same file, and copies in another size, format or quality. Nothing is stored.",
            )  # fmt: skip
        blur = st.toggle("Blur pictures", key="blur", bind="query-params")
    states = STATES[state][1]
    if not states and not roles.current().may("lead", current.id):
        states = UNKNOWN  # which pictures measure people, leads alone see
    which = Which(states, text or "", label or None, None, which_run or None)
    if sought is not None:
        _again(current, near.find(current.id, sought.name, sought.getvalue(), which), sought.name, names, blur)
        return
    n = queue.count(current.id, which)
    if batch.asking(current.id):
        _follow(current, which, n)
    if not n:
        words = "Nothing was predicted here yet." if which in (Which(), Which(UNKNOWN)) else "Nothing fits these filters."
        st.info(f"{words} What you ask about stays here until it is removed.", icon=":material/search_off:")
        removal.button(current)
        return
    key = f"answers-{which}-{sort}"
    pages = -(-n // PER_PAGE)
    number = min(frame.page_number(key), pages)
    rows = review.browse(current.id, which, sort, (number - 1) * PER_PAGE, PER_PAGE)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{n:,}** picture{'s' if n != 1 else ''}", width="stretch")
        if frame.may("ask", current.id, say=False):
            unsent = [one.id for one in rows if one.state == "predicted"]
            st.button(
                f"Send {len(unsent):,} of this page to review", icon=":material/rate_review:", disabled=not unsent, key="send-page",
                on_click=send, args=(current, unsent), help="Those that were sent to nobody yet.",
            )  # fmt: skip
            every = replace(which, states=("predicted",)) if not states or "predicted" in states else None
            if every and (left := queue.count(current.id, every)) > len(unsent):
                st.button(
                    f"Send all {min(left, MOST_SENT):,}", icon=":material/rate_review:", key="send-all", type="tertiary", on_click=send_all,
                    args=(current, every, sort), help="Of all pages, as the filters leave them; those sent to nobody yet.",
                )  # fmt: skip
        by, exports = frame.user(), frame.may("export", current.id, say=False)
        forms: tuple[tuple[taken.Form, str], ...] = (("csv", "text/csv"), ("jsonl", "application/x-ndjson"))
        for form, mime in forms if exports else ():
            st.download_button(
                form.upper(), frame.deferred(partial(taken.stored, current.id, which, sort, form, by)), f"{current.name}-predictions.{form}",
                mime, icon=":material/download:", on_click="ignore", key=f"as-{form}",
            )  # fmt: skip
        removal.button(current)
    if n > taken.MOST and exports:
        st.caption(f"CSV and JSONL hold the first {taken.MOST:,} in this order: filter for the others.")
    _cards([(one, "") for one in rows], names, blur)
    if pages > 1:
        frame.pager(pages, key)
    frame.may("export", current.id)


@st.fragment(run_every=2.0)
def _follow(current: Dataset, which: Which, n: int) -> None:
    """While pictures are asked about in the background, what was answered is here by itself."""
    with frame.guarded("answers"):
        st.caption(":material/hourglass_top: Pictures are being asked about in the background; their answers come here by themselves.")
        if not removal.is_open() and (queue.count(current.id, which) != n or not batch.asking(current.id)):
            st.rerun()


def _again(current: Dataset, found: Found, name: str, names: dict[str, str], blur: bool) -> None:
    """What was predicted of a picture that somebody brings, the very same file first."""
    n = len(found.items)
    many = f" and {found.more:,} more" if found.more else ""
    what = f"{n:,} picture{'s' if n != 1 else ''}{many} like it" if n else "neither this file nor a copy of it"
    st.markdown(f"**{frame.plain(name)}**: {what} among what the filters above leave.")
    if found.unread:
        st.warning(f"Only the very same file was looked for: {frame.plain(found.unread)}", icon=":material/broken_image:")
    elif found.flat:
        st.caption("The picture is of one colour, so there is nothing to know a copy by: only the very same file was looked for.")
    else:
        old = f" {found.without:,} older ones are compared within a day; of them only the same file is found." if found.without else ""
        st.caption(
            f"Compared with {found.compared:,} pictures by 64 marks of light and dark. A picture cut by more than a little is not found.{old}"
        )
    if found.alike:
        st.info(
            "Many pictures here are as near as these: they resemble each other, so copies are not told from others.", icon=":material/info:"
        )
    _cards([(one, near.sure(match)) for one, match in found.items], names, blur)


def _cards(rows: Sequence[tuple[Submission, str]], names: dict[str, str], blur: bool) -> None:
    """Pictures, each with something to be said of it."""
    others = queue.answers_of([one.id for one, _ in rows])
    with st.container(key="blurred-answers" if blur else "clear-answers"):
        st.html(f'<ul class="answers">{"".join(card(one, others.get(one.id, []), names, said) for one, said in rows)}</ul>')


def card(one: Submission, others: Sequence[tuple[str, str, float]], names: dict[str, str], also: str = "") -> str:
    """One picture with its top-k bars, where it stands, and what other networks say if they disagree."""
    esc = html.escape
    try:
        picture = (
            f'<img src="{esc(signing.upload_url(one.dataset_id, review.picture(one), stored=False))}" alt="{esc(one.name)}" loading="lazy">'
        )
    except AppError:
        picture = '<span class="gone">not stored any more</span>'
    top = sorted(one.probabilities.items(), key=lambda pair: -pair[1])[:3]
    bars = "".join(f'<li><span>{esc(name)}</span><i><b style="width:{p:.1%}"></b></i><small>{p:.1%}</small></li>' for name, p in top)
    said = queue.SAID["waiting" if one.state in ("second", "audit") else one.state]
    if one.state == "decided":
        said = f"decided: {one.label or 'none of the classes'}, by {one.decided_by}"
        said += f" (the policy: {BANDS[one.band]})" if one.band else ""
    differ = [(run, label, p) for run, label, p in others if label != one.predicted and run != one.run_id]
    told = "".join(f'<p class="differs">{esc(names.get(run, "a deleted run"))} says {esc(label)} ({p:.0%})</p>' for run, label, p in differ)
    told += f'<p class="found">{esc(also)}</p>' if also else ""
    unsure = f"<em>unsure: below {predict.UNSURE:.0%}</em>" if one.probability < predict.UNSURE else ""
    return (
        f'<li>{picture}<div><strong title="{esc(one.name)}">{esc(one.name)}</strong><ol>{bars}</ol>'
        f"<p>{esc(said)} {unsure}<br><small>{esc(names.get(one.run_id, 'a deleted run'))} · {esc(times.when(one.at))}</small></p>{told}</div></li>"
    )


def send(current: Dataset, ids: Sequence[int]) -> None:
    """Those that were seen, whatever has come since."""
    with frame.told():
        sent, gone = review.send(current.id, ids, frame.user())
        left = f" {gone:,} could not be sent: not stored any more." if gone else ""
        st.toast(f"{sent:,} sent to review.{left}", icon=":material/rate_review:")


def send_all(current: Dataset, which: Which, sort: str) -> None:
    with frame.told():
        send(current, [one.id for one in queue.browse(current.id, which, sort, 0, MOST_SENT)])
