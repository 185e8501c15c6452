"""Who did what: the audit, for those who may read it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pandas as pd
import streamlit as st

from core.data import audit, people, store
from core.data.audit import Entry, Which
from core.train import train
from core.types import Dataset, Run, now
from pages.shared import frame, thumbs, times
from pages.shared.detail import drawer

PER_PAGE = 25
SHOWN = 24  # images of an entry
SHORT, LONG = 60, 2000  # characters of a value in a line, and of one that is shown
FEW = 3  # parts of a value in a line
VERDICT, OPEN = "audit-verdict", "audit-open"
NUMBERED = {"submission": "prediction", "policy": "policy"}  # what is only a number of


def chain() -> None:
    """In one sentence, whether the entries are as they were written, and a button to find out."""
    last, outside, fits = audit.standing()
    with st.container(horizontal=True, vertical_alignment="center", key="audit-chain"):
        if not fits:
            st.error("**The audit does not go on from the head outside the database.** Verify names the entry.", icon=":material/error:")
        elif last is None:
            st.markdown("Nothing has been recorded yet.", width="stretch")
        else:
            head = (
                f"Its head was last written outside the database {times.when(outside.at)}"
                if outside
                else "Its head is written outside the database daily"
            )
            st.markdown(f":material/link: {last.seq:,} entries, each holding the SHA-256 of the one before. {head}.", width="stretch")
        if last is not None and st.button("Verify", icon=":material/verified_user:", help="Reads every entry: 20 seconds for a million."):
            bar = st.progress(0.0, "Verifying")
            step = [0]

            def tell(done: int, total: int, what: str) -> None:
                if done - step[0] >= total // 100:
                    step[0] = done
                    bar.progress(done / total, what)

            st.session_state[VERDICT] = (audit.verify(tell), now())
            bar.empty()
    if VERDICT in st.session_state:
        found, at = st.session_state[VERDICT]
        (st.error if found.problem else st.success)(
            f"{frame.plain(found.words)} Verified {times.when(at)}.", icon=":material/error:" if found.problem else ":material/verified:"
        )


def filters() -> Which:
    """What is wanted, kept in the URL."""
    kinds = {"": "Everything"} | {kind: words[0].upper() + words[1:] for kind, words in audit.KINDS.items()}
    with st.container(horizontal=True, vertical_alignment="bottom", key="audit-filters"):
        by = st.text_input("Person", key="person", bind="query-params", on_change=frame.first_page, icon=":material/person:", width=170)
        kind = frame.url_choice("kind", "What was done", list(kinds), "", kinds.__getitem__, width=220)
        since = st.date_input(f"From ({times.zone_title()})", None, key="from", bind="query-params", on_change=frame.first_page, width=155)
        until = st.date_input("Until and with", None, key="until", bind="query-params", on_change=frame.first_page, width=155)
        image = st.text_input(
            "Image", key="image", bind="query-params", on_change=frame.first_page, icon=":material/image:", width=200,
            placeholder="its id", help="The id stands among the facts of an image.",
        )  # fmt: skip
    last = until + timedelta(days=1) if isinstance(until, date) else None
    return Which((by or "").strip(), kind, _midnight(since), _midnight(last), (image or "").strip())


def _midnight(day: Any) -> str:
    """The beginning of the viewer's day in UTC; "" without one."""
    if not isinstance(day, date):
        return ""
    return datetime.combine(day, time(), times.zone()).astimezone(UTC).isoformat(timespec="milliseconds")


