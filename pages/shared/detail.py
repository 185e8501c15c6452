"""One image in a drawer: picture, label, facts, why it is in its split, its labels through time; at the end what a network receives of it."""

from __future__ import annotations

import html
import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from core.api import signing
from core.catalog import networks
from core.data import classes, labels, originals, removed, splits, store
from core.data.labels import LabelResult
from core.errors import AppError, Conflict
from core.review import predict
from core.train import train
from core.types import Dataset, Image, LabelEvent
from pages.shared import frame, times
from pages.shared.figures import base
from pages.shared.history import MOVED, WHY, change

LATEST = 5  # events that are seen at once
WINDOW = 12  # pixels a side, as many as stay readable as numbers


def picture(url: str, alt: str, height: str = "auto") -> None:
    """A picture by its address: its bytes never pass through the script."""
    st.html(
        f'<img src="{html.escape(url)}" alt="{html.escape(alt)}" style="width:100%;height:{height};object-fit:contain;'
        f'max-height:48vh;border-radius:6px;background:rgba(128,140,140,.12)">'
    )


def drawer(current: Dataset, wanted: str | None, where: str) -> None:
    """The image that a person asked to see, until it is closed: a rerun for another reason, such as somebody's label, leaves it open."""
    if wanted:
        st.session_state[frame.DRAWER] = (where, current.id, wanted)
    if (held := st.session_state.get(frame.DRAWER)) and held[:2] == (where, current.id):
        _drawer(current, held[2])


def _closed() -> None:
    st.session_state.pop(frame.DRAWER, None)


@st.dialog("Image", width="large", position="right", on_dismiss=_closed)
def _drawer(current: Dataset, image_id: str) -> None:
    with frame.guarded("image"):
        out = removed.get(current.id, [image_id]) if frame.may("delete", current.id, say=False) else []
        image = out[0] if out else store.get_image(current.id, image_id)
        left, right = st.columns([3, 2])
        with left:
            if missing := originals.why_missing(image):
                st.warning(missing, icon=":material/broken_image:")
            else:
                picture(signing.picture_url(image), f"{image.source}, labelled {image.label or 'nothing'}")
            with st.container(horizontal=True):
                st.link_button("Full size", signing.picture_url(image), icon=":material/open_in_new:", type="tertiary")
                if not out and train.usable(current.id) and st.button(
                    "Explain", icon=":material/frame_inspect:", type="tertiary", key=f"explain-{image.id}",
                    help="Shows which parts of this picture made a network’s answer.",
                ):  # fmt: skip
                    run = {"run": st.query_params["run"]} if "run" in st.query_params else {}
                    st.switch_page("explain.py", query_params={"image": image.id} | run)
        with right:
            if out:
                _removed(current, image)
            else:
                _label(current, image)
            _facts(current, image)
        _timeline(current, image, may=not out)
        if not out:
            _received(current, image)


def _removed(current: Dataset, image: Image) -> None:
    st.markdown("**Removed from the dataset**")
    if error := st.session_state.pop("drawer-error", None):
        frame.show(error)
    st.button(
        "Bring back", icon=":material/undo:", key=f"bring-back-{image.id}", help="With the label it had.",
        on_click=lambda: _act(image, lambda: removed.bring_back(current.id, [image.id], frame.user(), secrets.token_hex(16))),
    )  # fmt: skip


def _label(current: Dataset, image: Image) -> None:
    """What the image carries; every act is bound to the image as it was seen, so that nobody's change is overwritten unseen."""
    st.markdown("**Label**")
    if not frame.may("label", current.id):
        st.markdown(frame.plain(image.label) if image.label is not None else "none")
        return
    if error := st.session_state.pop("drawer-error", None):
        frame.show(error)
    key = f"label-{image.id}-{image.label_seq}"
    st.pills(
        "Label",
        current.classes,
        default=image.label if image.label in current.classes else None,
        format_func=frame.plain,
        label_visibility="collapsed",
        wrap=True,
        key=key,
        help="Choosing another class changes the label; choosing the same one again takes it back.",
        on_change=lambda: choose(current, image, st.session_state[key]),
    )
    with st.container(horizontal=True):
        st.button(
            "Remove the flag" if image.flagged else "Flag",
            icon=":material/flag:",
            key=f"flag-{image.id}-{image.label_seq}",
            help=None if image.flagged else "Marks it to be looked at again; find it under Browse, State, Flagged.",
            on_click=lambda: _act(image, lambda: labels.flag(current.id, {image.id: image.label_seq}, not image.flagged, frame.user())),
        )
        _example(current, image)


