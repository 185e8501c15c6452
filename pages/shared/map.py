"""The images of a dataset as points, near where the network finds them alike; assets/map.js draws and selects."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import streamlit as st

from pages.shared.figures import SPLIT_COLORS

ASSETS = Path(__file__).resolve().parents[2] / "assets"
_MAP = st.components.v2.component(
    "loupe_map",
    css=(ASSETS / "map.css").read_text(encoding="utf-8"),
    js=(ASSETS / "map.js").read_text(encoding="utf-8"),
)


@dataclass(frozen=True)
class MapEvent:
    """What a person did in the map, in this run only; None: nothing."""

    selected: list[str] | None = None  # the whole selection now, at most 20,000; an empty list: it was cleared
    cluster: int | None = None  # the cluster clicked, whose images are in selected too
    open: str | None = None  # the image a person asked to see


def embedding_map(
    points_url: str,
    *,
    key: str,
    token: str,
    version: str | int,
    colour: Literal["label", "cluster", "predicted", "split"],
    classes: Iterable[Mapping[str, str]],
    clusters: Sequence[int] | None,
    dataset_id: int,
    height: int = 560,
    selected: int = 0,
) -> MapEvent:
    """classes: {name, color}; clusters: one index per point, -1 for none, named from 1 on the map; another version
    fetches the points again. selected: how many the page works on; 0 after an answer of more clears the map's selection.
    """
    result = _MAP(
        key=key,
        data={
            "key": key,
            "points_url": points_url,
            "thumb_url": f"/api/map/{dataset_id}/thumb/",
            "token": token,
            "version": str(version),
            "colour": colour,
            "classes": [{"name": each["name"], "color": each["color"]} for each in classes],
            "splits": [{"name": name, "color": color} for name, color in SPLIT_COLORS.items()],
            # as a list the clusters of 100,000 images would be most of what a rerun sends
            "clusters": None if clusters is None else base64.b64encode(np.asarray(clusters, dtype="<i2").tobytes()).decode(),
            "dataset_id": dataset_id,
            "height": height,
            "selected": selected,
        },
        on_selected_change=lambda: None,
        on_cluster_change=lambda: None,
        on_open_change=lambda: None,
    )
    return MapEvent(selected=result.selected, cluster=result.cluster, open=result.open)
