"""Thumbnails one can select and label; assets/grid/grid.js does the work and posts labels to the server's own route."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pages.shared import component

Caption = Literal["name", "label", "prediction", "none"]
_GRID = component.component("grid")


@dataclass(frozen=True)
class GridAct:
    """What the page does with the selected images."""

    icon: Literal["bin", "restore"]
    text: str
    title: str


@dataclass(frozen=True)
class GridEvent:
    open: str | None = None  # the image a person asked to see, in this run only
    changed: int | None = None  # the server has confirmed labels since the last run: counts may differ now
    acted: Sequence[str] = ()  # the images that the act is to be carried out on, in this run only


def grid(
    items: Sequence[Mapping[str, Any]],
    *,
    key: str,
    classes: Iterable[Mapping[str, str]] = (),
    post_url: str = "",
    changes_url: str = "",
    token: str = "",
    user: str = "",
    named: bool = False,
    newest: int | None = None,
    session: str = "",
    dataset_id: int = 0,
    size: int = 120,
    prefetch: Sequence[str] = (),
    caption: Caption = "name",
    words: Mapping[str, str] | None = None,
    shown: int | None = None,
    act: GridAct | None = None,
) -> GridEvent:
    """items: {id, url, picture, alt, label, seq, flagged, split, name, note?, predicted?, confidence?, pixelated}; classes:
    {name, color, key}, always given where labels are shown; without classes and post_url nothing can be labelled and a click
    opens. With changes_url the labels of others appear by themselves; session is whose dealt images are kept dealt out,
    newest the last change that the items show; a named user is remembered by the browser. words: what the tools “remove” and
    “flag” are called here; each new number shown brings the grid into view. With an act images can be selected, too.
    """
    result = _GRID(
        key=key,
        data={
            "key": key,
            "items": [dict(item) for item in items],
            "classes": [dict(each) for each in classes],
            "post_url": post_url,
            "changes_url": changes_url,
            "token": token,
            "user": user,
            "named": named,
            "newest": newest,
            "session": session,
            "dataset_id": dataset_id,
            "size": size,
            "prefetch": list(prefetch),
            "caption": caption,
            "words": dict(words or {}),
            "shown": shown,
            "act": asdict(act) if act else None,
        },
        on_open_change=lambda: None,
        on_changed_change=lambda: None,
        on_acted_change=lambda: None,
    )
    return GridEvent(open=result.open, changed=result.changed, acted=result.acted or ())
