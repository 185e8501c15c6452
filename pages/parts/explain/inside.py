"""Inside the network for one picture: the training images nearest to it, the first filters, and what each layer makes of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from core.data import store
from core.explain import inside as network
from core.types import Dataset, Image, Run
from pages.shared import frame, thumbs
from pages.shared.detail import drawer

ROW = "display:flex;flex-wrap:wrap;gap:.35rem .45rem"
CAPTION = "font-size:.72rem;line-height:1.3;opacity:.75;overflow-wrap:anywhere"
ASKED = "inside-compared"  # in the session: the question of each run that is on its way
KINDS = {
    "Conv2d": "convolution", "Conv2dSame": "convolution", "ReLU": "ReLU", "ReLU6": "ReLU", "MaxPool2d": "pooling", "AvgPool2d": "pooling",
    "AdaptiveAvgPool2d": "pooling", "BatchNorm2d": "normalisation", "BatchNormAct2d": "normalisation", "Dropout": "dropout", "Identity": "unchanged",
}  # fmt: skip


def inside(current: Dataset, run: Run, path: Path, image_id: str) -> None:
    """image_id: that of an image of the dataset, or "" for a picture of one's own."""
    with st.container(border=True, key="inside-nearest"), frame.told():
        st.header("Nearest training images", anchor=False)
        _nearest(current, run, path, image_id)
    with st.container(border=True, key="inside-layers"), frame.told():
        st.header("What each layer makes of it", anchor=False)
        _layers(run, path, image_id)
    with st.container(border=True, key="inside-filters"), frame.told():
        st.header("What the first layer looks for", anchor=False)
        _filters(run)


# Neighbours ---------------------------------------------------------------------------------------


def _nearest(current: Dataset, run: Run, path: Path, image_id: str) -> None:
    if why := network.no_features(run.id):
        st.caption(frame.plain(why))
        return
    if not network.compared(run.id):
        asked: dict[str, Future[Any]] = st.session_state.setdefault(ASKED, {})
        if run.id not in asked:
            asked[run.id] = network.compare(run.id)
        if not asked[run.id].done():
            _wait(run.id, asked[run.id])
            return
        network.ended(asked.pop(run.id))
    found = network.neighbours(run.id, path, image_id)
    if not found.nearest:
        st.caption("This run has no other training image that can be read.")
        return
    n = len(found.nearest)
    (first, count), *others = network.shares(found.nearest)
    rest = "".join(f", {more} {frame.plain(name)}" for name, more in others)
    part = f" {found.compared:,} of {found.training:,} training images were compared." if found.compared < found.training else ""
    st.markdown(f"**{count} of its {n}** nearest training images {'is' if count == 1 else 'are'} labelled **{frame.plain(first)}**{rest}.")
    st.caption(
        "Near is what the last layer before the answer holds for alike: the cosine of its features, 1 for the same, among "
        f"{found.compared:,} training images.{part} If neighbours carry another label, one of the labels may be wrong. Labels are those the run learned from."
    )
    here = {i.id: i for i in store.get_images(current.id, [one.image_id for one in found.nearest])}
    notes = {one.image_id: f"{one.similarity:.3f}{_learned(one, here)}" for one in found.nearest}
    shown = [here[one.image_id] for one in found.nearest if one.image_id in here]
    if len(shown) < n:
        st.caption(f"{n - len(shown)} of them are not in the dataset any more.")
    event = thumbs.image_grid(current, shown, key="inside-nearest-grid", notes=notes, size=96, caption="label")
    drawer(current, event.open, "inside")


def _learned(one: network.Neighbour, here: Mapping[str, Image]) -> str:
    """What the run learned it as, where its label has changed since."""
    return f", learned as {one.label}" if one.image_id in here and here[one.image_id].label != one.label else ""


