"""Giving, changing and taking back labels: append-only events, by whom and when."""

from __future__ import annotations

from collections.abc import Mapping

from core import store
from core.errors import Invalid
from core.store import LabelResult
from core.types import LabelEvent

MAX_AT_ONCE = 5000


def apply(dataset_id: int, seen: Mapping[str, int], label: str | None, by: str, operation: str | None = None) -> LabelResult:
    """Gives the label (None takes it back) to the images whose version is still the one seen: image id -> label_seq."""
    if not seen:
        raise Invalid("No image was chosen.", "Choose at least one image.")
    if len(seen) > MAX_AT_ONCE:
        raise Invalid(f"{len(seen)} images were chosen.", f"Up to {MAX_AT_ONCE} can be labelled in one go.")
    return store.apply_labels(dataset_id, seen, label, by, "manual", operation)


def history(dataset_id: int, image_id: str) -> list[LabelEvent]:
    """The image's label events, newest first."""
    return store.history(dataset_id, image_id)
