"""A run's curves while it trains; assets/live.js asks the run's own route for new events."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

ASSETS = Path(__file__).resolve().parents[2] / "assets"
_LIVE = st.components.v2.component(
    "loupe_live",
    css=(ASSETS / "live.css").read_text(encoding="utf-8"),
    js=(ASSETS / "live.js").read_text(encoding="utf-8"),
    isolate_styles=False,  # Plotly puts its style into the document
)


def live(run_id: str, events_url: str, token: str, *, key: str, epochs: int, running: bool) -> bool:
    """True in the one script run after a training that was watched has ended."""
    result = _LIVE(
        key=key,
        data={"run_id": run_id, "events_url": events_url, "token": token, "epochs": epochs, "running": running},
        on_ended_change=lambda: None,
    )
    return bool(result.ended)
