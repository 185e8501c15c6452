"""How many bits the grey values of a dataset's 16-bit pictures take, so that all of them are scaled alike: a dark one stays dark."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from core.data import images, store
from core.errors import AppError
from core.settings import settings

_LINE = re.compile("([0-9a-f]{16}) (8|10|12|14|16)")
WIDE = 16


def _path(dataset_id: int) -> Path:
    return settings().thumbs / f"{dataset_id}.depth"


def each(dataset_id: int) -> dict[str, int]:
    """The bits that the values of each 16-bit picture take, by image id."""
    try:
        lines = _path(dataset_id).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return {}
    return {m[1]: int(m[2]) for line in lines if (m := _LINE.fullmatch(line))}  # a crash may leave half a line


def of(dataset_id: int) -> int:
    """The bits that hold every one; 16 where there is none, or where an older Loupe imported them."""
    return max(each(dataset_id).values(), default=WIDE)


def add(dataset_id: int, found: Mapping[str, int]) -> None:
    if found:
        with open(_path(dataset_id), "a", encoding="ascii") as f:
            f.write("\n" + "".join(f"{image_id} {bits}\n" for image_id, bits in found.items()))


def same_thumbnails(dataset_id: int, before: int) -> None:
    """Makes anew the thumbnails that were scaled by other bits than the dataset's; before: how many these were before the import."""
    known, bits = each(dataset_id), of(dataset_id)
    pack = images.ThumbPack(settings().thumbs, dataset_id)
    for image in store.get_images(dataset_id, [i for i, own in known.items() if own != bits or before != bits]):
        try:
            thumb = images.thumbnail(images.open_picture(settings().images / image.path, bits=bits))
        except AppError:
            continue  # its file is gone: it keeps the thumbnail it has
        (offset,) = pack.append([thumb])
        store.set_thumbnail(dataset_id, image.id, offset, len(thumb))
