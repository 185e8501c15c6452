"""The Dataset page's Classes view: adding, renaming, describing, ordering, merging, retiring, and bringing back."""

from __future__ import annotations

import html
import secrets

import streamlit as st

from core import names
from core.api import signing
from core.data import classes, dataset, labels, store
from core.types import Class, Dataset
from pages.shared import frame, thumbs, times
from pages.shared.history import images, say

EDITED = "class-edited"  # the name of the class whose editor is open


def add_class(current: Dataset) -> None:
    """One field; after Enter it is empty for the next name."""
    with (
        st.form(f"new-class-{current.id}", border=False, clear_on_submit=True),
        st.container(horizontal=True, vertical_alignment="bottom"),
    ):
        name = st.text_input("New class", max_chars=80, width=320)
        if st.form_submit_button("Add class", icon=":material/add:", type="primary") and name:
            with frame.told():
                classes.add(current.id, name)
                st.rerun()


def classes_view(current: Dataset) -> None:
    found = classes.of(current.id)
    offered, retired = [c for c in found if not c.retired_at], [c for c in found if c.retired_at]
    edits = frame.may("import", current.id)
    if edits:
        add_class(current)
    _gone(current, offered)
    if not offered:
        st.info("No classes yet. Name what the pictures can show, one class after another.", icon=":material/sell:")
    counts = dataset.counts(current.id).groupby("label")["images"].sum().to_dict()
    flagged = labels.flagged(current.id)
    drawn = {one["name"]: one for one in thumbs.class_list(current)}
    shown = {i.id: i for i in store.get_images(current.id, list({i for c in offered for i in (*c.accepted, *c.rejected)}))}
    pictures = {image_id: signing.thumb_url(image) for image_id, image in shown.items()}
    with st.container(key="classes", gap=None):
        for i, one in enumerate(offered):
            n = int(counts.get(one.name, 0))
            edited = edits and st.session_state.get(EDITED) == one.name
            with st.container(horizontal=True, gap="xsmall", key=f"row-class-{i}"):
                st.html(
                    _words(one, drawn[one.name]["color"], drawn[one.name]["key"], n, flagged.get(one.name, 0), {} if edited else pictures)
                )
                if edits:
                    with st.container(horizontal=True, width="content"):
                        _move(current, offered, i)
                        _edit(one.name, edited)
            if edited:
                _editor(current, one, [c.name for c in offered if c is not one], n, pictures)
    if retired and edits:
        _retired(current, retired)


def _words(one: Class, color: str, key: str, n: int, flagged: int, pictures: dict[str, str]) -> str:
    """The class in a row: colour, key, name, counts, guideline and examples; names are not to be trusted."""
    counted = images(n) + (f", {flagged:,} flagged" if flagged else "")
    head = f'<i style="background:{color}"></i><b>{html.escape(one.name)}</b><kbd>{html.escape(key)}</kbd><span>{counted}</span>'
    text = f"<p>{html.escape(one.guideline)}</p>" if one.guideline else ""
    rows = "".join(
        f'<div class="{kind}"><span>{words}</span>{"".join(_img(pictures[i], words) for i in chosen if i in pictures)}</div>'
        for kind, words, chosen in (("yes", "belongs", one.accepted), ("no", "does not", one.rejected))
        if any(i in pictures for i in chosen)
    )
    return f'<div class="class-row"><div>{head}</div>{text}{rows}</div>'


def _img(url: str, alt: str) -> str:
    return f'<img class="small-picture" src="{html.escape(url)}" alt="{alt}">'


def _edit(name: str, edited: bool) -> None:
    def turn() -> None:
        st.session_state[EDITED] = None if edited else name

    text, icon = ("Close", ":material/close:") if edited else ("Edit", ":material/edit:")
    st.button(text, icon=icon, type="tertiary", key=f"edit-{name}", on_click=turn, help=f"{text} {frame.plain(name)}")


def _move(current: Dataset, offered: list[Class], i: int) -> None:
    names = [c.name for c in offered]
    for step, word, icon in ((-1, "Up", ":material/arrow_upward:"), (1, "Down", ":material/arrow_downward:")):
        j = i + step
        if st.button(word, icon=icon, type="tertiary", key=f"{word}-{names[i]}", disabled=not 0 <= j < len(names)):
            names[i], names[j] = names[j], names[i]
            classes.order(current.id, names)
            st.rerun()


# The editor of one class --------------------------------------------------------------------------


def _gone(current: Dataset, offered: list[Class]) -> None:
    """Says that the class being edited was taken away by somebody, with the text that was not saved."""
    name = st.session_state.get(EDITED)
    if name is None or name in {c.name for c in offered}:
        return
    del st.session_state[EDITED]
    draft = st.session_state.get(f"guideline-{current.id}-{name}")
    kept = f" Your guideline was not saved: {frame.plain(draft)}" if draft else ""
    st.warning(f"“{frame.plain(name)}” is not offered any more: somebody has renamed, merged or retired it.{kept}", icon=":material/info:")