@st.fragment(run_every=0.5)
def _wait(run_id: str, future: Future[Any]) -> None:
    with frame.guarded("inside"):
        if future.done():
            st.rerun()
        done, total = network.progress(run_id)
        words = f"{done:,} of {total:,}" if total else "waiting for its turn"
        st.progress(min(1.0, done / max(1, total)), f"Comparing the run’s training images, once for all pictures: {words}")


# Feature maps -------------------------------------------------------------------------------------


def _layers(run: Run, path: Path, image_id: str) -> None:
    found = network.outputs(run.id)
    if not found:
        st.caption("No layer of this network keeps places: its first step makes one number, or one row of numbers, of the whole picture.")
        return
    names = [f"{one.name}-{one.call}" for one in found]
    by_name = dict(zip(names, found, strict=True))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Layer",
            names,
            format_func=lambda name: _titled(by_name[name]),
            key=f"inside-layer-{run.id}",
            width=420,
            persist_state="session",
        )
    output = by_name[str(chosen)]
    total = output.shape[0]
    pages = -(-total // network.PAGE)
    key = f"inside-channels-{run.id}-{chosen}"
    number = min(st.session_state.get(key, 1), pages)
    maps = network.feature_maps(run.id, path, output, (number - 1) * network.PAGE)
    names = [f"{channel + 1}: {strength:.3g}" for channel, strength in zip(maps.channels, maps.strength, strict=True)]
    low = f"black −{maps.high:.3g}, mid-grey 0" if maps.low < 0 else "black 0"
    st.caption(
        f"{total:,} channels of {output.shape[1]} × {output.shape[2]}, strongest first; under each its number and its mean strength. "
        f"One scale for all: {low}, white {maps.high:.3g}."
    )
    _pictures(maps.pictures, names, 96 if output.shape[1] > 8 else 72)
    if pages > 1:
        st.pagination(pages, key=key)


def _titled(output: network.Output) -> str:
    again = f", time {output.call}" if output.call > 1 else ""
    return f"{output.name} ({KINDS.get(output.kind, output.kind)}{again}) · {' × '.join(map(str, output.shape))}"


# Filters ------------------------------------------------------------------------------------------


def _filters(run: Run) -> None:
    found = network.filters(run.id)
    high, wide = found.size
    shown = f" The first {len(found.pictures):,} of {found.total:,}." if found.total > len(found.pictures) else ""
    scale = f"One scale for all: mid-grey is 0, the extremes are ±{found.scale:.3g}.{shown}"
    if found.kind == "none":
        st.caption(
            "The first layer does not read colours or greys of single pixels in a way that makes a picture, so there is nothing to show."
        )
        return
    words = {
        "convolution": f"{found.total:,} filters of {high} × {wide} pixels, layer {frame.plain(found.layer)}: each answers most where the picture looks like it. {scale}",
        "dense": f"The weights of {found.total:,} units on every pixel, layer {frame.plain(found.layer)}: bright pixels speak for a unit where they are bright. {scale}",
        "classes": f"The weights of each class on every pixel: where it is bright, bright pixels speak for the class; where dark, against it. {scale}",
        "means": "Pixel similarity has no filters and no weights. It compares a picture with the mean image of each class:",
    }
    st.caption(words[found.kind])
    has = [(picture, name) for picture, name in zip(found.pictures, found.names, strict=True) if picture is not None]
    _pictures([p for p, _ in has], [n for _, n in has], 56 if found.kind == "convolution" else 96)


def _pictures(pictures: Sequence[bytes], names: Sequence[str], side: int) -> None:
    cells = "".join(
        f'<figure style="margin:0;width:{side}px"><img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(png).decode()}" '
        f'style="width:{side}px;height:auto;display:block;border-radius:3px;image-rendering:pixelated">'
        f'<figcaption style="{CAPTION}">{escape(name)}</figcaption></figure>'
        for png, name in zip(pictures, names, strict=True)
    )
    st.html(f'<div style="{ROW}">{cells}</div>')
