"""Classes are renamed, merged, retired and brought back without losing a label."""

from __future__ import annotations

import pytest

from core import names
from core.data import classes, labels
from core.data.labels import Which
from core.errors import Conflict, Invalid, NotFound
from core.types import Class, Dataset
from tests.data.acts import counts, find, give, ids, live, seen, undo, words

pytestmark = pytest.mark.databases("sqlite", "postgresql")


def test_a_renamed_class_keeps_its_images_place_guideline_and_examples_and_history_keeps_the_words(small: Dataset) -> None:
    one = ids(small, "green")[0]
    classes.describe(small.id, "green", "  Like grass.\nNot like the sea. ")
    classes.set_example(small.id, "green", one, True)
    assert classes.rename(small.id, "green", " leaf ", "Ann") == "leaf"
    assert live(small) == ("blue", "leaf", "red") and counts(small) == {"blue": 8, "leaf": 8, "red": 8}
    assert find(small, "leaf") == Class("leaf", "Like grass.\nNot like the sea.", None, (one,), ())
    assert words(small, one) == ["green"]


@pytest.mark.parametrize("taken", ["red", "RED", "red "])
def test_a_class_cannot_take_the_name_of_another_and_nothing_changes(small: Dataset, taken: str) -> None:
    with pytest.raises(Conflict, match="“red” already"):
        classes.rename(small.id, "green", taken, "Ann")
    assert counts(small) == {"blue": 8, "green": 8, "red": 8}


def test_a_class_may_change_its_case_and_a_second_click_says_that_it_was_done(small: Dataset) -> None:
    classes.rename(small.id, "green", "Green", "Ann")
    assert live(small) == ("blue", "Green", "red")
    with pytest.raises(NotFound, match="no class “green” any more"):
        classes.rename(small.id, "green", "Green", "Ann")


@pytest.mark.parametrize("name", ["", ".hidden", "x" * 201, "two\nlines"])
def test_a_name_that_a_folder_could_not_have_is_refused(small: Dataset, name: str) -> None:
    with pytest.raises(Invalid):
        classes.add(small.id, name)
    with pytest.raises(Invalid):
        classes.rename(small.id, "red", name, "Ann")
    assert live(small) == ("blue", "green", "red")


def test_a_label_from_a_page_drawn_before_a_rename_or_merge_is_stored_under_todays_name(small: Dataset) -> None:
    one = ids(small, "red")[0]
    classes.rename(small.id, "green", "leaf", "Bob")
    done = labels.apply(small.id, seen(small, [one]), "green", "Ann")
    assert done.label == "leaf" and done.notice == "“green” is called “leaf” now."
    classes.rename(small.id, "leaf", "grass", "Bob")
    assert classes.merge(small.id, "grass", "blue", "Bob") == 9
    for old in ("green", "leaf", "grass"):
        assert labels.apply(small.id, seen(small, [one]), old, "Ann").label == "blue"
    assert labels.apply(small.id, seen(small, [one]), "blue", "Ann").notice == ""


def test_a_retired_class_is_not_given_any_more_and_nothing_is_lost(small: Dataset) -> None:
    assert classes.retire(small.id, "green", "Bob") == 8
    one = ids(small, "red")[0]
    with pytest.raises(NotFound, match="“green” was retired"):
        labels.apply(small.id, seen(small, [one]), "green", "Ann")
    assert live(small) == ("blue", "red") and counts(small) == {"blue": 8, "red": 8, None: 8}
    with pytest.raises(Conflict, match="retired already"):
        classes.retire(small.id, "green", "Bob")
    assert [classes.retire(small.id, "blue", "Bob", "click") for _ in range(2)] == [8, 8]
    classes.restore(small.id, "blue", "Bob")
    with pytest.raises(Conflict, match="“green” was retired"):
        classes.add(small.id, "Green")


def test_a_class_that_was_merged_brought_back_and_retired_is_refused_not_merged_again(small: Dataset) -> None:
    classes.merge(small.id, "green", "blue", "Bob")
    classes.restore(small.id, "green", "Bob")
    classes.retire(small.id, "green", "Bob")
    one = ids(small, "red")[0]
    with pytest.raises(NotFound, match="“green” was retired"):
        labels.apply(small.id, seen(small, [one]), "green", "Ann")


