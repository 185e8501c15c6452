"""Predictions that wait for a person: the queue, the same as a grid, what was decided, and what a lead sees of all of it."""

from collections.abc import Callable

from core.types import Dataset
from pages.parts.review import basket, decisions, figures, policy, queue
from pages.shared import frame

VIEWS: dict[str, tuple[str, Callable[[Dataset], None]]] = {
    "queue": ("Queue", queue.show),
    "grid": ("Grid", lambda current: queue.show(current, grid=True)),
    "decisions": ("Decisions", decisions.show),
    "policy": ("Policy", policy.show),
    "figures": ("Figures", figures.show),
    "basket": ("Basket", basket.show),
}

with frame.page(
    "Review", "Decide on predictions: what you accept or correct can join the dataset, what fits no class never does."
) as current:
    current = frame.need_dataset(current)
    view = frame.url_view("view", {name: title for name, (title, _) in VIEWS.items()}, key="review-view")
    VIEWS[view][1](current)
