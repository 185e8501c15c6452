"""How many bits the grey values of a dataset's 16-bit pictures take, so that all of them are scaled alike: a dark one stays dark."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

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
