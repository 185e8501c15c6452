"""The ways from page to page, and what of a page is in its address."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.types import Dataset
from tests.pages.app import opened, words


@pytest.mark.parametrize("page", ["home", "train"])
def test_whoever_is_asked_to_add_images_comes_to_the_import(home: Path, request: pytest.FixtureRequest, page: str) -> None:
    if page == "home":  # with a dataset, whose images would be shown else
        request.getfixturevalue("small")
    app = opened(page)
    next(b for b in app.button if b.label in ("Add my images", "Add images")).click().run()
    assert app.title[0].value == "Dataset" and "Three ways in" in words(app)


def test_whoever_goes_to_the_dataset_page_otherwise_sees_the_images(small: Dataset) -> None:
    app = opened("dataset", dataset=small.name)
    assert "Three ways in" not in words(app)
