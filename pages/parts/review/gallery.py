"""The pictures behind a number of Review, page by page, each with a line of words; some can be ticked."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import streamlit as st

from core.api import signing
from core.data import queue
from core.data.queue import Submission
from core.errors import AppError, NotFound
from core.review import review
from pages.shared import frame

PER_PAGE = 24
SHOWN = "review-items"  # in the session: (which list, its title, its items), chosen by a click on a number
GRID = "display:grid;grid-template-columns:repeat(auto-fill,minmax(7.5rem,1fr));gap:.6rem"
IMAGE = "width:100%;aspect-ratio:1;object-fit:cover;border-radius:6px;display:block"
Words = Callable[[Submission], str]


def blur() -> bool:
    """Whether pictures are shown vaguely only, as on the queue; kept in the URL."""
    return st.toggle(
        "Blur pictures", key="blur", bind="query-params", help="Shows them only vaguely, for material that is hard to look at."
    )


def choose(where: str, title: str, ids: Sequence[int]) -> None:
    """Shows these items below the numbers of that part."""
    st.session_state[SHOWN] = (where, title, tuple(ids))
    st.session_state[f"{SHOWN}-page"] = 1


def chosen(where: str, words: Words) -> None:
    """The items that a number of that part has led to; nothing before one was clicked."""
    at, title, ids = st.session_state.get(SHOWN, ("", "", ()))
    if at != where:
        return
    with st.container(key="review-items"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.header(f"{len(ids):,} picture{'' if len(ids) == 1 else 's'}: {frame.plain(title)}", anchor=False)
            st.button(
                "Close",
                icon=":material/close:",
                type="tertiary",
                key="review-items-close",
                on_click=lambda: st.session_state.pop(SHOWN, None),
            )
        pictures(part(ids, f"{SHOWN}-page"), words, blur())
        pager(ids, f"{SHOWN}-page")


def part(ids: Sequence[int], key: str) -> list[Submission]:
    """The items of the page that is on."""
    number = min(int(st.session_state.get(key) or 1), max(1, -(-len(ids) // PER_PAGE)))
    found = []
    for one in ids[(number - 1) * PER_PAGE : number * PER_PAGE]:
        try:
            found.append(review.today(queue.get(one)))
        except NotFound:  # removed by a rule since
            continue
    return found


def pager(ids: Sequence[int], key: str) -> None:
    if (pages := -(-len(ids) // PER_PAGE)) > 1:
        st.session_state[key] = min(int(st.session_state.get(key) or 1), pages)
        st.pagination(pages, key=key)


def url(one: Submission) -> str | None:
    """Where its picture is, for a browser that keeps none of it, as some may have asked; None where the file is gone."""
    try:
        return signing.upload_url(one.dataset_id, review.picture(one), stored=False)
    except AppError:
        return None


def pictures(some: Sequence[Submission], words: Words, vague: bool) -> None:
    if not some:
        st.caption("No picture is counted here.")
        return
    cells = []
    for one in some:
        said, src = html.escape(words(one)), url(one)
        seen = f'<img src="{html.escape(src)}" alt="{said}" loading="lazy" style="{IMAGE}">' if src else "<i>The file is gone.</i>"
        name = html.escape(one.name)
        cells.append(
            f'<figure style="margin:0;overflow:hidden;border-radius:6px" title="{name}">{seen}'
            f'<figcaption style="font-size:.8rem;line-height:1.15rem;overflow-wrap:anywhere">{said}</figcaption></figure>'
        )
    with st.container(key="blurred-items" if vague else "clear-items"):
        st.html(f'<div style="{GRID}">{"".join(cells)}</div>')
