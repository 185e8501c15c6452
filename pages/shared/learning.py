"""How a network learns, and from which images: the fields of the groups “learning” and “images”."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import networks
from core.catalog import OPTION_TITLES, PARAMS
from core.types import Dataset
from pages.shared import form


def fields(current: Dataset, network: dict[str, Any], start: dict[str, Any], key: str) -> dict[str, Any]:
    """The settings of both groups, with defaults that train well with the chosen network."""
    name = network["architecture"]
    arch = networks.architecture(name)
    defaults = {"batch_size": arch.batch_size, "learning_rate": arch.learning_rate} | start
    values = {}
    names = ["epochs", "batch_size", "learning_rate", "optimizer", "patience", "image_size", "seed", "device"]
    with st.expander("How it learns", expanded=True, icon=":material/tune:"):
        for row in (names[:4], names[4:]):
            for column, field in zip(st.columns(4), row, strict=True):
                with column:
                    values[field] = form.field(
                        PARAMS[field], defaults.get(field), key=f"{key}-{name}-{field}", titles=lambda o: OPTION_TITLES.get(o, o)
                    )
    return values
