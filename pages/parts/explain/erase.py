"""Erase and ask again: paint over a part of the picture and watch the answer; assets/erase/erase.js paints and asks the run's own route."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core.api import signing
from core.types import Run
from pages.shared import component, frame

_ERASE = component.component("erase")


def erase(run: Run, path: Path, name: str, *, key: str) -> None:
    """The picture as the run's network sees it, to be painted over; path: of the file, name: as people know it."""
    st.caption(
        "Paint over what you think made the answer, and the network is asked again while you paint. If the answer stays, it did not need "
        "that part. A filled picture is no natural one, and the network may answer to the filling itself: try more than one kind."
    )
    _ERASE(
        key=key,
        data={"key": key, "url": signing.erase_url(run.id, path), "token": frame.token(), "classes": list(run.classes), "name": name},
    )
