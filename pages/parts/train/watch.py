"""One run: its curves, what it answers, and what can be done with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import streamlit as st

from core.api import signing
from core.catalog import networks, params, presets
from core.data import store
from core.errors import Conflict
from core.runs import runs
from core.train import train
from core.types import Run
from pages.parts.train import archive, devices
from pages.shared import form, frame, thumbs
from pages.shared.figures import class_color
from pages.shared.live import live

CHIPS = {
    "pending": ("starting", ":material/hourglass_top:", "gray"),
    "queued": ("queued", ":material/hourglass_top:", "gray"),
    "running": ("running", ":material/play_arrow:", "primary"),
    "paused": ("paused", ":material/pause:", "orange"),
    "succeeded": ("finished", ":material/check:", "green"),
    "stopped": ("stopped", ":material/stop:", "gray"),
    "failed": ("failed", ":material/error:", "red"),
    "lost": ("cut off", ":material/power_off:", "red"),
}
DOUBLE_CLICK = 1.0  # seconds in which the second click on Resume must not meet the Pause that stands in its place


def start(dataset_id: int, settings: Mapping[str, Any], preset: str) -> None:
    """Starts a run and shows it; a second click finds it going on."""
    try:
        st.session_state["watched"] = train.start(dataset_id, settings, frame.user(), preset).id
    except Conflict as e:
        st.toast(f"{frame.plain(e.message)} {frame.plain(e.hint)}", icon=":material/info:")
        return
    st.rerun()


def panel(state: train.RunState) -> None:
    run = state.run
    st.query_params["run"] = run.id  # the page loaded anew shows it again
    with st.container(border=True, key="run-panel"):
        with st.container(horizontal=True, vertical_alignment="center", key="run-head"):
            st.header(frame.plain(run.name), anchor=False, width="content")
            text, icon, color = CHIPS[state.status]
            st.badge(text, icon=icon, color=color)  # type: ignore[arg-type]
            st.space("stretch")
            buttons(state)
        st.caption(facts(run))
        remarks(state)
        if state.status in ("failed", "lost"):
            failure(state)
        changed = live(
            run.id,
            f"/api/runs/{run.id}/events",
            frame.token(),
            key=f"live-{run.id}",
            running=state.active,
            details=details(run),
        )
        if changed:
            st.rerun()
        if state.active and state.host:
            st.caption(f":material/dns: On the machine {frame.plain(state.host)}, whose devices are not seen from here.")
        elif state.active:
            devices.line()
        else:
            archive.without_images(run)
            outcome(state)


def buttons(state: train.RunState) -> None:
    run = state.run
    if not frame.may("train", run.dataset_id, say=False):  # the form below says who may
        return
    if state.active:
        stopping, pausing = train.stopping(run.id), train.pausing(run.id)
        st.button(
            "Stopping …" if stopping else "Stop", icon=":material/stop_circle:", key="stop", disabled=stopping,
            on_click=act, args=(train.stop, run.id), help="Ends after the current step and keeps the best weights.",
        )  # fmt: skip
        st.button(
            "Pausing …" if pausing and not stopping else "Pause", icon=":material/pause_circle:", key="pause", disabled=stopping or pausing,
            on_click=pause, args=(run,),
            help="Ends after the current step and frees the device. Resumed, the run goes on as if nothing had been.",
        )  # fmt: skip
        if state.status == "queued" and train.waits_for_cluster(run.id):
            st.button(
                "Train here", icon=":material/computer:", key="here", on_click=act, args=(train.here, run.id),
                help="Does not wait for the cluster: trains on the machine that Loupe runs on.",
            )  # fmt: skip
    elif state.status in ("paused", "stopped", "lost"):
        st.button(
            "Resume", type="primary" if state.status != "stopped" else "secondary", icon=":material/play_circle:", key="resume",
            on_click=act, args=(go_on, run), help="Goes on from the last checkpoint.",
        )  # fmt: skip
    st.button(
        "Clone with changes", icon=":material/content_copy:", key="clone", on_click=act, args=(clone, run),
        help="Opens the form with its settings.",
    )  # fmt: skip
    note_and_tags(state)
    if not state.active and state.best is not None:
        archive.export_popover(run)  # up here, for a popover at the foot of the window opens outside of it


def act(do: Callable[..., None], *args: Any) -> None:
    """In a callback: a rerun that cuts the script short loses a click that is only asked for on the way."""
    with frame.told():
        do(*args)


def pause(run: Run) -> None:
    if time.monotonic() - st.session_state.get("resumed", 0.0) > DOUBLE_CLICK:
        act(train.pause, run.id)


def go_on(run: Run, changes: Mapping[str, Any] | None = None) -> None:
    """Lets the run go on, or starts the one that the changes ask for, and shows it."""
    st.session_state["resumed"] = time.monotonic()
    try:
        st.session_state["watched"] = train.resume(run.id, changes).id
    except Conflict:  # a second click, or another person: what the first one has set going is shown
        going = [s.run.id for s in train.list_runs(run.dataset_id) if s.active]
        st.session_state["watched"] = run.id if run.id in going or not going else going[0]


def clone(run: Run) -> None:
    form.fill({"architecture": run.config.architecture, **{name: asdict(run.config)[name] for name in unusual(run)}})
    st.session_state["cloned"] = run.id


def unusual(run: Run) -> list[str]:
    """The settings that are not what the form offers for this network, in its order."""
    usual = params.run_config({"architecture": run.config.architecture})
    return params.differing([run.config, usual])


def note_and_tags(state: train.RunState) -> None:
    used = sorted({tag for one in train.list_runs(state.run.dataset_id) for tag in one.tags} - set(state.tags))
    key = f"note-{state.run.id}-{hash((state.note, state.tags))}"  # closes once it is saved

    def save() -> None:
        train.annotate(state.run.id, st.session_state[f"{key}-text"], st.session_state[f"{key}-tags"].split(","))

    with st.popover("Note and tags", icon=":material/edit_note:", key=key), st.form(f"{key}-form", border=False):
        st.text_area("Note", state.note, max_chars=runs.MOST_NOTE, placeholder="What is tried here, what was found", key=f"{key}-text")
        st.text_input("Tags, with commas between them", ", ".join(state.tags), placeholder="baseline, few images", key=f"{key}-tags")
        if used:
            st.caption(f"Used so far: {frame.plain(', '.join(used))}")
        st.form_submit_button("Save", type="primary", on_click=act, args=(save,))


def remarks(state: train.RunState) -> None:
    """Preset, note and tags, where there are any."""
    preset = presets.find(state.run.preset)
    if preset and state.status != "succeeded":  # then its figure stands beside the published one
        text = f"Preset “{preset.title}”. Published: {preset.published_text}."
        st.caption(f":material/flag: {frame.plain(text)}", help=frame.plain(preset.note))
    if state.tags:
        with st.container(horizontal=True, gap="small"):
            for tag in state.tags:
                st.markdown(f":gray-badge[:material/sell: {frame.plain(tag)}]")  # st.badge takes out brackets by itself, and so twice
    if state.note:
        st.markdown("  \n".join(frame.plain(line) for line in state.note.splitlines()))


def facts(run: Run) -> str:
    """The settings in one line: the usual ones, then every other that differs from its default."""
    config = run.config
    images = f"{run.counts['train']:,} training and {run.counts['validation']:,} validation images"
    if config.architecture in networks.BASELINES:  # nothing is trained, so no setting of training says anything
        classes = f", classes {params.words('classes', config.classes)}" if config.classes else ""
        return frame.plain(f"{params.words('architecture', config.architecture)}{classes}; {images}")
    usual = ("architecture", "optimizer", "learning_rate", "batch_size")
    parts = [params.words("architecture", config.architecture), params.words("optimizer", config.optimizer)]
    parts += [f"{params.PARAMS[name].title.lower()} {params.words(name, getattr(config, name))}" for name in usual[2:]]
    with frame.told():
        parts += [
            f"{params.PARAMS[name].title.lower()} {params.words(name, getattr(config, name))}" for name in unusual(run) if name not in usual
        ]
    return frame.plain(f"{', '.join(parts)}; {images}")


@st.cache_data(max_entries=200, show_spinner=False)
def samples(run_id: str) -> list[str]:
    return train.samples(run_id)


def details(run: Run) -> dict[str, Any]:
    """What the component needs to show what the network answers."""
    current = next((d for d in store.list_datasets() if d.id == run.dataset_id), None)
    colors = {c["name"]: c["color"] for c in thumbs.class_list(current)} if current else {}
    return {
        "validation": run.counts["validation"],
        "answers": {
            "classes": [{"name": name, "color": colors.get(name, class_color(i))} for i, name in enumerate(run.classes)],
            "images": {
                i.id: {"url": signing.thumb_url(i), "alt": i.source, "pixelated": max(i.width, i.height) <= 64}
                for i in store.get_images(run.dataset_id, samples(run.id))
            },
        },
    }


def failure(state: train.RunState) -> None:
    """What happened, above the curves where it is seen at once, and the way on."""
    run = state.run
    st.error(
        f"**{'Training failed' if state.status == 'failed' else 'Training was cut off'}.** {frame.plain(state.message)}",
        icon=":material/error:",
    )
    if state.status == "failed" and frame.may("train", run.dataset_id, say=False):
        st.button(
            remedy(state.remedy),
            type="primary",
            icon=":material/play_circle:",
            key="remedy",
            on_click=act,
            args=(go_on, run, state.remedy),
        )
    if log := train.log_tail(run.id):
        with st.expander("The last lines of its log", icon=":material/terminal:"):
            st.code(log, language=None)


def outcome(state: train.RunState) -> None:
    """How it did, and where to go from here."""
    run = state.run
    if state.status == "paused":
        return
    if state.best is None and all(one.run.id != run.id for one in train.usable(run.dataset_id)):
        return
    if train.no_better_than_guessing(state):
        st.warning(
            "On validation it is no better than always answering the commonest class. More images, another network "
            "(EfficientNet-Lite0 for photos) or another learning rate may help.",
            icon=":material/casino:",
        )
    with st.container(horizontal=True):
        words = "See its answers" if state.best and state.best.val_accuracy == 1 else "See its mistakes"
        if st.button(words, type="primary" if state.status == "succeeded" else "secondary", icon=":material/grid_on:"):
            st.switch_page("evaluate.py", query_params={"run": run.id})
        if st.button("Why it answers so", icon=":material/frame_inspect:"):
            st.switch_page("explain.py", query_params={"run": run.id})
        if st.button("Try it on a picture", icon=":material/upload_file:"):
            st.switch_page("predict.py", query_params={"run": run.id})


def remedy(changes: Mapping[str, Any]) -> str:
    """What the button does that goes on after a failure, in words."""
    if not changes:
        return "Try again from the last checkpoint"
    if changes == {"pretrained": False}:
        return "Start again without pretrained weights"
    named = [
        params.words(name, value) if name == "architecture" else f"{params.PARAMS[name].title.lower()} {params.words(name, value)}"
        for name, value in changes.items()
    ]
    return f"{'Go on' if set(changes) == {'batch_size'} else 'Start again'} with {' and '.join(named)}"
