"""Pixel similarity made visible: the mean image of each class, and how far a chosen image is from each."""

from __future__ import annotations

import base64
from html import escape

import pandas as pd
import streamlit as st

from core.catalog import networks
from core.data import store
from core.evaluate import evaluate
from core.train import similarity
from core.train.train import RunState
from core.types import Dataset, Run
from pages.shared import frame, thumbs

PER_PAGE = 24
ROW = "display:flex;flex-wrap:wrap;gap:.6rem 1rem;font-size:.85rem;line-height:1.45"
PICTURE = "width:84px;height:84px;image-rendering:pixelated;border-radius:4px;display:block"


def means(current: Dataset, state: RunState) -> None:
    """What a run by pixel similarity compares with; nothing for other runs."""
    run = state.run
    if run.config.architecture not in networks.BASELINES or state.status != "succeeded":
        return
    with st.container(border=True, key="similarity"), frame.told():
        st.header("The mean images", anchor=False)
        st.caption(
            "Each is the average of a class’s training images. The nearest one is the answer; distances are of pixels between 0 and 1. "
            "The shares shown as confidence are a softmax of minus the distances: they put the classes in order, but are no probabilities."
        )
        mean, chosen = _means(run.id), st.session_state.get(f"similar-{run.id}")
        split = evaluate.splits(run.id)[0]
        rows = evaluate.evaluate(run.id, split, today=False).rows
        if chosen not in set(rows["image_id"]):
            chosen = None
        left, right = st.columns([2, 3], gap="medium")
        with left:
            chosen = _choose(current, run, rows, split, chosen)
        with right:
            _distances(run, mean, chosen)


@st.cache_data(max_entries=20, show_spinner=False)
def _means(run_id: str) -> dict[str, bytes | None]:
    return similarity.mean_images(run_id)


def _choose(current: Dataset, run: Run, rows: pd.DataFrame, split: str, chosen: str | None) -> str | None:
    """One of the images the run was judged by, its mistakes first."""
    ordered = rows.assign(right=rows["true"] == rows["predicted"]).sort_values("right", kind="stable")
    pages = -(-len(ordered) // PER_PAGE)
    number = min(st.session_state.get("similar-page", 1), pages)
    found = store.get_images(current.id, list(ordered["image_id"].iloc[(number - 1) * PER_PAGE : number * PER_PAGE]))
    wrong = int((~ordered["right"]).sum())
    first = f"; the {wrong:,} it got wrong come first" if wrong else ""
    st.markdown(f"Choose one of the {len(ordered):,} {split} images{first}.")
    event = thumbs.image_grid(current, found, key="similar-grid", split=split, size=64, caption="label")
    st.pagination(pages, key="similar-page")
    if event.open:
        st.session_state[f"similar-{run.id}"] = event.open
        return event.open
    return chosen or (found[0].id if found else None)


def _distances(run: Run, mean: dict[str, bytes | None], chosen: str | None) -> None:
    found = None if chosen is None else similarity.distances(run.id, chosen)
    if found is not None and chosen is not None:
        image = store.get_image(run.dataset_id, chosen)
        said = {kind: run.classes[values.index(min(values))] for kind, values in (("L1", found.l1), ("L2", found.l2))}
        text = " and ".join(f"by {kind} **{frame.plain(name)}**" for kind, name in said.items())
        st.html(f'<img alt="" style="{PICTURE}" src="{_url(found.picture)}">')
        st.markdown(f"{frame.plain(image.source)}, labelled **{frame.plain(image.label or 'nothing')}**. Nearest: {text}.")
    cells = []
    for i, (name, picture) in enumerate(mean.items()):
        drawn = f'<img alt="mean image of {escape(name)}" style="{PICTURE}" src="{_url(picture)}">' if picture else "no training image"
        lines = [f"<b>{escape(name)}</b>"]
        if found is not None and picture:
            for kind, values in (("L1", found.l1), ("L2", found.l2)):
                near = values[i] == min(values)
                lines.append(f"{'<b>' if near else ''}{kind} {values[i]:.4f}{' nearest</b>' if near else ''}")
        cells.append(f"<div>{drawn}{'<br>'.join(lines)}</div>")
    st.html(f'<div style="{ROW}">{"".join(cells)}</div>')
    st.caption("L1: mean absolute difference of the pixels. L2: root mean square difference.")


def _url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
