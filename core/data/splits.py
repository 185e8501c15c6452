"""Which split an image is in and why, and what becomes of those that come next."""

from __future__ import annotations

from core import roles
from core.data import alike, images, store
from core.data.imports import TEST_SHARE, split_of
from core.errors import NotFound
from core.settings import settings
from core.types import Dataset, Image


def why(dataset: Dataset, image: Image) -> str:
    """In a sentence, why the image is in its split."""
    if dataset.splits_given and image.split == "train":
        return "The import named splits; what comes without one is learned from."
    if dataset.splits_given or image.split != split_of(image.id):
        return "It came so with its import, or was drawn with its near duplicates."
    return f"Drawn by the picture itself, {TEST_SHARE} of 100 for the test: the same for ever."


def next_images(dataset: Dataset) -> str:
    """In a sentence, what becomes of images that are added without a split."""
    if dataset.splits_given:
        return "Images added next join training, for the splits of this dataset came with its import."
    return f"Of the images added next about {TEST_SHARE} in 100 join the test, drawn by the picture itself; the others join training."


@roles.needs("import")
def draw_test(dataset_id: int) -> int:
    """Moves training images into the test split by their hashes, near copies together, and lets later ones be drawn so too; how many moved.

    Conflict if there are test images already: what was kept aside by somebody's choice is not mixed with another.
    """
    compare(dataset_id)
    group = alike.groups(dataset_id)
    leads: dict[str, str] = {}  # the smallest id of a group draws for all
    for image_id in sorted(group):
        leads.setdefault(group[image_id], image_id)
    return store.draw_test(dataset_id, lambda i: split_of(leads[group[i]] if i in group else i) == "test")


@roles.needs("import")
def keep_training(dataset_id: int) -> None:
    """Lets images that come without a split join training."""
    store.set_splits_given(dataset_id)


# Near copies


@roles.needs("see")
def compare(dataset_id: int) -> None:
    """Takes in the images that nobody has compared yet: those of an import by an older Loupe, and those of Review."""
    compared = alike.compared(dataset_id)
    missing = [i for i in store.ids(dataset_id, store.Filter()) if i not in compared]
    if not missing:
        return
    known = alike.Alike(dataset_id)
    pack = images.ThumbPack(settings().thumbs, dataset_id)
    for start in range(0, len(missing), alike.BLOCK):
        greys: dict[str, bytes] = {}
        for one in store.get_images(dataset_id, missing[start : start + alike.BLOCK]):
            try:
                greys[one.id] = images.small_grey(pack.read(one.thumb_offset, one.thumb_size))
            except NotFound:
                continue
        known.add(greys)


@roles.needs("see")
def crossing(dataset_id: int) -> int:
    """How many groups of near copies lie in more than one split."""
    group = alike.groups(dataset_id)
    splits: dict[str, set[str]] = {}
    if group:
        for i, one in store.carried(dataset_id).items():
            if i in group:
                splits.setdefault(group[i], set()).add(one.split)
    return sum(len(found) > 1 for found in splits.values())
