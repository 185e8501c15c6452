"""A run while it trains; assets/live/live.js asks the run's own route for new events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pages.shared import component

_LIVE = component.component("live", isolate_styles=False)  # Plotly puts its style into the document


def live(run_id: str, events_url: str, token: str, *, key: str, running: bool, details: Mapping[str, Any] | None = None) -> bool:
    """True in the one script run after the run has begun again, was paused or has ended.

    Loss and accuracy; with details (validation: images; answers: classes, images) also learning rate, speed, and what the network
    answers after each epoch.
    """
    result = _LIVE(
        key=key,
        data={"run_id": run_id, "events_url": events_url, "token": token, "running": running, "details": details},
        on_changed_change=lambda: None,
    )
    return bool(result.changed)
