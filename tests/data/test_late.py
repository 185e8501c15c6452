"""Labels that come later for images that are there: offered, given in one act, and nothing overwritten unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.data import classes, imports, labels, store
from core.data.labels import Which
from core.data.sources import at
from core.errors import NotFound
from core.types import Dataset
from tests.data.opened import folder_of

pytestmark = pytest.mark.databases("sqlite", "postgresql")

NAMES = [f"{i}.png" for i in range(6)]


def labelled(folder: Path, *said: str) -> Path:
    """The same six pictures with a table of labels, "" for none."""
    folder_of(folder, *NAMES)
    lines = [f"{name},{label}" for name, label in zip(NAMES, said, strict=False)]
    (folder / "labels.csv").write_text("\n".join(["image,label", *lines]))
    return folder


@pytest.fixture
def bare(home: Path, in_this_process: None) -> Dataset:
    """Six images, none with a label."""
    assert imports.import_now("pets", at(folder_of(home / "inbox" / "bare", *NAMES)), "Ann").added == 6
    found = store.find_dataset("pets")
    assert found is not None
    return found


def carried(dataset: Dataset) -> list[str | None]:
    found = {image.source: image.label for image in store.all_images(dataset.id)}
    return [found[name] for name in NAMES]


def test_labels_for_images_that_have_none_are_offered_and_given_in_one_act_that_is_taken_back(bare: Dataset, home: Path) -> None:
    state = imports.state(imports.start(at(labelled(home / "inbox" / "later", "cat", "dog", "cat", "dog", "10", "9")), "pets", "Bob"))
    report, came = imports.report(state), imports.later(state)
    assert report is not None and came is not None and carried(bare) == [None] * 6
    assert (report.added, report.duplicates, report.offered, report.differ, report.skipped) == (0, 6, 6, 0, [])
    assert imports.give_labels(state, came.give, "Bob") == 6 and carried(bare) == ["cat", "dog", "cat", "dog", "10", "9"]
    assert imports.later(state) is None and imports.give_labels(state, came.give, "Bob") == 0  # a second click
    found = store.find_dataset("pets")
    assert found is not None and found.classes == ("9", "10", "cat", "dog")
    (act,), total = labels.acts(bare.id, Which(), 1)
    assert total == 1 and act.operation and (act.by, act.images, act.source, act.note) == ("Bob", 6, "import", "labels of later")
    assert labels.undo(bare.id, labels.which(act), "Bob").images == 6 and carried(bare) == [None] * 6
    again = imports.later(state)
    assert again is not None and imports.give_labels(state, again.give, "Bob") == 6  # taken back, it may be given again


def test_what_differs_is_shown_and_kept_until_it_is_replaced_on_purpose(bare: Dataset, home: Path) -> None:
    seen = {image.id: image.label_seq for image in store.all_images(bare.id) if image.source in ("0.png", "1.png")}
    classes.ensure(bare.id, ["dog"])
    labels.apply(bare.id, seen, "dog", "Ann")
    state = imports.state(imports.start(at(labelled(home / "inbox" / "later", "cat", "dog", "cat")), "pets", "Bob"))
    report, came = imports.report(state), imports.later(state)
    assert report is not None and came is not None and (report.duplicates, report.offered, report.differ) == (2, 1, 1)
    assert [s.name for s in report.skipped if "kept that label" in s.reason] == ["0.png"]
    assert list(came.differ.values()) == [("dog", "cat")] and list(came.give.values()) == [(None, "cat")]
    assert imports.give_labels(state, came.give, "Bob") == 1 and carried(bare)[:3] == ["dog", "dog", "cat"]
    labels.apply(bare.id, {i: store.get_image(bare.id, i).label_seq for i in came.differ}, None, "Ann")  # somebody has changed it since
    assert imports.give_labels(state, came.differ, "Bob") == 0 and carried(bare)[0] is None
    labels.apply(bare.id, {i: store.get_image(bare.id, i).label_seq for i in came.differ}, "dog", "Ann")
    assert imports.give_labels(state, came.differ, "Bob") == 1 and carried(bare)[0] == "cat"


def test_a_class_that_was_renamed_since_is_given_by_its_name_of_today_and_a_retired_one_is_refused(bare: Dataset, home: Path) -> None:
    state = imports.state(imports.start(at(labelled(home / "inbox" / "later", "cat", "dog")), "pets", "Bob"))
    classes.rename(bare.id, "cat", "kitten", "Ann")
    came = imports.later(state)
    assert came is not None and sorted(label for _, label in came.give.values()) == ["dog", "kitten"]
    classes.retire(bare.id, "dog", "Ann")
    with pytest.raises(NotFound, match="dog"):
        imports.give_labels(state, came.give, "Bob")
    assert carried(bare)[:2] == [None, None]
    classes.restore(bare.id, "dog", "Ann")
    assert imports.give_labels(state, came.give, "Bob") == 2 and carried(bare)[:2] == ["kitten", "dog"]


def test_a_source_that_contradicts_itself_offers_its_first_word_and_names_the_other(bare: Dataset, home: Path) -> None:
    folder = labelled(home / "inbox" / "later", "cat")
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    with open(folder / "labels.csv", "a") as f:
        f.write("\ncopy.png,dog\n")
    report = imports.import_now("pets", at(folder), "Bob", give_labels=True)
    assert (report.offered, report.given, report.differ, carried(bare)[0]) == (1, 1, 0, "cat")
    assert [s.name for s in report.skipped if "is “cat” by this source, too" in s.reason] == ["copy.png"]


def test_a_copy_with_a_label_beside_one_without_is_offered_too(home: Path, in_this_process: None) -> None:
    folder = folder_of(home / "inbox" / "two", "0.png", "cat/1.png")
    (folder / "cat" / "2.png").write_bytes((folder / "0.png").read_bytes())
    state = imports.state(imports.start(at(folder), "two", "Bob"))
    report = imports.report(state)
    assert report is not None and (report.added, report.duplicates, report.offered) == (2, 1, 1)


def test_an_import_of_the_same_labels_offers_nothing(home: Path, in_this_process: None) -> None:
    folder = labelled(home / "inbox" / "a", "cat", "dog")
    for _ in range(2):
        state = imports.state(imports.start(at(folder), "pets", "Bob"))
        assert imports.later(state) is None
