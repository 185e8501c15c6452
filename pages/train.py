"""Choose a network, start it, watch it learn."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import streamlit as st

from core import pace
from core.catalog import networks, params
from core.data import dataset, removed, splits
from core.label import embed
from core.train import plan, train
from core.types import SPLITS, Dataset
from pages.parts.train import archive, learning, network, presets, similarity
from pages.parts.train.runs import comparison, picked, table
from pages.parts.train.watch import panel, start
from pages.shared import form, frame


def first_run(current: Dataset) -> None:
    """For whoever trains here for the first time: one sentence and one button; everything that can be set stands behind *Settings*."""
    if not frame.may("train", current.id):
        return
    train.expect()
    box = st.container()
    own = st.expander(
        "Settings", icon=":material/tune:", expanded=bool(form.filled()["number"]), key=f"settings-{form.filled()['number'] > 0}", on_change="rerun",
    )  # fmt: skip
    with own:
        settings_form(current, first=True)
    if own.open:  # the form has a button of its own, and this one would not heed it
        return
    with box, frame.told():
        found, seen = plan.plan(current.id), plan.pictures(current.id)
        values, why = plan.recommended(found, seen)
        config = params.run_config(values)
        plan.check(found, config, seen)
        with st.container(border=True, key="recommended"):
            estimate = train.estimate(current.id, config, found.count("train"))
            time = f" It takes **{pace.duration(estimate.seconds)}** on this machine at most." if estimate else ""
            st.markdown(f"{summary(found, asdict(config))}{time}")
            st.caption(frame.plain(" ".join(why)))
            if form.pressed("Train this network", type="primary", icon=":material/play_arrow:", key="start-recommended"):
                start(current.id, values, "")


def settings_form(current: Dataset, first: bool = False) -> None:
    """Presets, then three groups of fields on the left, what will happen on the right; first: nothing was trained here yet."""
    if not frame.may("train", current.id):
        return
    train.expect()
    filled = form.filled()
    key = f"{current.id}-{filled['number']}"
    with frame.told():
        plan.plan(current.id)  # nothing to learn from: no form
        presets.cards(current, expanded=first)
        left, right = st.columns([5, 3], gap="medium")
        with left:
            values = network.choose(current, filled["values"], key)
            values |= learning.fields(current, values, filled["values"], key)
        with right:
            what_will_happen(current, values, filled["preset"])
        with left:  # drawn last: it may wait for the model worker
            learning.variants(current, values)


def what_will_happen(current: Dataset, values: dict[str, Any], preset: str) -> None:
    """In words, with what a person should know before, and the button."""
    with st.container(border=True, key="what-will-happen"):
        ready = False
        with frame.told():  # what is wrong is said at once, beside the button
            found = plan.plan(current.id, values.get("classes", ()))
            st.markdown(summary(found, values))
            config = params.run_config(values)
            estimate = train.estimate(current.id, config, found.count("train"))
            if estimate is not None:
                st.markdown(f"It takes **{pace.duration(estimate.seconds)}** on this machine at most, judged by {estimate.by}.")
            else:
                st.caption("How long it takes is known after its first run, or once its speed is measured under Network.")
            seen = plan.pictures(current.id)
            plan.check(found, config, seen)
            ready = True
            warnings(current, plan.guards(found, config, seen, estimate.seconds if estimate else None), values)
        wanted = form.pressed("Start training", type="primary", icon=":material/play_arrow:", key="start", disabled=not ready)
        with frame.told():
            if wanted and ready:
                start(current.id, values, preset)


def summary(found: plan.Plan, values: dict[str, Any]) -> str:
    n = {split: found.count(split) for split in SPLITS}
    arch = networks.architecture(values["architecture"])
    text = f"**{frame.plain(arch.title)}** learns {len(found.classes)} classes from **{n['train']:,} training images**."
    if n["validation"]:
        decided = "when to stop" if values["patience"] else "which epoch’s weights are kept"
        text += f" After every epoch {n['validation']:,} validation images decide {decided}."
    if n["test"]:
        text += f" {n['test']:,} test images are kept aside and looked at last."
    return text


def warnings(current: Dataset, guards: list[plan.Guard], values: dict[str, Any]) -> None:
    """Each with what can be done about it; none of them keeps a run from starting."""
    for number, guard in enumerate(guards):
        _warn(guard)
        if guard.values:
            st.button(guard.title, icon=":material/build:", key=f"guard-{number}", on_click=form.change, args=(values, guard.values))
        elif guard.page and st.button(guard.title, icon=":material/arrow_forward:", key=f"guard-{number}"):
            st.switch_page(guard.page, query_params={"view": "Add images"} if guard.page == "dataset.py" else None)
    looking = embed.state(current.id)
    if looking is not None and looking.status == "running":
        st.markdown(":gray[:material/visibility: Loupe is looking for near duplicates now.]")
        return
    looked = embed.latest(current.id)
    images, _ = dataset.totals(current.id)
    groups = _crossing(current.id, looked.id if looked else "", images, removed.newest(current.id)) or (None if looked is None else 0)
    if found := plan.duplicates(groups, 0 if looked is None else embed.missing(current.id)):
        _warn(found, "orange" if groups else "gray")
        if found.page and st.button(found.title, icon=":material/arrow_forward:", key="guard-duplicates"):
            st.switch_page(found.page, query_params={"order": "near-duplicates", "show": "all"})
        elif not found.page and st.button(found.title, icon=":material/visibility:", key="guard-look"):
            embed.start(current.id, frame.user(), arranged=False)
            st.rerun()


def _warn(guard: plan.Guard, color: str = "orange") -> None:
    icon = "warning" if color == "orange" else "help"
    st.markdown(f":{color}[:material/{icon}:] {frame.plain(guard.message)} {frame.plain(guard.remedy)}")


@st.cache_data(max_entries=100, show_spinner=False)
def _crossing(dataset_id: int, embedding: str, images: int, out: int) -> int:
    """Counted anew for a new embedding, new images or a removal: among 100,000 images it takes half a second, and the page is drawn often.

    Import compares small grey pictures, the embedding what is seen in them, too: either may find what the other does not.
    """
    return max(embed.crossing(dataset_id), splits.crossing(dataset_id))


def another(current: Dataset, shown: train.RunState, cloned: bool) -> None:
    with st.expander("Train another network", icon=":material/add:", expanded=cloned, key=f"another-{shown.run.id}-{cloned}"):
        if cloned:
            st.caption(f":material/content_copy: The form holds the settings of {frame.plain(shown.run.name)}.")
        settings_form(current)


with frame.page("Train", "A network looks at the labelled images again and again until it can tell the classes apart.") as current:
    current = frame.need_dataset(current)
    found = train.list_runs(current.id)
    given = st.query_params.get("run")
    if given and given != st.session_state.get("linked"):  # a link that was followed, also within the session
        st.session_state["linked"] = given
        if given in {s.run.id for s in found}:
            st.session_state["watched"] = given
    if given and given not in {s.run.id for s in found}:
        frame.no_such_run(current, given, "")
    chosen = picked(found)
    going = sorted((s for s in found if s.active), key=lambda s: s.status != "running")
    shown = next((s for s in found if s.run.id == st.session_state.get("watched")), going[0] if going else None)
    table(found, chosen)  # above what it shows, so that a tick moves nothing under the hand
    if len(chosen) > 1:
        comparison(current, chosen)
        with st.expander("Train another network", icon=":material/add:", expanded=False, key="another-compared"):
            settings_form(current)
    elif shown is not None:
        st.session_state["watched"] = shown.run.id  # it stays in view when it ends
        cloned = st.session_state.get("cloned") == shown.run.id
        if cloned:  # where the click was, and not a screen or two below it
            another(current, shown, cloned)
        panel(shown)
        presets.reached(shown)
        similarity.means(current, shown)
        if not cloned:
            another(current, shown, cloned)
    else:
        settings_form(current) if found else first_run(current)
    if frame.may("import", current.id, say=False):
        archive.import_expander(current)
