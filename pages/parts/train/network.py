"""Choosing the network of a run: eight by name, all others by search, or one's own layers; and a look inside it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import streamlit as st

from core.catalog import layers, networks, params
from core.catalog.params import OPTION_TITLES, PARAMS
from core.errors import Invalid
from core.train import anatomy, plan, speed, train
from core.types import Architecture, Dataset, Layer, RunConfig
from pages.parts.train.drawing import builder, drawing
from pages.shared import form, frame

PAGE = 8  # networks found that are shown at once
OWN = "own"
Values = dict[str, Any]


def choose(current: Dataset, start: Values, key: str) -> Values:
    """The settings of the group “network”; start holds what a preset, a clone or nothing gives, key changes with it."""
    pictures = plan.pictures(current.id)
    seen = pictures.sizes if pictures else ()
    size = st.session_state.get(f"{key}-image_size", start.get("image_size", 0))
    speeds = speed.known()
    classes = len(st.session_state.get(f"{key}-classes") or start.get("classes") or plan.plan(current.id).classes)
    with st.expander("Network", expanded=True, icon=":material/hub:", key=f"{key}-network"):
        values: Values = {"architecture": _named(current, classes, start, key, seen, size, speeds)}
        _search(key, classes)
        arch = networks.architecture(values["architecture"])
        st.caption(_about(arch))
        if arch.weights:
            values |= _weights(arch, start, key)
        if arch.name == OWN:
            values |= _build(current, start, key, seen, size)
        else:
            with frame.told():
                _look_inside(classes, values, key, seen, size)
        _speed(arch, speeds, key)
    return values


def _named(current: Dataset, classes: int, start: Values, key: str, seen: Any, size: int, speeds: dict[str, speed.Speed]) -> str:
    """The eight names, and below them what was found by search or stood in the run that is cloned."""
    chosen, found = f"network-{key}", f"found-{key}"
    if chosen not in st.session_state:
        arch = networks.find(start.get("architecture", "")) or networks.architecture(train.suggested(current.id))
        st.session_state[chosen] = arch.name
        if arch.name not in networks.ARCHITECTURES:
            st.session_state[found] = arch.name
    names = [*networks.ARCHITECTURES, *([st.session_state[found]] if st.session_state.get(found) else [])]
    if st.session_state[chosen] not in names:
        st.session_state[chosen] = names[0]
    shown = [networks.architecture(name) for name in names]
    lines = {a.name: f"{frame.plain(a.title)}\u2002:gray[{_facts(a, _begins(a, start, key, size), seen, classes, speeds)}]" for a in shown}
    return str(
        st.radio(
            PARAMS["architecture"].title,
            names,
            format_func=lines.__getitem__,
            key=chosen,
            persist_state="session",
            help=PARAMS["architecture"].help,
        )
    )


def _begins(arch: Architecture, start: Values, key: str, size: int) -> RunConfig:
    """The network as the form stands: from random weights where they were chosen for it, and at the image size if it takes that."""
    given = start if networks.find(start.get("architecture", "")) == arch else {}
    pretrained = bool(arch.weights) and st.session_state.get(f"{key}-{arch.name}-pretrained", given.get("pretrained", True))
    values: Values = {"architecture": arch.name, **({} if pretrained else {"pretrained": False, "freeze": False})}
    try:
        return params.run_config({**values, "image_size": size})
    except Invalid:
        return params.run_config(values)


def _facts(arch: Architecture, config: RunConfig, seen: Any, classes: int, speeds: dict[str, speed.Speed]) -> str:
    """One line: parameters with this dataset's classes, input size, speed on this machine, weights."""
    if arch.name == OWN:
        return "row by row"
    how, facts = networks.preprocess_for(config, seen), []
    if (count := networks.parameters(arch, how.channels, how.crop, classes)) is not None:
        facts.append(f"{amount(count)} parameters")
    facts.append(f"{how.crop} × {how.crop}")
    if arch.name in speeds:
        one = speeds[arch.name]
        facts.append(f"about {_rate(one.images_per_s)} images/s here{f' at {one.side} × {one.side}' if one.side != how.crop else ''}")
    if arch.weights:
        facts.append(where(arch) if config.pretrained else "from random weights")
    return " · ".join(facts)


def where(arch: Architecture) -> str:
    """Where the pretrained weights are, or what it takes to have them."""
    if arch.weights == "embedded":
        return "weights installed"
    return (
        "weights downloaded" if networks.weights_here(arch) else f"a download of about {networks.download_bytes(arch) / 1e6:,.0f} MB, once"
    )