@pytest.mark.parametrize("into", ["blue", None])
def test_a_merge_and_a_retirement_are_undone_by_taking_back_their_act(small: Dataset, into: str | None) -> None:
    greens = ids(small, "green")
    if into:
        classes.merge(small.id, "green", into, "Bob")
    else:
        classes.retire(small.id, "green", "Bob")
    act = labels.acts(small.id, Which(), 1)[0][0]
    assert (act.source, act.by, act.images, act.label) == ("merge" if into else "retire", "Bob", 8, into)
    assert undo(small, labels.which(act)) == (8, 0)
    assert sorted(ids(small, "green")) == sorted(greens) and live(small) == ("blue", "green", "red")


@pytest.mark.parametrize("into", ["blue", None])
def test_bringing_a_class_back_gives_it_to_the_images_nobody_has_labelled_since(small: Dataset, into: str | None) -> None:
    greens = ids(small, "green")
    if into:
        classes.merge(small.id, "green", into, "Bob")
    else:
        classes.retire(small.id, "green", "Bob")
    give(small, greens[:3], "red")
    assert classes.restorable(small.id) == {"green": 5}
    assert classes.restore(small.id, "green", "Eve") == 5
    assert classes.restorable(small.id) == {} and counts(small) == {"blue": 8, "green": 5, "red": 11}
    assert classes.restore(small.id, "green", "Eve") == 0  # a second click
    assert words(small, greens[5]) == ["green", into, "green"]
    with pytest.raises(NotFound, match="no class “pink”"):
        classes.restore(small.id, "pink", "Eve")


def test_a_class_cannot_be_merged_into_itself_or_into_one_that_is_gone(small: Dataset) -> None:
    with pytest.raises(Invalid, match="into itself"):
        classes.merge(small.id, "green", "green", "Ann")
    classes.retire(small.id, "red", "Ann")
    with pytest.raises(NotFound, match="“red” was retired"):
        classes.merge(small.id, "green", "red", "Ann")
    assert counts(small) == {"blue": 8, "green": 8, None: 8}


def test_classes_are_reordered_and_those_not_named_stay_behind(small: Dataset) -> None:
    classes.order(small.id, ["red", "green", "pink"])
    assert live(small) == ("red", "green", "blue")
    classes.retire(small.id, "red", "Ann")
    assert [c.name for c in classes.of(small.id)] == ["green", "blue", "red"]
    classes.restore(small.id, "red", "Ann")
    assert live(small) == ("red", "green", "blue")


def test_a_guideline_has_a_limit_and_needs_a_class(small: Dataset) -> None:
    classes.describe(small.id, "red", "x" * names.MAX_GUIDELINE)
    with pytest.raises(Invalid, match="2,001 characters"):
        classes.describe(small.id, "red", "x" * (names.MAX_GUIDELINE + 1))
    assert find(small, "red").guideline == "x" * names.MAX_GUIDELINE
    with pytest.raises(NotFound, match="no class “pink”"):
        classes.describe(small.id, "pink", "warm")


def test_a_guideline_that_somebody_has_changed_since_is_not_overwritten_unseen(small: Dataset) -> None:
    classes.describe(small.id, "red", "Bob's", seen="")
    classes.describe(small.id, "red", "Bob's", seen="")  # a second click
    with pytest.raises(Conflict, match="changed this guideline since"):
        classes.describe(small.id, "red", "Ann's", seen="")
    assert find(small, "red").guideline == "Bob's"
    classes.describe(small.id, "red", "Ann's", seen="Bob's")
    assert find(small, "red").guideline == "Ann's"


def test_an_image_is_an_accepted_or_a_rejected_example_never_both_and_their_number_is_limited(small: Dataset) -> None:
    reds = ids(small, "red") + ids(small, "blue")
    classes.set_example(small.id, "red", reds[0], True)
    classes.set_example(small.id, "red", reds[0], False)
    assert (find(small, "red").accepted, find(small, "red").rejected) == ((), (reds[0],))
    classes.set_example(small.id, "red", reds[0], None)
    assert (find(small, "red").accepted, find(small, "red").rejected) == ((), ())
    for image_id in reds[: names.MAX_EXAMPLES]:
        classes.set_example(small.id, "red", image_id, True)
    classes.set_example(small.id, "red", reds[0], True)  # a second click
    with pytest.raises(Invalid, match="12 such examples already"):
        classes.set_example(small.id, "red", reds[13], True)
    classes.set_example(small.id, "red", reds[13], False)
    with pytest.raises(NotFound, match="not in this dataset"):
        classes.set_example(small.id, "red", "f" * 16, False)
    with pytest.raises(NotFound, match="no class “pink”"):
        classes.set_example(small.id, "pink", reds[0], True)
