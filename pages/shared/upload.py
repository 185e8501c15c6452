"""A drop zone that sends files straight to the server's upload route, never through Streamlit's memory."""

from __future__ import annotations

from typing import Any

from pages.shared import component

_UPLOAD = component.component("upload")


def upload(
    *,
    key: str,
    url: str,
    token: str,
    accept: str,
    multiple: bool,
    label: str,
    hint: str,
    max_mb: int,
) -> dict[str, Any] | None:
    """{"upload": id, "files": [names]} of the last batch that arrived, in every run until the next one; else None."""
    result = _UPLOAD(
        key=key,
        data={
            "url": url,
            "token": token,
            "accept": accept,
            "multiple": multiple,
            "label": label,
            "hint": hint,
            "max_mb": max_mb,
        },
        on_done_change=lambda: None,
    )
    return dict(result.done) if result.done else None
