"""Predictions that wait for a person: the queue, the same as a grid, and what was decided."""

from importlib import import_module
from importlib.util import find_spec

from pages.parts.review import decisions, queue
from pages.shared import frame

VIEWS = {"queue": "Queue", "grid": "Grid", "decisions": "Decisions"}
FURTHER = {"policy": "Policy", "figures": "Figures", "basket": "Basket"}  # pages/parts/review/NAME.py with show(current), where it is there

with frame.page("Review", "Decide on predictions: what you accept or correct joins the dataset, what fits no class never does.") as current:
    current = frame.need_dataset(current)
    there = {name: title for name, title in FURTHER.items() if find_spec(f"pages.parts.review.{name}")}
    view = frame.url_view("view", VIEWS | there, key="review-view")
    if view == "decisions":
        decisions.show(current)
    elif view in there:
        import_module(f"pages.parts.review.{view}").show(current)
    else:
        queue.show(current, grid=view == "grid")
