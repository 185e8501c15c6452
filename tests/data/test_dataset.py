"""Reading datasets for the pages: pages of images, deleting and restoring, adding a class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.data import classes, dataset, store
from core.data.store import Filter
from core.errors import Conflict, Invalid
from core.types import Dataset
from tests.conftest import stored_dataset

pytestmark = pytest.mark.databases("sqlite", "postgresql")


def test_pages_of_images_are_disjoint_and_complete(home: Path, tmp_path: Path, squares: Callable[[Path, int], Path]) -> None:
    found = stored_dataset("x", squares(tmp_path / "in", 9))
    pages = [dataset.browse(found.id, Filter(), page, 10) for page in (1, 2, 3)]
    assert [len(p) for p, _ in pages] == [10, 10, 7] and {total for _, total in pages} == {27}
    ids = [i.id for p, _ in pages for i in p]
    assert len(set(ids)) == 27 and [i.id for i in store.get_images(found.id, [*ids[::-1], "gone"])] == ids[::-1]
    assert dataset.browse(found.id, Filter(label="red"), 1)[1] == 9
    assert ids == store.ids(found.id, Filter()), "also of the pages that are read from the end"
    reds = store.ids(found.id, Filter(label="red"))
    for size in (4, 9, 10):
        some = [dataset.browse(found.id, Filter(label="red"), page, size) for page in (1, 2, 3, 4)]
        assert [i.id for images, _ in some for i in images] == reds and {total for _, total in some} == {9}


def test_a_deleted_dataset_comes_back_with_its_images(small: Dataset) -> None:
    store.set_deleted(small.id, True)
    assert store.list_datasets() == [] and store.find_dataset("squares") is None
    assert [d.id for d in store.list_datasets(deleted=True)] == [small.id]
    store.set_deleted(small.id, False)
    assert dataset.totals(small.id) == (24, 24)


def test_a_class_is_added_once(home: Path) -> None:
    made = store.create_dataset("x")
    assert classes.add(made.id, " Cat ") == "Cat"
    with pytest.raises(Conflict):
        classes.add(made.id, "cat")
    for bad in ("", "x" * 201, ".."):
        with pytest.raises(Invalid, match="name of a class"):
            classes.add(made.id, bad)
