"""Why an image is in its split, what becomes of those that come next, and a test split that is drawn once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.data import imports, sources, splits, store
from core.errors import Conflict
from core.types import Dataset


@pytest.fixture
def given(home: Path, squares: Callable[[Path, int], Path], tmp_path: Path) -> Dataset:
    """60 images that came in a folder “train”."""
    squares(tmp_path / "in" / "train", 20)
    imports.import_now("given", sources.at(tmp_path / "in"), "tester")
    found = store.find_dataset("given")
    assert found is not None and found.splits_given
    return found


def split_of_all(made: Dataset) -> dict[str, str]:
    return {i.id: i.split for i in store.all_images(made.id)}


def test_a_test_split_is_drawn_once_by_hash_and_later_images_are_drawn_so_too(given: Dataset) -> None:
    assert "join training" in splits.next_images(given)
    wanted = {i: imports.split_of(i) for i in split_of_all(given)}
    moved = splits.draw_test(given.id)
    assert split_of_all(given) == wanted and moved == list(wanted.values()).count("test") > 0
    found = store.get_dataset(given.id)
    assert not found.splits_given and "about 15 in 100 join the test" in splits.next_images(found)
    with pytest.raises(Conflict):
        splits.draw_test(given.id)
    assert split_of_all(given) == wanted


def test_who_keeps_all_as_training_gets_training_images(small: Dataset) -> None:
    splits.keep_training(small.id)
    found = store.get_dataset(small.id)
    assert found.splits_given and "join training" in splits.next_images(found)


def test_why_an_image_is_in_its_split_is_said(given: Dataset, small: Dataset) -> None:
    image = next(iter(store.all_images(given.id)))
    assert "named splits" in splits.why(given, image)
    assert "by the picture itself" in splits.why(small, next(iter(store.all_images(small.id))))
