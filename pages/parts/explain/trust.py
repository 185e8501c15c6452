"""Can it be trusted: what checks of each method's map found, as figures, in words, and as curves."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import streamlit as st

from core.catalog import methods
from core.errors import AppError
from core.explain import explain
from core.explain import trust as checks
from core.types import Attribution, Run
from pages.shared import closed, figures, form, frame

HEADS = {
    "deletion": (
        "Deletion area",
        "What it marks is covered, most important first: the mean probability on the way. The lower the better, beside random orders.",
    ),
    "insertion": (
        "Insertion area",
        "What it marks is shown first on the blurred picture. The higher the better, beside random orders.",
    ),
    "completeness": ("Completeness", "How far its parts are from the change in score that they should add up to, as a share of it."),
    "randomised": ("Random weights", "Rank correlation with its map for a network that has learned nothing: 1 is the same map."),
    "infidelity": ("Infidelity", "Share of what covering squares does to the score that the map does not foretell: 0 to 1."),
    "sensitivity": ("Sensitivity", "Greatest change of the map under noise too weak to see, as a share of the map."),
}
MARKS = {"good": "holds", "doubt": "in doubt", "bad": "fails", "undefined": "says nothing"}
ICONS = {
    "good": ":green[:material/check_circle:]",
    "doubt": ":gray[:material/help:]",
    "bad": ":orange[:material/warning:]",
    "undefined": ":gray[:material/remove:]",
}
WAYS: tuple[Literal["deletion", "insertion"], ...] = ("deletion", "insertion")
MOST = 30  # outcomes a session keeps, about 1 MB each
HELD = "trust"  # in the session: place of the outcome -> the question, the outcome, or why there is none

Held = explain.Asked | checks.Trust | AppError


def trust(
    run: Run, path: Path, chosen: Sequence[str], target: str, *, key: str, settings: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """A row per method that the network supports, for one class; settings: those of the methods, by name."""
    st.caption(
        "A map always looks as if it meant something. These checks try to refute it; one that holds is not proved, "
        "and all of them are about this picture alone."
    )
    why = explain.supported(run.id)
    able = [m for m in chosen if not why[m]]
    if not able:
        st.caption("Choose at least one method that this network supports.")
        return
    with st.container(horizontal=True, vertical_alignment="center", key=f"{key}-head"):
        with st.popover("Settings", icon=":material/tune:", type="tertiary", key=f"{key}-settings"):
            how = {p.name: form.field(p, key=f"{key}-{p.name}", titles=lambda o: checks.TITLES.get(o, o)) for p in checks.PARAMS}
        places = {m: checks.place(run.id, path, m, target, (settings or {}).get(m), how) for m in able}
        held: dict[Path, Held] = st.session_state.setdefault(HELD, {})
        for place, one in list(held.items()):
            if isinstance(one, explain.Asked) and place not in places.values():  # of another picture or setting: nobody sees it here
                explain.stop(one)
                del held[place]
        found = {m: _taken(held, places[m]) for m in able}
        missing = [m for m in able if not _there(held.get(places[m])) and not places[m].exists()]
        pressed = bool(missing) and form.pressed(
            "Start" if len(missing) == len(able) else f"Start {len(missing)} more",
            type="primary",
            icon=":material/fact_check:",
            key=f"{key}-start",
        )
        if missing:
            st.caption(_cost(run, missing, settings or {}, how))
    for m in able if pressed else [m for m in able if m not in missing]:
        if not _there(held.get(places[m])):  # what is stored is there at once
            held[places[m]] = asked = checks.ask(run.id, path, m, target, (settings or {}).get(m), how)
            closed.follow(asked)
    if pressed:
        st.rerun()
    found |= {m: _taken(held, places[m]) for m in able if not _there(found[m])}
    for place in [p for p in held if p not in places.values()][: max(0, len(held) - MOST)]:
        del held[place]
    if pending := {m: one for m, one in found.items() if isinstance(one, explain.Asked)}:
        _progress(pending, key)
    for m, said in found.items():
        if isinstance(said, AppError):
            st.caption(f":material/info: {methods.method(m).title}: {frame.plain(str(said))}")
    outcomes = [one for one in found.values() if isinstance(one, checks.Trust)]
    if outcomes:
        _table(outcomes)
        for one in outcomes:
            _detail(one, key)
        st.caption(
            "Holds, in doubt and fails are our words, for limits that no paper gives: better than every random order; a correlation below "
            f"{checks.PARTLY_SAME:g}; a sum within {checks.COMPLETE:.0%}; half of the change foretold; a change of the map below {checks.STEADY:.0%}. "
            "Sources: Petsiuk et al. 2018, Adebayo et al. 2018, Yeh et al. 2019."
        )


def _there(one: Held | None) -> bool:
    return isinstance(one, explain.Asked | checks.Trust)


def _taken(held: dict[Path, Held], place: Path) -> Held | None:
    one = held.get(place)
    if isinstance(one, explain.Asked) and one.done:
        try:
            one = checks.answer(one)
        except AppError as e:
            one = e
        held[place] = one
    return one


def _cost(run: Run, names: Sequence[str], settings: Mapping[str, Mapping[str, Any]], how: Mapping[str, Any]) -> str:
    costs = [checks.cost(run.id, m, settings.get(m), how) for m in names]
    passes, seconds = sum(c.passes for c in costs), [c.seconds for c in costs if c.seconds is not None]
    most = "at most " if any(methods.method(m).passes_at_most for m in names) else ""
    what = f"{len(names)} map{'s' * (len(names) != 1)}, {most}{passes:,} passes through the network"
    if len(seconds) < len(costs):
        return f"{what}; how long that takes is known after this network's first map."
    whole = sum(seconds)
    return f"{what}, about {f'{whole:.0f} s' if whole < 100 else f'{whole / 60:.0f} min'} on this machine. Another picture or setting stops it."


@st.fragment(run_every=0.5)
def _progress(pending: Mapping[str, explain.Asked], key: str) -> None:
    with frame.guarded("trust"):
        if any(one.done for one in pending.values()):
            st.rerun()
        with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"{key}-progress"):
            with st.container():
                for m, one in pending.items():
                    done, total = explain.progress(one)
                    share = done / total if total else 0.0
                    st.progress(min(1.0, share), f"{methods.method(m).title}: {f'{share:.0%}' if total else 'waiting for its turn'}")
            st.button("Stop", icon=":material/stop_circle:", key=f"{key}-stop", on_click=_stop, args=(list(pending.values()),))


def _stop(pending: Sequence[explain.Asked]) -> None:
    for one in pending:
        explain.stop(one)


def _table(outcomes: Sequence[checks.Trust]) -> None:
    heads = "".join(f"<th scope=col>{title}<small>{help}</small></th>" for title, help in HEADS.values())
    rows = ""
    for one in outcomes:
        cells = "".join(f'<td data-name="{HEADS[f.name][0]}">{html.escape(f.figure)}{_mark(f)}</td>' for f in checks.findings(one))
        rows += f"<tr><td><b>{html.escape(methods.method(one.method).title)}</b></td>{cells}</tr>"
    meaning = "".join(f"<p><b>{title}:</b> {help}</p>" for title, help in HEADS.values())  # where the screen is too narrow for the heads
    st.html(f'<details class="trust-meaning"><summary>What these figures mean</summary>{meaning}</details>')
    st.html(f'<table class="trust-table"><thead><tr><th scope=col>Map</th>{heads}</tr></thead><tbody>{rows}</tbody></table>')


def _mark(found: checks.Finding) -> str:
    return f'<small class="trust-{found.mark}">{MARKS[found.mark]}</small>' if found.figure != "–" else ""


def _detail(one: checks.Trust, key: str) -> None:
    """The map beside that of a random network, each check in a sentence, and the curves."""
    with st.container(key=f"{key}-{one.method}"):
        st.markdown(f"**{methods.method(one.method).title}** for {frame.plain(one.target)}")
        left, *right = st.columns([5, 4, 4], gap="medium")
        with left:
            pair = [(one.map, "the network")]
            if one.random_map is not None:
                pair.append((one.random_map, f"random weights{' in its last layer' if one.how['randomise'] == 'cascading' else ''}"))
            st.html(f'<div class="trust-pair">{"".join(_small(one, values, words) for values, words in pair)}</div>')
            lines = [f"{ICONS[f.mark]} **{HEADS[f.name][0]}:** {f.words}" for f in checks.findings(one) if f.figure != "–"]
            st.markdown("  \n".join(f":small[{line}]" for line in lines))
            if one.how["randomise"] == "cascading" and one.randomised:
                steps = ", ".join(f"{s.share:.0%}: {'undefined' if s.most is None else f'{s.most:.2f}'}" for s in one.randomised)
                st.caption(f"Rank correlation by share of layers made random, from the last: {steps}.")
        for slot, name, curves in zip(right, WAYS, (one.deletion, one.insertion), strict=True):
            if curves is not None:
                figure = figures.covering(curves, name, one.target)
                slot.plotly_chart(figure, key=f"{key}-{one.method}-{name}", config={"displayModeBar": False})


def _small(one: checks.Trust, values: np.ndarray, words: str) -> str:
    """The map over the picture, each on a scale of its own: random networks have weak slopes."""
    drawn = explain.overlay_png(Attribution(one.run_id, one.image_id, one.method, one.target, 0.0, one.image, values, None))
    soft = "pixelated" if max(values.shape) < 128 else "auto"
    url = f"data:image/png;base64,{base64.b64encode(drawn).decode()}"
    return f'<figure><img src="{url}" alt="Map of {words}" style="image-rendering:{soft}"><figcaption>{words}</figcaption></figure>'
