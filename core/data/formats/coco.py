"""COCO's JSON, https://cocodataset.org/#format-data, where its categories say one thing of each image; boxes are passed over."""

from __future__ import annotations

import json
from collections.abc import Sequence

from core.data import tables
from core.data.formats.beside import Finder
from core.data.tables import Count, Reader, Row
from core.errors import Invalid
from core.types import Skipped


def read(name: str, text: str, files: Sequence[str], skipped: list[Skipped]) -> list[Row]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or not all(isinstance(told.get(key), list) for key in ("images", "annotations", "categories")):
        raise Invalid(f"{name} is not COCO's JSON of categories.", "It has the lists images, annotations and categories.")
    called = {_id(one.get("id")): tables.clean(tables.as_text(one.get("name"))) for one in tables.objects(told["categories"])}
    labels: dict[str, dict[str, None]] = {}  # by image, each category once
    wrong, unlabelled = Count(), Count()
    for number, one in enumerate(told["annotations"], 1):
        label = called.get(_id(one.get("category_id"))) if isinstance(one, dict) else None
        if label:
            labels.setdefault(_id(one.get("image_id")), {})[label] = None
        else:
            wrong.add(f"annotation {number}")
    find, rows = Finder(files), []
    for number, one in enumerate(told["images"], 1):
        where = f"image {number}"
        given = one if isinstance(one, dict) else {}
        image, reason = find.file(tables.as_text(given.get("file_name")))
        if reason:
            skipped.append(Skipped(f"{name}, {where}", reason))
            continue
        found = list(labels.get(_id(given.get("id")), ()))
        if len(found) > 1:
            why = f"it has {len(found)} categories ({', '.join(found[:10])}); imported without a label, as Loupe keeps one per image"
            skipped.append(Skipped(image, why))
        elif not found:
            unlabelled.add(image)
        rows.append(Row(where, image, found[0] if len(found) == 1 else None))
    wrong.tell(name, skipped, "they name no category of the file", "{} annotations")
    unlabelled.tell(name, skipped, "they have no annotation; imported without a label", "{} images")
    return rows


def _id(value: object) -> str:
    """The same for 7 and "7", as tools write either."""
    return tables.as_text(value)


READER = Reader(title="COCO JSON", read=read, suffix=".json")
