"""Choosing the network of a run."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import train
from core.catalog import PARAMS
from core.networks import ARCHITECTURES
from core.types import Dataset
from pages.shared import form


def choose(current: Dataset, start: dict[str, Any], key: str) -> dict[str, Any]:
    """The settings of the group “network”; start holds what a preset, a clone or nothing gives, key changes with it."""
    names = list(ARCHITECTURES)
    name = st.radio(
        "Network",
        names,
        index=names.index(start.get("architecture", train.suggested(current.id))),
        format_func=lambda n: ARCHITECTURES[n].title,
        captions=[a.summary for a in ARCHITECTURES.values()],
        key=f"network-{key}",
        persist_state="session",
        help=PARAMS["architecture"].help,
    )
    values: dict[str, Any] = {"architecture": name}
    if ARCHITECTURES[name].weights:
        pretrained, freeze = st.columns(2)
        with pretrained:
            values["pretrained"] = form.field(PARAMS["pretrained"], start.get("pretrained"), key=f"{key}-{name}-pretrained")
        with freeze:
            values["freeze"] = form.field(
                PARAMS["freeze"],
                start.get("freeze", values["pretrained"]),
                key=f"{key}-{name}-freeze-{values['pretrained']}",
                disabled=not values["pretrained"],
            )
    return values
