"""The images of a dataset as points, near where the network finds them alike; assets/map/map.js draws and selects."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pages.shared import component
from pages.shared.figures import SPLIT_COLORS, TEST, VALIDATION

Colour = Literal["label", "cluster", "predicted", "split", "answer"]
_MAP = component.component("map")


@dataclass(frozen=True)
class MapEvent:
    selected: list[str]  # the whole selection, at most 20,000
    open: str | None = None  # the image a person asked to see, in this run only


def embedding_map(
    points_url: str,
    *,
    key: str,
    token: str,
    version: str | int,
    colour: Colour,
    classes: Iterable[Mapping[str, str]],
    clusters: Sequence[int] | None,
    dataset_id: int,
    height: int = 440,
) -> MapEvent:
    """classes: {name, color}; clusters: one index per point, -1 for none, named from 1 on the map; another version
    fetches the points again.
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
            "answers": [{"name": "right", "color": VALIDATION}, {"name": "wrong", "color": TEST}],
            # as a list the clusters of 100,000 images would be most of what a rerun sends
            "clusters": None if clusters is None else base64.b64encode(np.asarray(clusters, dtype="<i2").tobytes()).decode(),
            "dataset_id": dataset_id,
            "height": height,
        },
        on_selected_change=lambda: None,
        on_open_change=lambda: None,
    )
    return MapEvent(selected=result.selected or [], open=result.open)
