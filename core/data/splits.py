"""Which split an image is in and why, and what becomes of those that come next."""

from __future__ import annotations

from collections.abc import Iterable

from core.data import store
from core.data.imports import TEST_SHARE, split_of
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


def draw_test(dataset_id: int, together: Iterable[Iterable[str]] = ()) -> int:
    """Moves training images into the test split by their hashes, and lets those that come later be drawn so too; returns how many moved.

    together: ids of images that stay in one split, such as near duplicates; the smallest id draws for all. Conflict if there are test
    images already: what was kept aside by somebody's choice is not mixed with another.
    """
    leads = {image_id: min(group) for group in map(list, together) for image_id in group}
    return store.draw_test(dataset_id, lambda image_id: split_of(leads.get(image_id, image_id)) == "test")


def keep_training(dataset_id: int) -> None:
    """Lets images that come without a split join training."""
    store.set_splits_given(dataset_id)
