"""The policies of a dataset: its versions and which of them is in force; a new one and the shadow stand in files of their own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import streamlit as st

from core import roles
from core.data import policies
from core.data.policies import Kind, Policy
from core.errors import AppError
from core.review import policy, review, validation
from core.review.bands import Limits
from core.runs import runs
from core.types import Dataset
from pages.parts.review import policy_draft, shadow
from pages.shared import frame, times

PER_PAGE = 10
VIEWS = {"versions": "Versions", "write": "New version", "shadow": "Shadow"}
WORDS: Mapping[Kind, str] = {"active": "active", "shadow": "in the shadow", "off": "off"}
PAGE = "policy-page"
DONE, ERROR = "policy-done", "policy-refused"


def show(current: Dataset) -> None:
    """What passes, what a person is asked and what is blocked: said, measured and made active here."""
    st.caption(
        "A policy decides for every picture that its run predicts: it **passes**, **a person is asked**, or it is **blocked**. It changes "
        "nothing until somebody makes it active."
    )
    if saved := st.session_state.pop(policy_draft.SAVED, None):
        st.toast(f"Saved as No. {saved}. It changes nothing until it is made active.", icon=":material/save:")
    found = policies.of(current.id)
    if not found:
        st.session_state.setdefault(policy_draft.VIEW, "write")
    view = frame.url_view("policy", VIEWS, key=policy_draft.VIEW, label="Part of the policy")
    if view == "write":
        policy_draft.write(current)
    elif view == "versions":
        _versions(current, found)
    else:
        shadow.show(current)


def _versions(current: Dataset, found: list[Policy]) -> None:
    if not found:
        st.info("No policy has been written yet: every picture that is sent to review waits for a person.", icon=":material/info:")
        return
    kinds = policies.kinds(current.id)
    if not any(kind == "active" for kind in kinds.values()):
        st.info("No policy is active: what is predicted waits for a person only where somebody sends it to review.", icon=":material/info:")
    pages = -(-len(found) // PER_PAGE)
    wanted = st.query_params.pop("no", "")  # of the audit
    if at := [i for i, one in enumerate(found) if str(one.id) == wanted]:
        st.query_params["page"] = str(at[0] // PER_PAGE + 1)
    number = min(frame.page_number(PAGE), pages)
    for one in found[(number - 1) * PER_PAGE : number * PER_PAGE]:
        _version(current, one, kinds.get(one.id, "off"))
    if pages > 1:
        frame.pager(pages, PAGE)
    _history(current, found)


def _version(current: Dataset, one: Policy, kind: Kind) -> None:
    may, gone = roles.current().may("policy", current.id), policy.is_gone(one)
    with st.container(key=f"row-policy-{one.id}", gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**No. {one.id} · {frame.plain(one.name)}**", width="content")
            if kind != "off":
                color = "green" if kind == "active" else "gray"
                st.badge(WORDS[kind], icon=":material/gavel:" if kind == "active" else ":material/contrast:", color=color)  # type: ignore[arg-type]
        said = policy.today(one)
        st.markdown("  \n".join(_limits(name, limits, said.promises.get(name)) for name, limits in said.limits.items()))
        st.caption(f"By {frame.plain(one.by)}, {times.when(one.at)}, for the run {frame.plain(_run(one))}.")
        for remark in policy.remarks(one):
            (st.warning if remark.stops else st.info)(
                f"{frame.plain(remark.text)} {frame.plain(remark.todo)}",
                icon=":material/link_off:" if remark.stops else ":material/edit_note:",
            )
        with st.container(horizontal=True, gap="small"):
            for to, text, icon in (
                ("active", "Make active", ":material/gavel:"),
                ("shadow", "Run in the shadow", ":material/contrast:"),
                ("off", "Turn off", ":material/power_settings_new:"),
            ):
                if to != kind and st.button(text, key=f"policy-{to}-{one.id}", icon=icon, disabled=not may or (gone and to != "off")):
                    _ask(current, one, kind, to)  # type: ignore[arg-type]
            st.button(
                "Begin a new version with it", key=f"policy-copy-{one.id}", type="tertiary", icon=":material/content_copy:",
                disabled=not may or gone, on_click=policy_draft.begin_with, args=(one,),
            )  # fmt: skip


def _limits(name: str, limits: Limits, most: float | None) -> str:
    word = frame.plain(name)
    blocked = "blocked only by a person" if limits.upper is None else f"blocked from {limits.upper:.3f} on"
    promised = f"; chosen so that at most {100 * most:g}% pass" if most is not None else ""
    return f"{word}: passes below {limits.lower:.3f}, {blocked}{promised}"


def _run(one: Policy) -> str:
    try:
        return runs.load(runs.folder(one.run_id)).name
    except AppError:
        return f"{one.run_id} (deleted)"


def _changes(current: Dataset, one: Policy, kind: Kind, to: Kind) -> list[str]:
    """What pressing the button changes, in sentences."""
    name = f"No. {one.id}, {frame.plain(one.name)}"
    run = frame.plain(_run(one))
    waiting = review.queue_length(current.id)
    wait = f"The {waiting:,} pictures that wait" if waiting > 1 else "The picture that waits"
    stays = f"{wait} now, and everything decided, stay as they are." if waiting else "What was decided stays."
    other = next((p for p in (policy.active(current.id), policy.shadow(current.id)) if p and policies.kinds(current.id)[p.id] == to), None)
    instead = f" in place of No. {other.id}, {frame.plain(other.name)}" if other and other.id != one.id else ""
    if to == "active":
        said = policy.today(one)
        found = [
            f"From now on every picture that the run **{run}** predicts is sorted by **{name}**{instead}: it passes, waits for a person, "
            f"or is blocked. What is accepted or corrected then waits in the basket until a lead lets it into the dataset."
        ]
        found += _blocks(one, said.limits) or ["Nothing is blocked without a person."]
        return [*found, stays]
    if to == "shadow":
        text = f"**{name}** sorts nothing. From now on *Shadow* counts what it would do with what comes{instead}."
        return [text, "No policy is active then." if kind == "active" else "The active policy stays as it is.", stays]
    if kind == "shadow":
        return [f"*Shadow* no longer shows what **{name}** would do.", "The active policy stays as it is."]
    return [
        f"From now on nothing is sorted by **{name}**: nothing passes and nothing is blocked by itself. What is predicted is kept, and waits "
        "for a person where somebody sends it to review.",
        stays,
    ]


def _blocks(one: Policy, limits: Mapping[str, Limits]) -> list[str]:
    """What is blocked without a person, and on how many images that was measured."""
    held = None
    with suppress(AppError):  # what the run said of its validation images may be gone
        held = validation.of(one.run_id)
    found = []
    for name, said in limits.items():
        if said.upper is not None:
            n = held.count(name) if held and name in held.classes else None
            measured = "on no image any more" if n is None else f"on {n:,} validation image{'s' if n != 1 else ''} of it"
            found.append(f"**{frame.plain(name)}** is blocked without a person from {said.upper:.3f} on, measured {measured}.")
    return found


@st.dialog("Are you sure?")
def _ask(current: Dataset, one: Policy, kind: Kind, to: Kind) -> None:
    with frame.guarded("policy"):
        for text in _changes(current, one, kind, to):
            st.markdown(text)
        words = {"active": "Make it active", "shadow": "Run it in the shadow", "off": "Turn it off"}
        with st.container(horizontal=True):
            st.button(words[to], type="primary", key="policy-sure", on_click=_set, args=(one, to))
            if st.button("Cancel", key="policy-cancel"):
                st.rerun()
        if error := st.session_state.pop(ERROR, None):
            frame.show(error)
        if st.session_state.pop(DONE, False):
            st.rerun()


def _set(one: Policy, to: Kind) -> None:
    try:
        policy.activate(one.id, to, frame.user())
        st.session_state[DONE] = True
    except AppError as e:
        st.session_state[ERROR] = e


def _history(current: Dataset, found: list[Policy]) -> None:
    acts = policies.history(current.id)
    if not acts:
        return
    names = {one.id: one.name for one in found}
    with st.expander(f"What was active when ({len(acts):,} change{'s' if len(acts) != 1 else ''})", icon=":material/history:"):
        st.dataframe(
            [
                {"at": times.column(at), "policy": f"No. {one} · {names.get(one, '')}", "became": WORDS[kind], "by": by}
                for one, kind, by, at in acts
            ],
            hide_index=True,
            column_config={
                "at": st.column_config.TextColumn(f"When ({times.zone_title()})"),
                "policy": st.column_config.TextColumn("Policy"),
                "became": st.column_config.TextColumn("Became"),
                "by": st.column_config.TextColumn("By"),
            },
        )