def _about(arch: Architecture) -> str:
    known = networks.facts(arch)
    source = f" {arch.source}." if arch.source and arch.name != OWN else ""
    licence = f" Licence of the weights: {known.licence}." if known and known.licence and arch.weights != "embedded" else ""
    return frame.plain(arch.summary + source + licence)


def amount(count: int) -> str:
    for unit, size in (("billion", 1e9), ("million", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:,}"


def _rate(images_per_s: float) -> str:
    """Two digits: the next measurement differs in the third."""
    return f"{float(f'{images_per_s:.2g}'):,.0f}" if images_per_s >= 10 else f"{images_per_s:.1f}"


# Search -------------------------------------------------------------------------------------------


def _search(key: str, classes: int) -> None:
    total = networks.search("")[1]
    text = st.text_input(
        f"Search all {total:,} networks of torchvision and timm",
        placeholder="vgg16, convnext tiny, mobilenet …",
        key=f"search-{key}",
        icon=":material/search:",
    )
    if not (text or "").strip():
        return
    with st.container(border=True, gap=None, key=f"{key}-found-networks"):
        page = int(st.session_state.get(f"search-page-{key}-{text}") or 1)
        found, count = networks.search(text or "", page - 1, PAGE)
        if not count:
            st.caption("No network has this name. Try a part of it, such as resnet or vit.")
        for arch in found:
            st.button(
                f"{frame.plain(arch.title)}\u2002:gray[{' · '.join(_line(arch, classes))}]",
                key=f"{key}-take-{arch.name}",
                type="tertiary",
                on_click=_take,
                args=(key, arch.name),
            )
        if count > PAGE:
            st.pagination(-(-count // PAGE), key=f"search-page-{key}-{text}")


def _line(arch: Architecture, classes: int) -> list[str]:
    library = arch.factory.partition(":")[0]
    size = [f"{arch.input_size} × {arch.input_size}"] if arch.input_size else []
    count = [amount(networks.parameters(arch, 3, arch.input_size or 0, classes) or 0)] if arch.parameters else []
    weights = where(arch) if arch.weights else "no pretrained weights"
    return [library if library in ("timm", "torchvision") else "of Loupe", *count, *size, weights]


def _take(key: str, name: str) -> None:
    if name not in networks.ARCHITECTURES:
        st.session_state[f"found-{key}"] = name
    st.session_state[f"network-{key}"] = name
    st.session_state[f"search-{key}"] = ""


# Weights ------------------------------------------------------------------------------------------


def _weights(arch: Architecture, start: Values, key: str) -> Values:
    """Whether the network begins with what it learned from photographs, and which of its layers learn."""
    values: Values = {}

    def field(name: str, default: Any, disabled: bool = False) -> None:
        what = f"{key}-{arch.name}-{name}" + (f"-{values['pretrained']}" if name == "freeze" else "")
        values[name] = form.field(PARAMS[name], default, key=what, disabled=disabled)

    same = networks.find(start.get("architecture", "")) == arch
    given = start if same or not start.get("architecture") else {}
    first = st.columns(2)
    with first[0]:
        field("pretrained", given.get("pretrained"))
    with first[1]:
        field("freeze", bool(given.get("freeze", True) and values["pretrained"]), disabled=not values["pretrained"])
    if not values["pretrained"]:
        return values
    second = st.columns(2)
    if values["freeze"]:
        with second[0]:
            field("unfreeze_after", given.get("unfreeze_after"))
    if not values["freeze"] or values["unfreeze_after"]:
        with second[1 if values["freeze"] else 0]:
            field("backbone_rate", given.get("backbone_rate"))
    return values


# A look inside ------------------------------------------------------------------------------------


def _look_inside(classes: int, values: Values, key: str, seen: Any, size: int) -> None:
    """The network as a drawing and a table, as soon as the model worker has taken it apart."""
    try:
        config = params.run_config({**values, "image_size": size})
    except Invalid:
        config = params.run_config(values)  # what is wrong with the size is said beside the button that starts
    future = anatomy.ask(config, seen, classes)
    with st.container(key=f"{key}-inside"):
        if not anatomy.done(future, 0.3):
            _waiting(config, seen, classes)
            return
        found = anatomy.answer(future)
        learn = "" if found.trained == found.parameters else f", of which {found.trained:,} learn"
        facts = f"{found.parameters:,} parameters{learn} · {amount(found.multiply_adds)} multiply-adds for one picture"
        drawing(
            {"channels": found.channels, "side": found.side},
            anatomy.blocks(found),
            [asdict(r) for r in found.rows],
            facts,
            key=f"{key}-drawing",
        )


@st.fragment(run_every=0.5)
def _waiting(config: Any, seen: Any, classes: int) -> None:
    with frame.guarded("network"):
        if anatomy.done(anatomy.ask(config, seen, classes), 0):
            st.rerun()
        st.container(height=180, border=False, key="inside-waiting").caption("Taking the network apart …")


# One's own ----------------------------------------------------------------------------------------


def _build(current: Dataset, start: Values, key: str, seen: Any, size: int) -> Values:
    """The builder; its answer is checked in plain Python, so that every key pressed has its answer at once."""
    kept = f"layers-{key}"
    begin = start.get("layers", ()) if start.get("architecture") == OWN else layers.EXAMPLES["Two 5 × 5 convolutions"]
    first = [asdict(row) if isinstance(row, Layer) else dict(row) for row in begin]
    given: list[Values] = st.session_state.get(kept, first)
    values: Values = {"output": form.field(PARAMS["output"], start.get("output"), key=f"{key}-output", titles=lambda o: OPTION_TITLES[o])}
    fits = 8 <= size <= (PARAMS["image_size"].high or size)  # what is wrong with another is said beside the button that starts
    config = params.run_config({"architecture": OWN, "image_size": size if fits else 0})
    how = networks.preprocess_for(config, seen)
    bad = {i: problem for i, row in enumerate(given, 1) if (problem := params.layer_problem(row))}
    right = given[: min(bad) - 1] if bad else given
    rows = layers.walk(
        [Layer(**row) for row in right],
        how.channels,
        how.crop,
        len(st.session_state.get(f"{key}-classes") or current.classes),
        values["output"],
    )
    if bad:
        rows = [row for row in rows if row.kind != "output"]
    drawn = [{**asdict(row), "problem": _sentence(row.problem)} for row in rows]
    drawn += [
        {"number": i, "kind": "", "title": "", "shape": [], "parameters": 0, "formula": "", "problem": _sentence(p)} for i, p in bad.items()
    ]
    wrong = [*bad, *(row.number for row in rows if row.problem)]
    if wrong:
        facts = f"It cannot be trained so: see {f'layer {wrong[0]}' if wrong[0] else 'the output'}."
    else:
        total = sum(row.parameters for row in rows)
        facts = layers.problem(rows) or (
            f"{total:,} parameters · pictures of {how.crop} × {how.crop}, {'grey' if how.channels == 1 else 'in colour'}"
        )
    answer = builder(
        {"channels": how.channels, "side": how.crop},
        anatomy.blocks_of_own(rows),
        drawn,
        facts,
        given,
        {name: [asdict(one) for one in some] for name, some in layers.EXAMPLES.items()},
        key=f"{key}-builder",
    )
    if answer is not None and answer != given:
        st.session_state[kept] = answer
        st.rerun()
    return {**values, "layers": given}


def _sentence(problem: str) -> str:
    return problem[:1].upper() + problem[1:]


# Speed --------------------------------------------------------------------------------------------


def _speed(arch: Architecture, speeds: dict[str, speed.Speed], key: str) -> None:
    """What was measured, and the way to measure."""
    if doing := speed.progress():
        _measuring(doing)
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"{key}-speed"):
        wanted = speed.measurable()
        if arch.name in speeds:
            one = speeds[arch.name]
            st.caption(
                f"About {_rate(one.images_per_s)} images/s in training here ({frame.plain(one.device)}, all layers learning, {one.side} × {one.side}).",
                width="content",
            )
        elif arch.measurable:
            st.caption("Its speed here is not measured yet.", width="content")
        if arch.name not in wanted and arch.measurable:
            title, wanted = "Measure again" if arch.name in speeds else "Measure it", [arch.name]
        else:
            title = "Measure all again" if set(wanted) <= speeds.keys() else f"Measure all {len(wanted)}"
        with frame.told():
            if st.button(
                title,
                key=f"{key}-measure",
                type="tertiary",
                icon=":material/speed:",
                help="In the background; a run that goes on is waited for.",
            ):
                speed.measure(wanted)
                st.rerun()


@st.fragment(run_every=2)
def _measuring(drawn: str) -> None:
    with frame.guarded("speed"):
        doing = speed.progress()
        if not doing or doing != drawn:
            st.rerun()
        st.caption(f":material/speed: {frame.plain(doing)} …")
