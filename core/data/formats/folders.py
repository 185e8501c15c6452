"""Class folders: the label of an image is the name of its folder, inside a folder of its split or none."""

from __future__ import annotations

from collections.abc import Sequence

from core.data.tables import SPLIT_NAMES, Format, Row
from core.types import Skipped


def write(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, str]:
    return {}  # where the images lie says it all


def read(name: str, text: str, files: Sequence[str], skipped: list[Skipped]) -> list[Row]:
    """Of images, as there is no table."""
    paths = [file.split("/") for file in files]
    tops = {parts[0] for parts in paths}
    deep = [parts for parts in paths if len(parts) > 2]
    wraps = bool(deep) and (len(deep) == len(paths) or len({parts[1] for parts in deep}) > 1)  # or it is a class with a folder in it
    if len(tops) == 1 and next(iter(tops)).lower() not in SPLIT_NAMES and wraps:
        paths = [parts[1:] for parts in paths]  # pictures right in the wrapping folder carry no label
    folders = {parts[0].lower() for parts in paths if len(parts) > 1}
    of_classes = {SPLIT_NAMES[parts[0].lower()] for parts in paths if len(parts) > 2 and parts[0].lower() in SPLIT_NAMES}
    splits_given = bool(folders) and (folders <= SPLIT_NAMES.keys() or len(of_classes) > 1 or "train" in of_classes)

    rows: list[Row] = []
    for file, parts in zip(files, paths, strict=True):
        split = ""
        if splits_given and len(parts) > 1:
            if parts[0].lower() not in SPLIT_NAMES:
                skipped.append(Skipped(file, "it is in no split folder (train, validation or test)"))
                continue
            split, *parts = parts
        rows.append(Row(file, file, parts[0] if len(parts) > 1 else None, split))
    return rows


FORMAT = Format(
    title="Class folders",
    sentence="A folder per split and class, as most training tools read them.",
    can=frozenset({"labels"}),
    write=write,
    read=read,
    own_facts=False,
)