def choose(current: Dataset, image: Image, name: str | None) -> None:
    """Gives the image another label; the browser also reports, as if chosen, the label a drawer opened with, where its first run was cut short."""
    if name != image.label:
        _act(image, lambda: labels.apply(current.id, {image.id: image.label_seq}, name, frame.user()))


def _act(image: Image, write: Callable[[], LabelResult | int | None]) -> None:
    """Runs before the drawer is drawn anew; what went wrong is said there."""
    try:
        done = write()
        if isinstance(done, int):
            return
        if done and (other := done.refused.get(image.id)):
            now = f"“{other.label}”" if other.label is not None else "without a label"
            raise Conflict(f"{other.by} has changed this image since: it is {now} now.", "Choose again if you still want to change it.")
        if done and done.notice:
            st.toast(frame.plain(done.notice))
    except AppError as e:
        st.session_state["drawer-error"] = e


def _example(current: Dataset, image: Image) -> None:
    found = {c.name: c for c in classes.of(current.id) if not c.retired_at}
    if not found or not frame.may("import", current.id, say=False):
        return
    with st.popover("Example of …", icon=":material/bookmark:"):
        names = list(found)
        index = names.index(image.label) if image.label in found else 0
        name = str(st.selectbox("Class", names, index=index, key=f"example-of-{image.id}-{image.label}", filter_mode=None))
        one = found[name]
        shown = True if image.id in one.accepted else False if image.id in one.rejected else None
        key = f"example-{image.id}-{names.index(name)}-{shown}"
        st.segmented_control(
            "This image",
            [True, False],
            default=shown,
            format_func=lambda yes: "Belongs to it" if yes else "Only looks like it",
            key=key,
            help="Examples stand beside the guideline. Choosing the same again takes it away.",
            on_change=lambda: _act(image, lambda: classes.set_example(current.id, name, image.id, st.session_state[key])),
        )
    for accepted, words in ((True, "Example of"), (False, "Example of what is not")):
        if of := [c.name for c in found.values() if image.id in (c.accepted if accepted else c.rejected)]:
            st.caption(f"{words} {frame.plain(', '.join(of))}", width="content")


def _timeline(current: Dataset, image: Image, may: bool = True) -> None:
    """What happened to the image, newest first."""
    st.markdown("**History**")
    events = labels.history(current.id, image.id)
    if not events:
        st.caption("It has never been labelled.")
    for event in events[:LATEST]:
        _event(current, image, event, may)
    if older := events[LATEST:]:
        with st.expander(f"{len(older):,} older", key=f"older-{image.id}"):
            for event in older:
                _event(current, image, event, may)


def _event(current: Dataset, image: Image, event: LabelEvent, may: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key=f"event-{event.seq}"):
        note = f" ({frame.plain(event.note)})" if event.note else ""
        why = WHY.get(event.source, frame.plain(event.source))
        st.markdown(
            f"**{change(event)}**  ·  {why}{note}  \n:small[:gray[{frame.plain(event.by)}, {times.when(event.at)}]]", width="stretch"
        )
        if may and event.source not in MOVED and frame.may("label", current.id, say=False):
            st.button(
                "Go back to before this",
                icon=":material/undo:",
                type="tertiary",
                key=f"go-back-{event.seq}",
                on_click=lambda: _act(image, lambda: labels.go_back(current.id, image, event, frame.user())),
            )


def already(image: Image) -> str:
    """Of a picture that was brought again: which image of the dataset it is."""
    label = f"labelled **{frame.plain(image.label)}**" if image.label is not None else "without a label"
    return f"In the dataset already: a {image.split} image, {label}."


def _facts(current: Dataset, image: Image) -> None:
    st.markdown("**File**")
    rows = {
        "name": image.source,
        "size": f"{image.width} × {image.height} pixels, {'grey' if image.channels == 1 else 'colour'}",
        "file": f"{image.size_bytes:,} bytes, {image.ext}",
        "split": f"{image.split}. {splits.why(current, image)}",
        "added": times.when(image.added_at),
        "id": image.id,
    }
    cells = "".join(f"<tr><td style='opacity:.65;padding-right:1em'>{k}</td><td>{html.escape(v)}</td></tr>" for k, v in rows.items())
    st.html(f"<table style='font-size:.88rem;line-height:1.7;overflow-wrap:anywhere'>{cells}</table>")


