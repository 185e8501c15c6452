"""Decisions on their way into training: accepted or refused, then the run that learned from them beside the one in use."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import pandas as pd
import streamlit as st

from core import roles
from core.data import decisions, events, originals, queue, routed, store
from core.data.policies import Policy
from core.data.queue import Submission
from core.errors import AppError
from core.review import measures, policy, quality, renewal, report, review
from core.review.bands import Workload
from core.runs import runs
from core.train import train
from core.types import Dataset, Run
from pages.parts.review import gallery
from pages.parts.train import watch
from pages.parts.train.runs import verdict
from pages.shared import frame, openings, thumbs

ALL, DONE = "", "basket-done"
NEVER = "Decisions made without the network's answer, pictures of the audit and known answers are never here: they measure, so nothing may learn from them."
FLIPS = {"only_b": "Wrong before, right now", "only_a": "Right before, wrong now"}
PICTURES = 24


def show(current: Dataset) -> None:
    if not roles.current().may("lead", current.id):
        st.info("What is learned from is decided by a lead. Your decisions wait here until then.", icon=":material/shopping_basket:")
        return
    _told()
    waiting = routed.basket(current.id)
    accepted = queue.count(current.id, queue.Which(basket="accepted"))
    if waiting:
        _basket(current, waiting)
    elif not accepted:
        st.info(
            "The basket is empty. Under a policy, what people accept or correct waits here; without one it joins the dataset at once.",
            icon=":material/shopping_basket:",
        )
        st.caption(NEVER)
    else:
        st.caption(f"Nothing waits in the basket. {NEVER}")
    if accepted:
        acting = policy.active(current.id)
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**{accepted:,} decision{'' if accepted == 1 else 's'} {'has' if accepted == 1 else 'have'} joined the dataset.** The next run learns from them."
            )
            if st.button("Train with them", type="primary", icon=":material/model_training:", key="basket-train"):
                _train(acting)
        if acting:
            _renewed(current, acting)


def _train(acting: Policy | None) -> None:
    """Opens the form with the settings of the run in use, so that old against new differ in what they learned from alone."""
    with suppress(AppError):  # its run was deleted: the form is opened as it is
        if acting:
            run = runs.load(runs.folder(acting.run_id))
            watch.clone(run)
            st.session_state["watched"] = run.id
    st.switch_page("train.py")


def _told() -> None:
    """What became of the last pictures that were accepted, and why some were not."""
    if (done := st.session_state.pop(DONE, None)) is None:
        return
    if isinstance(done, str):
        st.success(done, icon=":material/check:")
        return
    if done.joined:
        st.success(f"{done.joined:,} {'has' if done.joined == 1 else 'have'} joined the dataset.", icon=":material/check:")
    if done.refused:
        lines = "\n".join(f"- {frame.plain(name)}: {frame.plain(why)}" for name, why in done.refused[:PICTURES])
        more = f"\n- and {len(done.refused) - PICTURES:,} more" if len(done.refused) > PICTURES else ""
        st.warning(f"**{len(done.refused):,} stay in the basket.**\n{lines}{more}", icon=":material/info:")


# What waits ---------------------------------------------------------------------------------------


def _basket(current: Dataset, waiting: list[tuple[int, str, str, str]]) -> None:
    words = events.names(current.id)
    some = [(number, words.since(label, at), by) for number, label, by, at in waiting]
    of_class, of_person = Counter(name for _, name, _ in some), Counter(by for _, _, by in some)
    classes, people = sorted(of_class), sorted(of_person, key=str.casefold)
    agreed = measures.agreements(current.id)

    def person(by: str) -> str:
        return f"{by}, {of_person[by]:,} (same as the second opinion: {report.figure(agreed[by], agreed[by].n, percent=True) if by in agreed else 'none yet'})"

    total = len(some)
    st.subheader(f"{total:,} decision{'' if total == 1 else 's'} wait{'s' if total == 1 else ''}", anchor=False)
    st.caption(
        f"Accepted ones join the dataset with their label; what the network had said stands in brackets where a person said otherwise. {NEVER}"
    )
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters"):
        label = st.selectbox(
            "Class", [ALL, *classes], format_func=lambda c: f"{c}, {of_class[c]:,}" if c else f"All, {total:,}", key="basket-class"
        )
        by = st.selectbox("Decided by", [ALL, *people], format_func=lambda b: person(b) if b else "Everybody", key="basket-by")
    ids = [number for number, name, who in some if label in (ALL, name) and by in (ALL, who)]
    if not ids:
        st.info("No decision is both.", icon=":material/info:")
        return
    what = f"{len(ids):,}" + (f" of {frame.plain(str(label))}" if label else "") + (f" by {frame.plain(str(by))}" if by else "")
    with st.container(horizontal=True):
        if st.button(f"Accept all {what}", icon=":material/done_all:", key="basket-accept-all"):
            _ask(ids, what, accept=True)
        if st.button(f"Refuse all {what}", icon=":material/block:", key="basket-refuse-all"):
            _ask(ids, what, accept=False)
    _chosen(gallery.part(ids, "basket-page"))
    gallery.pager(ids, "basket-page")


def _chosen(some: Sequence[Submission]) -> None:
    vague = gallery.blur()
    with st.form("basket-form", border=False), st.container(key="blurred-basket" if vague else "clear-basket"):
        ticked = []
        with st.container(horizontal=True, gap="small"):
            for one in some:
                with st.container(width=132, gap="xsmall"):
                    if src := gallery.url(one):
                        st.html(
                            f'<img src="{html.escape(src)}" alt="" title="{html.escape(f"{one.name}, by {one.decided_by}")}" loading="lazy" style="{gallery.IMAGE}">'
                        )
                    said = one.label or ""
                    before = f" (network: {frame.plain(one.predicted)})" if one.verdict == "corrected" and one.predicted != said else ""
                    if st.checkbox(
                        f"{frame.plain(said)}{before}",
                        key=f"basket-{one.id}",
                    ):
                        ticked.append(one.id)
        with st.container(horizontal=True):
            accept = st.form_submit_button("Accept the ticked", type="primary", icon=":material/check:")
            refuse = st.form_submit_button("Refuse the ticked", icon=":material/block:")
    if accept or refuse:
        if ticked:
            _act(ticked, accept)
        else:
            st.info("None is ticked.", icon=":material/info:")


def _act(ids: Sequence[int], accept: bool) -> None:
    if accept:
        with st.spinner("They join the dataset …"):
            st.session_state[DONE] = review.accept(ids, frame.user())
    else:
        st.session_state[DONE] = f"{review.refuse(ids):,} will not be learned from."
    st.rerun()


@st.dialog("Are you sure?")
def _ask(ids: Sequence[int], what: str, accept: bool) -> None:
    with frame.guarded("basket"):
        if accept:
            st.markdown(
                f"Let all **{what}** join the dataset, with the labels that were decided? Every later run learns from them. History can take them back."
            )
        else:
            st.markdown(f"Refuse all **{what}**? They leave the basket and are not learned from; the decisions themselves stand.")
        with st.container(horizontal=True):
            if st.button("Accept all" if accept else "Refuse all", type="primary", key="basket-yes"):
                _act(ids, accept)
            if st.button("Leave them", key="basket-no"):
                st.rerun()


# The run that learned from them -------------------------------------------------------------------


def _renewed(current: Dataset, acting: Policy) -> None:
    """Old against new on the same held-out images, and what the active policy would do with the new run."""
    usable = {one.run.id: one.run for one in train.usable(current.id)}
    old = usable.get(acting.run_id)
    newer = [run for run in usable.values() if old is not None and run.created_at > old.created_at]
    st.header("Old against new", anchor=False)
    if old is None:
        st.caption("The run of the active policy is not there any more, so there is nothing to compare with.")
        return
    if not newer:
        st.caption(
            f"No run has been trained since {frame.plain(old.name)}, whose policy is active. Once one has, both stand here on the same images."
        )
        return
    ids = [one.image_id for one in queue.browse(current.id, queue.Which(basket="accepted"), limit=100_000)]
    joined = set(originals.here(current.id, ids).values())
    learned = {run.id: renewal.learned(run, joined) for run in newer}
    newer.sort(key=lambda run: run.created_at, reverse=True)
    by_id = {run.id: run for run in newer}
    new = by_id[
        str(
            st.selectbox(
                "New run",
                list(by_id),
                format_func=lambda i: f"{by_id[i].name}, learned from {learned[i]:,} of the {len(joined):,} accepted",
                key="renewal-run",
            )
        )
    ]
    with frame.told():
        _beside(current, acting, old, new)


def _beside(current: Dataset, acting: Policy, old: Run, new: Run) -> None:
    splits = renewal.held_out(old.id, new.id)
    if not splits:
        st.info("These runs have no test or validation images in common.", icon=":material/info:")
        return
    split = splits[0]
    if len(splits) > 1:
        split = st.segmented_control(
            "On", splits, format_func=lambda s: f"{s.capitalize()} images", default="validation", required=True, key="renewal-split"
        )
    if split == "test":
        if not (openings.gate(current, old) and openings.gate(current, new)):
            return
    else:
        st.caption(
            "Validation images chose the epoch that either run kept, so both figures are a little too good. The test images have chosen nothing."
        )
    pace = quality.pace([one.seconds for one, _ in decisions.made(current.id, limit=2000) if one.seconds])
    found = renewal.beside(acting, new.id, split, pace.median if pace else None)
    st.markdown(f"A is {frame.plain(old.name)}, in use; B is {frame.plain(new.name)}. {verdict(found.paired)}")
    _flips(current, found)
    st.subheader(f"The policy “{frame.plain(acting.name)}” with either run", anchor=False)
    st.dataframe(_workloads(found), hide_index=True, width="stretch")
    st.caption(
        f"The same thresholds on the same {found.before.n:,} {split} images, mixed as these are. Probabilities of another run are spread differently: "
        "before you make a policy for the new run active, set its thresholds anew. Nothing changes until then."
    )
    st.button("Set its thresholds", icon=":material/tune:", key="renewal-policy", on_click=_write, args=(new,))


def _write(new: Run) -> None:
    st.query_params.update({"view": "policy", "policy": "write", "run": new.id})


def _workloads(found: renewal.Renewal) -> pd.DataFrame:
    def row(title: str, one: Workload) -> dict[str, str]:
        minutes = one.minutes
        return {
            "Run": title,
            "Pass": report.share(one.passed),
            "Ask a person": report.share(one.asked),
            "Block": report.share(one.blocked),
            **{f"{name} wrongly passed": report.share(one.wrongly_passed[name]) for name in found.blocks},
            "Wrongly blocked": report.share(one.wrongly_blocked),
            "Minutes per 1,000": f"{minutes.value:.0f} ({minutes.low:.0f} to {minutes.high:.0f})" if minutes else "no pace yet",
        }

    return pd.DataFrame([row("A, in use", found.before), row("B, new", found.after)])


def _flips(current: Dataset, found: renewal.Renewal) -> None:
    p = found.paired
    key = f"renewal-flips-{p.a}-{p.b}-{p.split}"
    cell = st.segmented_control(
        "Flips", list(FLIPS), format_func=lambda c: f"{FLIPS[c]}: {getattr(p, c):,}", default="only_a" if p.only_a else "only_b", required=True,
        key=key, label_visibility="collapsed",
    )  # fmt: skip
    rows = p.rows[p.rows["outcome"] == cell]
    if rows.empty:
        st.caption("No image is counted here.")
        return
    pages = -(-len(rows) // PICTURES)
    number = min(int(st.session_state.get(f"{key}-page") or 1), pages)
    part = rows.iloc[(number - 1) * PICTURES : number * PICTURES]
    notes = {r.image_id: f"A: {r.a} {r.a_confidence:.0%} · B: {r.b} {r.b_confidence:.0%}" for r in part.itertuples()}
    thumbs.image_grid(
        current,
        store.get_images(current.id, list(part["image_id"])),
        key="renewal-grid",
        split=p.split,
        notes=notes,
        size=150,
        caption="label",
    )
    if pages > 1:
        st.pagination(pages, key=f"{key}-page")
