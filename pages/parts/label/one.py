"""One picture at a time, labelled by key; assets/one/one.js does the work and posts labels to the server's own route."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pages.shared import component

_ONE = component.component("one")


@dataclass(frozen=True)
class OneEvent:
    more: list[str] | None = None  # few pictures are left: the ids handled or skipped in this visit, to answer with others
    open: str | None = None  # the image a person asked to see, in this run only
    changed: int | None = None  # the server has confirmed labels since the last run: counts may differ now


def one(
    items: Sequence[Mapping[str, Any]],
    *,
    key: str,
    classes: Iterable[Mapping[str, Any]],
    post_url: str,
    changes_url: str,
    token: str,
    dataset_id: int,
    user: str,
    named: bool,
    newest: int,
    session: str,
    done: int,
    total: int,
    left: int,
    blur: bool = False,
) -> OneEvent:
    """items: {id, url, thumb, alt, label, seq, split, name, predicted?, confidence?, pixelated, flagged, note?}, the next first;
    classes: {name, color, key, guideline, accepted: [thumb], rejected: [thumb]}; done of total images are labelled; left are
    still to be decided in this order, the given ones among them. Another order or filter needs another key.
    """
    result = _ONE(
        key=key,
        data={
            "key": key,
            "items": [dict(item) for item in items],
            "classes": [dict(each) for each in classes],
            "post_url": post_url,
            "changes_url": changes_url,
            "token": token,
            "dataset_id": dataset_id,
            "user": user,
            "named": named,
            "newest": newest,
            "session": session,
            "done": done,
            "total": total,
            "left": left,
            "blur": blur,
        },
        on_more_change=lambda: None,
        on_open_change=lambda: None,
        on_changed_change=lambda: None,
    )
    return OneEvent(more=result.more, open=result.open, changed=result.changed)