def _received(current: Dataset, image: Image) -> None:
    """What the network gets: through a trained run's own preprocessing, or that of a network not trained yet."""
    inside = st.expander("What the network receives", icon=":material/memory:", key="received-open", on_change="rerun")
    if not inside.open:  # the model worker is not asked for what nobody looks at
        return
    with inside:
        _tensor(current, image)


def _tensor(current: Dataset, image: Image) -> None:
    options = network_options(current)
    choice = st.selectbox(
        "Network", list(options), format_func=options.__getitem__, key="received-by", label_visibility="collapsed", filter_mode=None
    )
    with st.spinner("Preparing the picture as the network sees it …"):
        found = predict.received(choice, current.id, image.path)
    how = found["preprocess"]
    left, right = st.columns([2, 3])
    with left, st.container(key="received"):
        st.image(found["image"], width="stretch", alt="the picture as the network receives it")
    with right:
        _, channels, height, width = found["shape"]
        st.markdown(
            f"A tensor of shape **{channels} × {height} × {width}** (channels × height × width). The shorter side is resized to {how.resize} "
            f"pixels and the centre square of {how.crop} is kept. Then the mean ({_numbers(how.mean)}) is taken away and the rest divided by "
            f"the standard deviation ({_numbers(how.std)}): values run from **{found['low']:.2f}** to **{found['high']:.2f}**."
        )
    _pixels(found["array"])


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:.3f}" for v in values)


def network_options(current: Dataset) -> dict[str, str]:
    """Run ids, and "architecture:<name>" for networks not trained yet, with their titles."""
    options = {r.run.id: f"{r.run.name} (trained)" for r in train.usable(current.id)[:10]}
    return options | {f"architecture:{a.name}": f"{a.title} (before training)" for a in networks.ARCHITECTURES.values()}


def _pixels(pixels: np.ndarray) -> None:
    """A window of (C, H, W) uint8 values as a shaded table."""
    channels, height, width = pixels.shape
    with st.container(horizontal=True, vertical_alignment="bottom"):
        channel = 0
        if channels == 3:
            channel = st.segmented_control(
                "Channel", [0, 1, 2], default=0, required=True, format_func=["red", "green", "blue"].__getitem__, key="px-channel"
            )
        x = st.slider("First column", 0, max(1, width - WINDOW), max(0, (width - WINDOW) // 2), key="px-x", disabled=width <= WINDOW)
        y = st.slider("First row", 0, max(1, height - WINDOW), max(0, (height - WINDOW) // 2), key="px-y", disabled=height <= WINDOW)
    x, y = min(x, max(0, width - WINDOW)), min(y, max(0, height - WINDOW))
    window = pixels[channel or 0, y : y + WINDOW, x : x + WINDOW]
    st.plotly_chart(_shaded(window, x, y), key="px", config={"displayModeBar": False})


def _shaded(window: np.ndarray, x: int, y: int) -> go.Figure:
    rows, columns = window.shape
    figure = base(f"Pixel values 0 to 255 (n = {window.size})", 90 + 26 * rows)
    axes: dict[str, Any] = {"x": list(range(x, x + columns)), "y": list(range(y, y + rows))}
    figure.add_heatmap(
        z=window,
        zmin=0,
        zmax=255,
        colorscale=[[0, "#000"], [1, "#fff"]],
        showscale=False,
        hovertemplate="column %{x}, row %{y}: %{z}<extra></extra>",
        **axes,
    )
    for color, part in (("#ffffff", window < 128), ("#000000", window >= 128)):
        ys, xs = np.nonzero(part)
        figure.add_scatter(
            x=xs + x,
            y=ys + y,
            mode="text",
            text=[str(v) for v in window[part]],
            textfont={"color": color, "size": 11},
            hoverinfo="skip",
            showlegend=False,
        )
    figure.update_xaxes(title="column", dtick=1, showgrid=False)
    figure.update_yaxes(title="row", dtick=1, showgrid=False, autorange="reversed")
    return figure
