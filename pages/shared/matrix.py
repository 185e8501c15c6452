"""The confusion matrix as a component: assets/matrix/matrix.js draws the cells that hold images, sorts, zooms and tells what was clicked."""

from __future__ import annotations

import numpy as np
import streamlit as st

from core.types import Evaluation
from pages.shared import component

_MATRIX = component.component("matrix")
Cell = tuple[str | None, str | None]  # (actual, predicted); None: any, of a row or a column


def matrix(e: Evaluation, *, key: str, chosen: Cell | None = None) -> Cell | None:
    """Draws it with the chosen cell marked; returns the cell, row (actual, None) or column (None, predicted) clicked since the last run."""
    clicked = f"{key}-clicked"

    def picked() -> None:
        st.session_state[clicked] = st.session_state[key].pick

    rows, columns = np.nonzero(e.confusion)
    _MATRIX(
        key=key,
        data={
            "classes": list(e.classes),
            "rows": rows.tolist(),
            "columns": columns.tolist(),
            "counts": e.confusion[rows, columns].tolist(),
            "split": e.split,
            "chosen": list(chosen) if chosen else None,
        },
        on_pick_change=picked,
    )
    # Kept until here: a rerun for another reason may cut the one of the click short.
    pick = st.session_state.pop(clicked, None)
    if pick is None:
        return None
    actual, predicted = (None if i is None or not 0 <= i < len(e.classes) else e.classes[i] for i in pick)
    return actual, predicted
