"""Which pictures of a dataset are said to be copies of which originals: exporting without metadata changes a file, and so its id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from core import roles, storage
from core.data import images, store
from core.errors import Invalid, NotFound, Unavailable
from core.settings import settings
from core.types import Image

_LINE = re.compile("[0-9a-f]{16} [0-9a-f]{16}")

# A false claim is harmless: no picture is stored under a claimed id, and one is taken for an image that is there only
# where the bytes say so, too. In a dataset without the original it leads a run's row to a picture of that dataset, no other.


def _path(dataset_id: int) -> Path:
    return settings().thumbs / f"{dataset_id}.originals"


@roles.needs("see")
def of(dataset_id: int) -> dict[str, str]:
    """The image of the dataset that stands for each original."""
    try:
        lines = _path(dataset_id).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        if _LINE.fullmatch(line):  # a crash may leave half a line
            found.setdefault(line[:16], line[17:])
    return found


def why_missing(image: Image) -> str:
    """Why the picture cannot be shown, in a sentence; "" where it can."""
    path = settings().images / image.path
    try:
        there = storage.local(path).exists()
    except Unavailable as e:
        return str(e)
    return "" if there else "The file of this picture is missing. Import the picture again, or bring the file back from a backup."


@roles.needs("import")
def claim(dataset_id: int, claimed: Mapping[str, str]) -> None:
    """Adds {original: image}; whoever came first stays."""
    if claimed:
        with open(_path(dataset_id), "a", encoding="ascii") as f:
            f.write("\n" + "".join(f"{original} {image_id}\n" for original, image_id in claimed.items()))


@roles.needs("see")
def is_copy(dataset_id: int, data: bytes, original: str) -> bool:
    """Whether the bytes are what an export makes of that image of the dataset."""
    try:
        image = store.get_image(dataset_id, original)
        return images.shareable(storage.local(settings().images / image.path).read_bytes()) == data
    except (Invalid, NotFound, OSError):
        return False


@roles.needs("import")
def mend(dataset_id: int, came: Mapping[str, bytes]) -> int:
    """Writes anew the originals of images of the dataset that are damaged or gone, from files that came again; returns how many."""
    mended = []
    known = store.get_images(dataset_id, list(came))
    nowhere = {*storage.missing(settings().images / image.path for image in known)} if storage.on() else None
    for image in known:
        path, data = settings().images / image.path, came[image.id]
        if nowhere is not None and not path.exists() and path not in nowhere:
            continue  # it was evicted, and is fetched when somebody wants to see it
        if not _is_whole(path, image.id, data) and images.is_original(data, image.id):  # a copy without metadata is another file
            images.store_original(settings().images, image.path, data)
            mended.append(path)
    storage.keep(mended)
    return len(mended)


def _is_whole(path: Path, image_id: str, data: bytes) -> bool:
    try:
        there = path.read_bytes()
    except OSError:
        return False
    return there == data or images.is_original(there, image_id)


@roles.needs("see")
def here(dataset_id: int, ids: list[str]) -> dict[str, str]:
    """The image of the dataset for each of the ids that it has, itself or a copy."""
    found = {i: i for i in store.known_images(dataset_id, ids)}
    missing = set(ids) - found.keys()
    copies = {i: copy for i, copy in of(dataset_id).items() if i in missing} if missing else {}
    there = store.known_images(dataset_id, list(copies.values()))
    return found | {i: copy for i, copy in copies.items() if copy in there}