def _editor(current: Dataset, one: Class, others: list[str], n: int, pictures: dict[str, str]) -> None:
    with st.container(border=True, key="class-editor"):
        left, right = st.columns(2, gap="large")
        with left:
            _rename(current, one)
            _guideline(current, one)
        with right:
            _merge_or_retire(current, one, others, n)
            _examples(current, one, pictures)


def _rename(current: Dataset, one: Class) -> None:
    with st.form(f"rename-{current.id}-{one.name}", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input("Name", one.name, max_chars=80)
        if st.form_submit_button("Rename") and name:
            with frame.told():
                st.session_state[EDITED] = classes.rename(current.id, one.name, name, frame.user())
                st.rerun()


def _guideline(current: Dataset, one: Class) -> None:
    key = f"guideline-{current.id}-{one.name}"
    seen = st.session_state.setdefault(f"{key}-seen", one.guideline)
    st.session_state.setdefault(key, one.guideline)
    with st.form(f"describe-{current.id}-{one.name}", border=False):
        text = st.text_area(
            "Guideline", key=key, height=140, max_chars=names.MAX_GUIDELINE, placeholder="What belongs to this class, and what does not?"
        )
        if st.form_submit_button("Save guideline"):
            st.session_state[f"{key}-seen"] = one.guideline  # a second save is meant
            with frame.told():
                classes.describe(current.id, one.name, text or "", seen)
                st.session_state[f"{key}-seen"] = (text or "").strip()
                say("The guideline was saved.", ":material/check:")
                st.rerun()


def _merge_or_retire(current: Dataset, one: Class, others: list[str], n: int) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        into = st.selectbox(
            "Merge into", others, index=None, placeholder="Choose a class", key=f"into-{one.name}", disabled=not others, width=220
        )
        if st.button("Merge …", icon=":material/merge:", key="merge", disabled=into is None):
            _ask(current, one.name, into, n, secrets.token_hex(16))
        if st.button("Retire …", icon=":material/archive:", key="retire", help="It is not offered any more; it can be brought back."):
            _ask(current, one.name, None, n, secrets.token_hex(16))


@st.dialog("Are you sure?")
def _ask(current: Dataset, name: str, into: str | None, n: int, operation: str) -> None:
    with frame.guarded("classes"):
        old = frame.plain(name)
        if into is not None:
            st.markdown(f"Move {images(n)} from “{old}” to “{frame.plain(into)}” and retire “{old}”? Can be undone in History.")
        else:
            st.markdown(f"Retire “{old}” and take the label from {images(n)}? Can be undone in History.")
        with st.container(horizontal=True):
            yes = st.button("Retire" if into is None else "Merge", type="primary", key="class-yes")
            if st.button("Cancel", key="class-no"):
                st.rerun()
        if yes:
            with frame.told():
                if into is None:
                    moved = classes.retire(current.id, name, frame.user(), operation)
                    say(f"“{old}” was retired; {images(moved)} lost the label.", ":material/archive:")
                else:
                    moved = classes.merge(current.id, name, into, frame.user(), operation)
                    say(f"{images(moved)} moved to “{frame.plain(into)}”; “{old}” was retired.", ":material/merge:")
                st.session_state.pop(EDITED, None)
                st.rerun()


def _examples(current: Dataset, one: Class, pictures: dict[str, str]) -> None:
    st.markdown("Examples")
    for words, chosen in (("Belongs to it", one.accepted), ("Does not belong, though it looks like it", one.rejected)):
        if there := [i for i in chosen if i in pictures]:
            st.caption(words)
            with st.container(horizontal=True):
                for image_id in there:
                    with st.container(width=64, gap=None):
                        st.html(_img(pictures[image_id], words))
                        if st.button("Remove", key=f"example-{image_id}", type="tertiary"):
                            classes.set_example(current.id, one.name, image_id, None)
                            st.rerun()
    st.caption("To add one, open an image under *Browse* and use *Example of …* there.")


def _retired(current: Dataset, retired: list[Class]) -> None:
    back = classes.restorable(current.id)
    st.header("Retired", anchor=False)
    with st.container(key="retired", gap=None):
        for i, one in enumerate(retired):
            with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key=f"row-retired-{i}"):
                n = back.get(one.name, 0)
                gets = f"{images(n)} get{'s' if n == 1 else ''} it back" if n else "no image gets it back"
                st.markdown(f"{frame.plain(one.name)}  ·  :gray[retired {times.when(one.retired_at or '')}; {gets}]", width="stretch")
                if st.button("Bring back", icon=":material/undo:", type="tertiary", key=f"restore-class-{one.name}"):
                    with frame.told():
                        n = classes.restore(current.id, one.name, frame.user())
                        say(f"“{frame.plain(one.name)}” is offered again; {images(n)} got it back.", ":material/undo:")
                        st.rerun()
