"""What an import saw that had to guess: shown before anything is stored, with the two answers."""

from __future__ import annotations

import html

import streamlit as st

from core.data import imports, store
from core.data.encodings import ENCODINGS
from core.data.sight import CLASSES, ClassSeen, Sight
from core.runs import jobs
from core.types import SPLITS, Skipped
from pages.shared import frame
from pages.shared.history import images

COLUMNS = {"train": "Training", "validation": "Validation", "test": "Test"}


def sight(state: jobs.State, seen: Sight) -> None:
    name = state.job["dataset_name"]
    with st.container(border=True, key="import-sight"):
        st.header("Is this right? Nothing is stored yet", anchor=False)
        st.markdown(f"{images(sum(one.total for one in seen.classes))} of **{frame.plain(imports.title(state))}** into {_into(name)}.")
        st.markdown("**Loupe had to guess**\n" + "\n".join(f"- {frame.plain(one)}" for one in seen.guessed))
        if seen.understood:
            st.markdown("**This was clear**\n" + "\n".join(f"- {frame.plain(one)}" for one in seen.understood))
        if len(seen.readings) > 1:
            _encoding(state, seen)
        with st.container(horizontal=True):
            if st.button("Import", type="primary", icon=":material/download:", key="sight-import"):
                with frame.told():
                    shown(imports.go_on(state.id, frame.user()))
                    st.rerun()
            help = "What was uploaded for it is removed; a folder on the server stays as it is."
            if st.button("Do not import", icon=":material/close:", key="sight-decline", help=help):
                with frame.told():
                    imports.decline(state.id)
                    st.session_state["uploads"] = st.session_state.get("uploads", 0) + 1  # the drop zone forgets what it sent
                    shown(None)
                    st.rerun()
        st.html(_table(seen))
        if more := seen.classes[CLASSES:]:
            with st.expander(f"{len(more):,} more classes", icon=":material/category:"):
                st.dataframe(
                    [{"Class": one.name or "no label", "Images": one.total} for one in more if one.name is not None], hide_index=True
                )
        if seen.skipped:
            with st.expander(f"{len(seen.skipped):,} passed over, with the reason", icon=":material/block:"):
                skipped(seen.skipped)


def _encoding(state: jobs.State, seen: Sight) -> None:
    """Another encoding of the names, and how they would read."""
    taken, key = next(iter(seen.readings)), f"names-in-{state.id}"

    def changed() -> None:
        with frame.told():
            shown(imports.go_on(state.id, frame.user(), st.session_state[key]))

    def title(encoding: str) -> str:
        return f"{seen.readings[encoding]}  ·  {ENCODINGS[encoding]} ({encoding})"

    st.selectbox(
        "The names read right as", list(seen.readings), list(seen.readings).index(taken), title, key=key, on_change=changed, width=460
    )


def skipped(found: list[Skipped]) -> None:
    st.dataframe(
        [{"file": s.name, "reason": s.reason} for s in found],
        hide_index=True,
        column_config={"file": st.column_config.TextColumn("File"), "reason": st.column_config.TextColumn("Why", width="large")},
    )


def shown(import_id: str | None, ended: bool = False) -> None:
    """The import that this page shows, kept in the session and until it has ended in the URL as ?import=, so that a reload finds it."""
    st.session_state["import"] = import_id
    if import_id is None or ended:
        st.query_params.pop("import", None)
    else:
        st.query_params["import"] = import_id


def _into(name: str) -> str:
    found = store.find_dataset(name)
    new = f"a new dataset, “{frame.plain(name)}”"
    return new if found is None else f"“{frame.plain(name)}”, which holds {images(store.count(found.id, store.Filter()))}"


def _table(seen: Sight) -> str:
    given = {split for one in seen.classes for split in one.images}
    titles: dict[str, str] = {
        split: COLUMNS[split] for split in SPLITS if split in given or (split == "train" and seen.joins and "" in given)
    }
    if "" in given and not seen.joins:
        titles[""] = "Images" if not titles else "Split drawn here"
    first = [one for one in seen.classes[:CLASSES] if one.name is not None] + [one for one in seen.classes if one.name is None]
    head = "".join(f'<th scope="col">{title}</th>' for title in titles.values())
    rows = "".join(_row(one, titles, seen.joins) for one in first if one.total)
    return f'<table class="sight-table"><thead><tr><th scope="col">Class</th>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _row(one: ClassSeen, titles: dict[str, str], joins: str) -> str:
    n = {split: one.images.get(split, 0) for split in titles}
    if joins:
        n[joins] += one.images.get("", 0)
    cells = "".join(f'<td data-name="{titles[split]}">{n[split]:,}</td>' for split in titles)
    pictures = "".join(f'<img src="{html.escape(address)}" alt="">' for address in one.pictures)
    name = "<i>no label</i>" if one.name is None else html.escape(one.name)
    return f'<tr><th scope="row"><div><b>{name}</b><span>{pictures}</span></div></th>{cells}</tr>'
