"""Images as cells of the grid, with the class colours of the whole app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

import pandas as pd

from core.api import signing
from core.data import classes, labels, store
from core.types import Dataset, Image
from pages.shared import frame
from pages.shared.figures import class_color
from pages.shared.grid import Caption, GridAct, GridEvent, grid

KEYS = [str((i + 1) % 10) for i in range(10)]
KEYS += [f"⇧{key}" for key in KEYS]


def class_list(current: Dataset, first: Sequence[str] = ()) -> list[dict[str, str]]:
    """Name, color and key of each class: 1 to 9 and 0, then with Shift; classes named by digits have their own digit.

    Key and colour go by the place: when a class is retired, no other gets its key under somebody's finger. The classes named
    first lead, in that order.
    """
    digits = all(len(c) == 1 and c in "0123456789" for c in current.classes)
    found = [
        {"name": name, "color": class_color(place), "key": name if digits else KEYS[place] if place < len(KEYS) else ""}
        for name, place in zip(current.classes, current.places, strict=True)
    ]
    leads = {name: i for i, name in enumerate(first)}
    return sorted(found, key=lambda one: leads.get(one["name"], len(leads)))


def guided(current: Dataset) -> list[dict[str, object]]:
    """The classes with colour, key, guideline and examples."""
    known = {c.name: c for c in classes.of(current.id)}
    shown = {
        i.id: signing.thumb_url(i) for i in store.get_images(current.id, [e for c in known.values() for e in (*c.accepted, *c.rejected)])
    }
    return [
        {
            **one,
            "guideline": known[one["name"]].guideline,
            "accepted": [shown[e] for e in known[one["name"]].accepted if e in shown],
            "rejected": [shown[e] for e in known[one["name"]].rejected if e in shown],
        }
        for one in class_list(current)
    ]


def items(
    found: Sequence[Image], rows: pd.DataFrame | None = None, split: str | None = None, notes: Mapping[str, str] | None = None
) -> list[dict[str, object]]:
    """Cells of the images; rows (image_id, predicted, confidence) add what a network answered, split the part a run used them in,
    notes a line by image id.
    """
    said = () if rows is None else zip(rows["image_id"], rows["predicted"], rows["confidence"].astype(float), strict=True)
    answers = {image_id: (predicted, confidence) for image_id, predicted, confidence in said}
    cells: list[dict[str, object]] = []
    for image in found:
        cell: dict[str, object] = {
            "id": image.id,
            "url": signing.thumb_url(image),
            "picture": signing.picture_url(image),
            "alt": image.source,
            "label": image.label,
            "seq": image.label_seq,
            "flagged": image.flagged,
            "split": split or image.split,
            "name": image.source,
            "pixelated": max(image.width, image.height) <= 64,
        }
        if notes and image.id in notes:
            cell["note"] = notes[image.id]
        if image.id in answers:
            predicted, confidence = answers[image.id]
            cell |= {"predicted": predicted, "confidence": None if isnan(confidence) else confidence}
        cells.append(cell)
    return cells


def image_grid(
    current: Dataset,
    found: Sequence[Image],
    *,
    key: str,
    rows: pd.DataFrame | None = None,
    split: str | None = None,
    notes: Mapping[str, str] | None = None,
    prefetch: Sequence[Image] = (),
    size: int = 120,
    caption: Caption = "name",
    editable: bool = False,
    session: str = "",
    first: Sequence[str] = (),
    words: Mapping[str, str] | None = None,
    shown: int | None = None,
    act: GridAct | None = None,
) -> GridEvent:
    """The grid of thumbnails; editable: labels can be given in it; session: the one the images are dealt out to; first: the classes
    that lead; words, shown and act as of grid.
    """
    editable = editable and frame.may("label", current.id, say=False)
    return grid(
        items(found, rows, split, notes),
        key=key,
        classes=class_list(current, first),
        post_url="/api/label" if editable else "",
        changes_url="/api/changes" if editable else "",
        token=frame.token() if editable else "",
        user=frame.user() if editable else "",
        named=frame.named(),
        newest=labels.changes(current.id, -1)[0] if editable else None,
        session=session,
        dataset_id=current.id,
        size=size,
        caption=caption,
        prefetch=[signing.thumb_url(i) for i in prefetch],
        words=words or {},
        shown=shown,
        act=act,
    )
