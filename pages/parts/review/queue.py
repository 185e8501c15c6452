"""What waits, one picture at a time or many at once; assets/queue/ does the work over the server's own routes."""

from __future__ import annotations

import streamlit as st

from core.data import queue
from core.types import Dataset
from pages.parts.review import practice
from pages.shared import component, frame, thumbs

_QUEUE = component.component("queue")
ALL = "all"
ORDERS = {
    "mixed": "Mixed",
    "uncertain": "Least certain first",
    "risky": "Riskiest first",
    "oldest": "Oldest first",
}
HELP = (
    "*Mixed* begins with what waits too long and puts harmless pictures among the uncertain ones: only bad ones tire and mislead. "
    "*Riskiest* goes by the classes that the policy blocks; what no policy has sorted comes the least certain first."
)
ONE = 12  # pictures dealt out ahead where they are shown one by one
SIZES = ["12", "24", "48"]


def filters(current: Dataset, grid: bool) -> tuple[str, str | None, str | None, int]:
    """Order, class, source and how many at once, kept in the URL."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters"):
        order = frame.url_choice("order", "Order", list(ORDERS), "mixed", ORDERS.__getitem__, help=HELP)
        predicted = frame.url_choice("class", "Answered", [ALL, *current.classes], ALL, lambda c: "All classes" if c == ALL else c)
        sources = queue.sources(current.id)
        source = ALL
        if len(sources) > 1 or st.query_params.get("source", ALL) != ALL:
            names = [ALL, *sources]
            source = frame.url_choice("source", "Came by", names, ALL, lambda s: "All ways" if s == ALL else s)
        size = int(frame.url_choice("many", "At once", SIZES, SIZES[0], str)) if grid else ONE
    return order, None if predicted == ALL else predicted, None if source == ALL else source, size


def show(current: Dataset, grid: bool = False) -> None:
    frame.need("decide", current)
    frame.need_name("pictures are dealt out to you: who decided is part of every decision, and of how far people agree.")
    practice.invite(current)
    order, predicted, source, size = filters(current, grid)
    event = _QUEUE(
        key=f"queue-{current.id}",
        data={
            "key": f"{current.id} {'grid' if grid else 'one'} {order} {predicted} {source} {size}",
            "view": "grid" if grid else "one",
            "dataset_id": current.id,
            "token": frame.token(),
            "user": frame.user(),
            "named": frame.named(),
            "classes": thumbs.guided(current),
            "order": order,
            "predicted": predicted,
            "source": source,
            "size": size,
        },
        on_why_change=lambda: None,
        on_renew_change=lambda: None,  # a run of the page brings a new token,
        on_changed_change=lambda: None,  # and today's numbers
        on_predict_change=lambda: None,
    )
    if event.predict:
        st.switch_page("predict.py")
    if event.why and (one := queue.get(int(event.why))).dataset_id == current.id:  # a browser may send any number
        st.session_state["explain"] = ("upload", one.image_id, one.name)
        st.session_state["explain-source"] = "own"
        st.switch_page("explain.py", query_params={"run": one.run_id})
