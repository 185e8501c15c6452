"""Presets as cards: what the tutorials trained, one click away, with the figure to compare with."""

from __future__ import annotations

import base64

import streamlit as st

from core.catalog import networks, params, presets
from core.catalog.presets import Preset
from core.evaluate import evaluate
from core.train import plan, train
from core.types import Dataset
from pages.parts.train import network
from pages.parts.train.watch import start
from pages.shared import form, frame, openings

IN_A_ROW = 3
MANY = 1_000_000  # looks at an image, where nothing is known of the network's speed
ORDER = ("same", "possible", "own")
FITS = {
    "same": ":material/check_circle: The images of the source",
    "possible": ":material/info: Other images than the source’s: its figure is no measure for them",
    "own": ":material/photo_library: For images of your own",
}


def cards(current: Dataset, *, expanded: bool) -> None:
    """Those that can learn from this dataset, the ones made for it first; the others are named with what they need."""
    whole, seen = plan.plan(current.id), plan.pictures(current.id)
    size = (seen.short, seen.long, seen.channels) if seen else None

    def fit(preset: Preset) -> presets.Fit:
        wanted = preset.settings.get("classes", ()) or whole.classes
        test = sum(n for name, n in whole.images["test"].items() if name in wanted)
        return presets.fit(preset, whole.classes, size, test)

    fits = {preset.name: fit(preset) for preset in presets.PRESETS.values()}
    shown = sorted((p for p in presets.PRESETS.values() if fits[p.name] != "other"), key=lambda p: ORDER.index(fits[p.name]))
    made_for_it = any(fits[p.name] == "same" for p in shown)
    with st.expander("Presets", icon=":material/bookmarks:", expanded=expanded and made_for_it, key="presets"):
        st.caption("What the tutorials trained that Loupe grew from, with the figures they published.")
        count = len(shown)
        if not st.session_state.get("presets-all"):
            shown = shown[:IN_A_ROW]
        for first in range(0, len(shown), IN_A_ROW):
            for column, preset in zip(st.columns(IN_A_ROW), shown[first : first + IN_A_ROW], strict=False):
                with column, frame.told():
                    _card(current, preset, fits[preset.name], seen)
        if count > IN_A_ROW:
            st.toggle(f"Show all {count}", key="presets-all")
        for data in presets.CLASSES:
            if others := [p.title for p in presets.PRESETS.values() if p.data == data and fits[p.name] == "other"]:
                st.caption(f"With {data} as the dataset: {'; '.join(others)}.")


def _card(current: Dataset, preset: Preset, fit: presets.Fit, seen: plan.Pictures | None) -> None:
    with st.container(border=True, height="stretch", key=f"preset-{preset.name}"):
        drawn = base64.b64encode(sketch(preset).encode()).decode()
        st.html(f'<img alt="" height="{HEIGHT}" src="data:image/svg+xml;base64,{drawn}">')
        st.markdown(f"**{preset.title}**  \n{preset.sentence}")
        facts = [f":material/flag: Published: {preset.published_text}", FITS[fit]]
        if preset.needs_weights:
            arch = networks.architecture(preset.settings["architecture"])
            here = networks.weights_here(arch)
            facts.append(
                ":material/download_done: Its weights are here" if here else f":material/cloud_download: Needs {network.where(arch)}"
            )
        st.caption("  \n".join(facts), help=preset.note)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            heed = _heed(current, preset, seen)
            for name, changes in {"": {}, **preset.variants}.items():
                if not heed and form.pressed(
                    f"Start with {name}" if name else "Start", icon=":material/play_arrow:", key=f"preset-{preset.name}-start-{name}"
                ):
                    start(current.id, {**preset.settings, **changes}, preset.name)
            if preset.settings["architecture"] in networks.BASELINES:
                return  # there is nothing to set
            st.button(
                "Look and start" if heed else "Change first",
                icon=":material/warning:" if heed else ":material/tune:",
                type="secondary" if heed else "tertiary",
                key=f"preset-{preset.name}-change",
                help=frame.plain(heed) if heed else "Fills the form below.",
                on_click=_fill,
                args=(preset,),
            )


def _fill(preset: Preset) -> None:
    form.fill(preset.settings, preset.name)
    st.toast(f"The form below holds “{preset.title}” now.", icon=":material/tune:")


def _heed(current: Dataset, preset: Preset, seen: plan.Pictures | None) -> str:
    """What a person should know before a start, "" if nothing: then one click is enough."""
    config = params.run_config(preset.settings)
    found = plan.plan(current.id, config.classes)
    estimate = train.estimate(current.id, config, found.count("train"))
    said = [guard.message for guard in plan.guards(found, config, seen, estimate.seconds if estimate else None)]
    if estimate is None and (n := found.count("train")) * config.epochs > MANY:
        said.append(f"{n:,} training images are seen up to {config.epochs:,} times: that can take hours.")
    return " ".join(said)


