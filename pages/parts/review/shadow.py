"""What the policy in the shadow would have done with what came since, with the pictures."""

from __future__ import annotations

import html

import streamlit as st

from core.api import signing
from core.data import queue
from core.data.policies import Policy
from core.errors import AppError
from core.review import batch, policy, review, shadow
from core.review.shadow import Beside
from core.runs import runs
from core.types import Band, Dataset
from pages.shared import frame, times

PER_PAGE = 48
BANDS: dict[Band, str] = {"pass": "passes", "ask": "a person is asked", "block": "blocked"}
SIDES = {"active": "the active policy", "shadow": "the shadow"}


def show(current: Dataset) -> None:
    one, active = policy.shadow(current.id), policy.active(current.id)
    if one is None:
        st.info(
            "No policy runs in the shadow. Under *Versions*, *Run in the shadow* counts what a version would do with what comes, without "
            "doing it.",
            icon=":material/contrast:",
        )
        return
    for stuck in (p for p in (one, active) if p and policy.is_gone(p)):
        st.warning(
            f"The run of No. {stuck.id}, {frame.plain(stuck.name)}, was deleted: there is nothing to compare.", icon=":material/link_off:"
        )
        return
    if error := st.session_state.pop("shadow-error", None):
        frame.show(error)
    with frame.told():
        found = shadow.beside(one, active)
        against = f"the active No. {active.id}, {frame.plain(active.name)}" if active else "no active policy"
        st.markdown(f"**No. {one.id}, {frame.plain(one.name)}**, in the shadow since {times.when(found.since)}, beside {against}.")
        _rest(current, one, found)
        if not found.compared:
            why = "No picture was answered by both runs yet" if found.came else "No picture has come since"
            st.info(f"{why}, so there is nothing to compare.", icon=":material/info:")
            return
        _table(found)
        _people(found)
        _pictures(current, found)


def _table(found: Beside) -> None:
    rows: list[Band | None] = [band for band in BANDS if any(at[0] == band for at in found.cells)] or [None]
    head = "".join(f'<th scope="col">{html.escape(word)}</th>' for word in BANDS.values())
    body = ""
    for row in rows:
        title = f"active: {BANDS[row]}" if row else "no active policy"
        cells = [len(found.cells.get((row, band), ())) for band in BANDS]
        body += f'<tr><th scope="row">{title}</th>' + "".join(f"<td>{n:,}</td>" for n in cells) + "</tr>"
    st.html(f'<table class="policy-beside"><thead><tr><th scope="col">shadow:</th>{head}</tr></thead><tbody>{body}</tbody></table>')
    if found.compared < found.came:
        why = f"the newest {shadow.MOST:,} are" if found.compared >= shadow.MOST else "those that both runs have answered are"
        st.caption(f"{found.compared:,} of the {found.came:,} pictures that came since: {why} compared.")
    else:
        st.caption(f"All {found.came:,} pictures that came since.")


def _rest(current: Dataset, one: Policy, found: Beside) -> None:
    """How many of what came the shadow's run has answered, and a button that asks it about the rest."""
    if not found.unasked:
        return
    run = frame.plain(runs.load(runs.folder(one.run_id)).name)
    going = any(job.state.status == "running" and job.job["how"] == "shadow" for job in batch.recent(current.id))
    with st.container(horizontal=True, vertical_alignment="center", key="shadow-rest"):
        st.markdown(
            f":material/info: {run}, the shadow's run, has answered **{found.came - found.unasked:,} of the {found.came:,}** pictures that came "
            f"since; only those count here.{' It is being asked about the others: reload the page to see how far it is.' if going else ''}",
            width="stretch",
        )
        if not going:
            st.button(
                f"Ask it about the other {found.unasked:,}", icon=":material/play_arrow:", key="shadow-ask", on_click=_ask, args=(one,),
                help=f"In the background, the newest {shadow.MOST:,}; *Many pictures* on Predict shows it, too. Nothing is sorted by the answers.",
            )  # fmt: skip


def _ask(one: Policy) -> None:
    try:
        shadow.ask_rest(one, frame.user())
    except AppError as e:
        st.session_state["shadow-error"] = e


def _people(found: Beside) -> None:
    if not found.decided:
        st.caption("Nobody has decided on any of them yet, so nobody can say which of the two is right.")
        return
    st.markdown(f"**Against what people said** of {found.decided:,} of them:")
    for side, word in SIDES.items():
        if side in found.wrongly_passed:
            st.markdown(
                f"- {word} would have passed {len(found.wrongly_passed[side]):,} that a person put into a class to be blocked, and blocked "
                f"{len(found.wrongly_blocked[side]):,} that a person put into another class"
            )


def _choices(found: Beside) -> dict[str, tuple[int, ...]]:
    choices = {}
    for (active, band), ids in sorted(found.cells.items(), key=lambda cell: (cell[0][0] == cell[0][1], -len(cell[1]))):
        said = f"active: {BANDS[active]}, shadow: {BANDS[band]}" if active else f"shadow: {BANDS[band]}"
        choices[f"{said} ({len(ids):,})"] = ids
    for side, word in SIDES.items():
        for ids, done in ((found.wrongly_passed.get(side, ()), "passed"), (found.wrongly_blocked.get(side, ()), "blocked")):
            if ids:
                choices[f"wrongly {done} by {word}, as people say ({len(ids):,})"] = ids
    return choices


def _pictures(current: Dataset, found: Beside) -> None:
    choices = _choices(found)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = str(
            st.selectbox(
                "Pictures", list(choices), key="shadow-cell", on_change=frame.first_page, filter_mode=None, persist_state="session"
            )
        )
        blur = st.toggle("Blur", value=True, key="shadow-blur", persist_state="session", help="For material that is hard to look at.")
    ids, key = choices[chosen], "shadow-page"
    pages = -(-len(ids) // PER_PAGE)
    number = min(frame.page_number(key), pages)
    cells = ""
    for one in map(queue.get, ids[(number - 1) * PER_PAGE : number * PER_PAGE]):
        one = review.today(one)
        try:
            picture = (
                f'<img src="{html.escape(signing.upload_url(one.dataset_id, review.picture(one), stored=False))}" alt="" loading="lazy">'
            )
        except AppError:
            picture = "<em>its file is gone</em>"
        person = f", {one.decided_by}: {one.label or 'none of these'}" if one.verdict else ""
        cells += f'<li class="frame-cell">{picture}{html.escape(f"{one.name}: {one.predicted}{person}")}</li>'
    with st.container(key="blurred-shadow" if blur else "clear-shadow"):
        st.html(f'<ul class="frames">{cells}</ul>')
    if pages > 1:
        frame.pager(pages, key)
