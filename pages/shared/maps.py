"""Attribution maps over the picture the network saw; assets/maps/maps.js colours them and lays them over it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.explain import explain
from core.types import Attribution
from pages.shared import component

_MAPS = component.component("maps")


def controls(*, key: str) -> None:
    """Strength, share of pixels, and what lies over what, of all rows on the page; a change never runs the script."""
    _MAPS(key=key, data={})


def row(title: str, cells: Sequence[Mapping[str, Any]], *, key: str, picture: Mapping[str, Any] | None = None) -> None:
    """Maps that share one colour scale; cells: {title, caption, doubt, file} and pixels(), {error} or {stopped}, or neither while it
    is computed; picture: what shown() gave.
    """
    scale = max((cell.get("strength", 0.0) for cell in cells), default=0.0)
    _MAPS(
        key=key,
        data={
            "title": title,
            "cells": [dict(cell) for cell in cells],
            "scale": scale,
            "scale_text": f"{scale:.2g}" if 1e-4 <= scale < 1e4 else f"{scale:.1e}",
            **(picture or {"picture": None, "width": 0, "height": 0}),
        },
    )


def pixels(attribution: Attribution) -> dict[str, Any]:
    """The map as 16-bit numbers, most standing for 32,767, and the strength that is drawn in full colour if it stands alone."""
    values = np.nan_to_num(attribution.map, posinf=0.0, neginf=0.0)
    most = float(np.abs(values).max())
    numbers = np.round(values / (most or 1.0) * 32767).astype("<i2")
    height, width = values.shape
    strength = explain.scale([values]) if most else 0.0
    return {"values": base64.b64encode(numbers.tobytes()).decode(), "most": most, "strength": strength, "width": width, "height": height}


def shown(attribution: Attribution) -> dict[str, Any]:
    """The picture as the network saw it."""
    height, width = attribution.image.shape[:2]
    url = f"data:image/png;base64,{base64.b64encode(explain.picture_png(attribution)).decode()}"
    return {"picture": url, "width": width, "height": height}