def reached(state: train.RunState) -> None:
    """The published figure beside the run's own, once it has ended."""
    preset = presets.find(state.run.preset)
    if preset is None or state.status != "succeeded":
        return
    usual = params.run_config(preset.settings)
    changed = [name for name in params.differing([state.run.config, usual]) if name not in ("seed", "device")]
    variants = [params.differing([params.run_config({**preset.settings, **v}), usual]) for v in preset.variants.values()]
    with frame.told():
        if preset.split not in evaluate.splits(state.run.id):
            return
        line = presets.published_line(preset, evaluate.evaluate(state.run.id, preset.split, today=False))
        if changed and changed not in variants:
            names = ", ".join(params.PARAMS[name].title.lower() for name in changed)
            line += f" Changed from the preset: {names}."
        if preset.split == "test":
            openings.count(state.run)
        st.markdown(f":material/flag: **{preset.title}.** {frame.plain(line)}", help=preset.note)
        openings.chip(state.run)


# Sketches: the picture on the left, what comes after it, the answer on the right -------------------------

ACCENT, INK = "#0f8f83", "#7c898b"  # seen on light and on dark: an image does not know its page's colours
HEIGHT = 44


def sketch(preset: Preset) -> str:
    """A small drawing of the network as SVG."""
    settings = preset.settings
    arch = networks.architecture(settings["architecture"])
    if arch.name in networks.BASELINES:
        inside = _square(2, "3") + _square(78, "7") + _line(40, 22, 74, 22, dash="3 3") + _dots(57, 1, accent=True)
        return _svg(116, inside)
    outputs = 1 if settings.get("output") == "sigmoid" else 2 if settings.get("classes") else 6 if preset.data else 3
    chosen = [("dots", 2 + min(4, layer.size // 3)) for layer in settings.get("layers", ()) if layer.kind == "dense"]
    frozen = bool(settings.get("freeze"))
    x, parts = 2.0, [_square(2, "")]
    x += 36 + 10
    for kind, n in (*arch.sketch, *chosen):
        if kind == "planes":
            parts.append("".join(_plane(x + 4 * i, 9 + 2 * i) for i in range(n)))
            x += 4 * n + 22
        elif kind in ("bars", "arcs"):
            parts.append("".join(_bar(x + 8 * i, 34 - 1.6 * i, frozen) for i in range(n)))
            if kind == "arcs":
                parts.append("".join(_arc(x + 2 + 16 * i, x + 18 + 16 * i) for i in range(n // 2)))
            x += 8 * n + 6
        else:
            parts.append(_dots(x + 6, n))
            x += 24
    parts.append(_dots(x + 6, outputs, accent=True))
    return _svg(round(x + 14), "".join(parts))


def _svg(width: int, inside: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" fill="none" stroke="{INK}" '
        f'stroke-width="1.4">{inside}</svg>'
    )


def _square(x: float, text: str) -> str:
    inside = "".join(f'<path d="M{x + 9 * i} 4v36M{x} {4 + 9 * i}h36" opacity=".25"/>' for i in range(1, 4))
    if text:
        inside = "".join(
            f'<text x="{x + 18 + d}" y="{32 + d}" font-size="28" text-anchor="middle" fill="{INK}" stroke="none" opacity=".28">{text}</text>'
            for d in (-1.5, 0, 1.5)
        )
    return f'<rect x="{x}" y="4" width="36" height="36" rx="2"/>{inside}'


def _dots(x: float, n: int, *, accent: bool = False) -> str:
    gap = min(9.0, 36 / max(1, n))
    top = HEIGHT / 2 - gap * (n - 1) / 2
    colour = f'fill="{ACCENT}" stroke="none"' if accent else f'fill="{INK}" stroke="none" opacity=".7"'
    return "".join(f'<circle cx="{x}" cy="{top + gap * i:.1f}" r="2.8" {colour}/>' for i in range(n))


def _plane(x: float, y: float) -> str:
    return f'<rect x="{x}" y="{y}" width="18" height="20" rx="1.5" opacity=".7"/>'


def _bar(x: float, height: float, frozen: bool) -> str:
    return f'<rect x="{x}" y="{HEIGHT / 2 - height / 2:.1f}" width="4" height="{height:.1f}" rx="1" opacity="{0.3 if frozen else 0.8}"/>'


def _arc(a: float, b: float) -> str:
    return f'<path d="M{a} 4C{a} 0 {b} 0 {b} 4" opacity=".5"/>'


def _line(x1: float, y1: float, x2: float, y2: float, dash: str) -> str:
    return f'<path d="M{x1} {y1}L{x2} {y2}" stroke-dasharray="{dash}" opacity=".6"/>'