def entries(which: Which) -> None:
    number = frame.page_number(f"audit-{which}")
    found, total = audit.search(which, number, PER_PAGE)
    pages = max(1, -(-total // PER_PAGE))
    if number > pages:
        number = st.session_state[f"audit-{which}"] = pages
        found, total = audit.search(which, number, PER_PAGE)
    if not found:
        st.info("Nothing of this kind was recorded.", icon=":material/filter_alt_off:")
        return
    with st.container(key="audit-entries", gap=None):
        for subject in _subjects(found):
            line(subject)
    with st.container(horizontal=True, vertical_alignment="center", key="audit-pager"):
        st.caption(f"{total:,} {'entries' if total != 1 else 'entry'}, {PER_PAGE} a page, newest first.", width="content")
        if pages > 1:
            frame.pager(pages, f"audit-{which}")


@dataclass(frozen=True)
class Subject:
    """An entry, and what of its subject is there today."""

    entry: Entry
    dataset: Dataset | None  # also one that was deleted
    run: Run | None
    person: bool
    image: str  # its only one, "" where that is not in the dataset

    @property
    def live(self) -> Dataset | None:
        return self.dataset if self.dataset and not self.dataset.deleted_at else None


def _subjects(found: list[Entry]) -> list[Subject]:
    datasets = {one.id: one for one in (*store.list_datasets(), *store.list_datasets(deleted=True))}
    runs = {one.run.id: one.run for one in train.list_runs()}
    here = people.here([entry.on["person"] for entry in found if "person" in entry.on])
    subjects, single = [], dict[int, list[str]]()
    for entry in found:
        run, images = runs.get(entry.on.get("run", "")), entry.on.get("images") or []
        dataset = datasets.get(entry.on.get("dataset", run.dataset_id if run else 0))
        subjects.append(Subject(entry, dataset, run, entry.on.get("person") in here, images[0] if len(images) == 1 else ""))
        if len(images) == 1 and dataset is not None:
            single.setdefault(dataset.id, []).append(images[0])
    known = {(i, one) for i, ids in single.items() for one in store.known_images(i, ids)}
    return [replace(one, image=one.image if one.live and (one.live.id, one.image) in known else "") for one in subjects]


def line(subject: Subject) -> None:
    """What was done, by whom, on what, and the ways there."""
    entry = subject.entry
    shown = st.session_state.get(OPEN) == entry.seq
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key=f"row-audit-{entry.seq}"):
        what = "  ·  ".join(frame.plain(one) for one in _on(subject))
        st.markdown(
            f"**{frame.plain(audit.KINDS.get(entry.kind, entry.kind))}**  ·  {what}  \n"
            f":small[:gray[{entry.seq:,}, {frame.plain(entry.by)}, {times.when(entry.at)}]]",
            width="stretch",
        )
        with st.container(horizontal=True, width="content"):
            st.button(
                "Hide" if shown else "Show", icon=":material/visibility_off:" if shown else ":material/visibility:", type="tertiary",
                key=f"show-{entry.seq}", on_click=_show, args=(None if shown else entry.seq,),
            )  # fmt: skip
            if subject.image:
                st.button(
                    "Image", icon=":material/image:", type="tertiary", key=f"image-{entry.seq}", on_click=_open,
                    args=(subject.live, subject.image),
                )  # fmt: skip
            for title, icon, page, query in ways(subject):
                if st.button(title, icon=icon, type="tertiary", key=f"{title}-{entry.seq}"):
                    st.switch_page(page, query_params=query)
    if shown:
        details(subject)


def ways(subject: Subject) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """Where the things stand that it speaks of: a word, an icon, a page and its query."""
    entry, on = subject.entry, subject.entry.on
    here = {"dataset": subject.live.name} if subject.live else {}
    if subject.run:
        yield "Run", ":material/model_training:", "train.py", {"run": subject.run.id, **here}
    if entry.kind.startswith("review.") and on.get("images") and here:
        text = on["images"][0] if len(on["images"]) == 1 else ""
        yield "Decisions", ":material/gavel:", "review.py", {**here, "view": "decisions", "all": "1", "q": text}
    if "policy" in on and here:
        yield "Policy", ":material/policy:", "review.py", {**here, "view": "policy", "policy": "versions", "no": str(on["policy"])}
    if "rule" in on and here:
        yield "Rule", ":material/auto_delete:", "predict.py", {**here, "view": "all"}
    if subject.person:
        yield "Person", ":material/person:", "people.py", {"find": on["person"]}
    if "token" in on:
        yield "Tokens", ":material/key:", "home.py", {"tokens": "1"}
    if subject.dataset:
        view = "Classes" if entry.kind.startswith("class.") else "Browse"
        yield "Dataset", ":material/photo_library:", "dataset.py", {**here, "view": view} if here else frame.IMPORT


def _on(subject: Subject) -> list[str]:
    """What the entry speaks of, and what became of it."""
    entry, dataset = subject.entry, subject.dataset
    images = entry.on.get("images")
    told = [f"{len(images):,} image{'' if len(images) == 1 else 's'}"] if images else []
    if dataset or "dataset" in entry.on:
        name = dataset.name if dataset else f"dataset {entry.on['dataset']}"
        told.append(name if subject.live else f"{name} (deleted)")
    if "run" in entry.on:
        told.append(subject.run.name if subject.run else f"{entry.on['run']} (deleted)")
    told += [f"{NUMBERED.get(key, '')} {value}".strip() for key, value in entry.on.items() if key not in ("images", "dataset", "run")]
    if changed := _changed(entry.before, entry.after):
        told.append(changed)
    return told


def _changed(before: Any, after: Any) -> str:
    """label: cat → dog."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        one = after if isinstance(after, dict) else before if isinstance(before, dict) else {}
        return ", ".join(f"{_key(key)}: {_words(value)}" for key, value in one.items() if key != "config")
    both = [f"{_key(key)}: {_words(before[key])} → {_words(after[key])}" for key in before if key in after and before[key] != after[key]]
    new = [f"{_key(key)}: {_words(one)}" for key, one in after.items() if key not in (*before, "source") and one not in (None, "")]
    return ", ".join(both + new)


def _key(key: str) -> str:
    return key.replace("_", " ")


def _words(value: Any, most: int = FEW, cut: int = SHORT) -> str:
    """most: parts that are named, cut: characters of each."""
    if most == FEW and isinstance(value, list | dict) and len(value) > FEW:
        return "several"
    if isinstance(value, list):
        more = f" and {len(value) - most:,} more" if len(value) > most else ""
        return f"{', '.join(_words(one, most, cut) for one in value[:most])}{more}" or "none"
    if isinstance(value, dict):  # dog (lower 0.1, upper 0.9)
        words = ((_key(key), _words(one, most, cut), isinstance(one, dict)) for key, one in value.items())
        return ", ".join(f"{key} ({one})" if deep else f"{key} {one}" for key, one, deep in words) or "none"
    text = {None: "none", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)
    if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*", text):
        with suppress(ValueError, OverflowError):  # a class may be called so, with a day that no calendar has
            return times.stamp(text)
    return text if len(text) <= cut else f"{text[:cut]}…"


def details(subject: Subject) -> None:
    """What was before and what after, in words; the entry as it was written; its images."""
    entry, dataset = subject.entry, subject.dataset
    images = list(entry.on.get("images") or [])
    with st.container(key="audit-details"):
        before, after = dict(_parts(entry.before)), dict(_parts(entry.after))
        if keys := dict.fromkeys((*before, *after)):
            table = {"What": list(keys), "Before": [before.get(key, "") for key in keys], "After": [after.get(key, "") for key in keys]}
            st.dataframe(pd.DataFrame({name: column for name, column in table.items() if any(column)}), hide_index=True)
        if images and dataset is not None:
            found = store.get_images(dataset.id, images[:SHOWN])
            if len(images) > len(found):
                st.caption(f"{len(found)} of {len(images):,} images, as they are now.")
            if found and (opened := thumbs.image_grid(dataset, found, key="audit-grid", size=80, caption="label").open):
                _open(dataset, opened)
        few = {**entry.__dict__, "on": {**entry.on, "images": [*images[:SHOWN], *(["…"] if len(images) > SHOWN else [])]}}
        with st.expander("As it was written", icon=":material/data_object:"):
            st.json({key: _few(value) for key, value in (few if images else entry.__dict__).items()}, expanded=2)


def _parts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Each with its name, such as “limits, dog, lower”."""
    if isinstance(value, dict) and value:
        for key, one in value.items():
            yield from _parts(one, f"{name}, {_key(key)}" if name else _key(key))
    elif value not in (None, {}) or name:
        yield name, _words(value, SHOWN, LONG)


def _few(value: Any) -> Any:
    """Long lists cut: the export holds all of it."""
    if isinstance(value, dict):
        return {key: _few(one) for key, one in value.items()}
    return [*value[:SHOWN], "…"] if isinstance(value, list) and len(value) > SHOWN + 1 else value


def _show(seq: int | None) -> None:
    st.session_state[OPEN] = seq


def _open(dataset: Dataset, image_id: str) -> None:
    st.session_state[frame.DRAWER] = ("audit", dataset.id, image_id)


with frame.page("Audit", "Who did what, when, and on what. Nobody can change or remove an entry without being noticed.", writes=False):
    wanted = filters()
    chain()
    entries(wanted)
    if (held := st.session_state.get(frame.DRAWER)) and held[0] == "audit":
        drawer(store.get_dataset(held[1]), None, "audit")
