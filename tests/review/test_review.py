"""The moderator's queue: what joins the dataset, what never does, and that nothing is decided twice."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from core.data import audit, classes, dataset, images, imports, labels, store, uploads
from core.data.queue import Submission, Verdict
from core.errors import Conflict, Invalid, NotFound
from core.review import review
from core.runs import runs
from core.settings import settings
from core.types import Dataset, Image, Prediction
from tests import reviewing

pytestmark = pytest.mark.databases("sqlite", "postgresql")

RUN = "20260101-000000-cafe"
CLASSES = ("blue", "green", "red")


@pytest.fixture
def upload(small: Dataset) -> Callable[..., Prediction]:
    """Keeps a new picture and gives the prediction of its first class with that probability."""
    (settings().runs / RUN).mkdir(parents=True)

    def make(probability: float = 0.9, seed: int = 0) -> Prediction:
        pixels = np.random.default_rng(1000 + seed).integers(0, 256, (12, 12, 3), np.uint8)
        kept = uploads.keep(f"new-{seed}.png", images.png(pixels))
        rest = (1 - probability) / 2
        return Prediction(kept.name, kept.id, CLASSES, (probability, rest, rest))

    return make


def queued(small: Dataset, prediction: Prediction) -> Submission:
    assert review.submit(small.id, RUN, prediction, "Ann")
    (found,) = [s for s in reviewing.waiting(small.id) if s.image_id == prediction.image_id]
    return found


def test_the_least_certain_prediction_comes_first(small: Dataset, upload: Callable[..., Prediction]) -> None:
    for seed, probability in enumerate((0.9, 0.4, 0.7)):
        assert review.submit(small.id, RUN, upload(probability, seed), "Ann")
    found = reviewing.waiting(small.id)
    assert [s.probability for s in found] == [0.4, 0.7, 0.9] and review.queue_length(small.id) == 3
    assert (found[0].predicted, found[0].by, found[0].name, found[0].verdict) == ("blue", "Ann", "new-1.png", None)
    assert found[0].probabilities == pytest.approx({"blue": 0.4, "green": 0.3, "red": 0.3})
    assert Pillow.open(review.picture(found[0])).size == (12, 12)


def test_a_double_click_queues_a_picture_once(small: Dataset, upload: Callable[..., Prediction]) -> None:
    one = upload()
    assert review.submit(small.id, RUN, one, "Ann") is True
    assert review.submit(small.id, RUN, one, "Ann") is False
    assert review.queue_length(small.id) == 1


def test_a_queued_picture_is_not_in_the_dataset(small: Dataset, upload: Callable[..., Prediction]) -> None:
    queued(small, upload())
    assert dataset.totals(small.id) == (24, 24)


def test_an_accepted_picture_joins_the_dataset_with_the_predicted_label(small: Dataset, upload: Callable[..., Prediction]) -> None:
    one = queued(small, upload())
    review.decide(one.id, "accepted", None, "Mo")
    assert dataset.totals(small.id) == (25, 25) and reviewing.waiting(small.id) == []
    added = store.get_image(small.id, one.image_id)
    assert (added.label, added.source, added.width) == ("blue", "new-0.png", 12)
    assert (settings().images / added.path).read_bytes() == review.picture(one).read_bytes()
    assert images.ThumbPack(settings().thumbs, small.id).read(added.thumb_offset, added.thumb_size).startswith(b"\x89PNG")
    (event,) = labels.history(small.id, one.image_id)
    assert (event.label, event.by, event.source) == ("blue", "Mo", "review")
    (done,) = reviewing.decided(small.id)
    assert (done.verdict, done.label, done.decided_by, done.predicted) == ("accepted", "blue", "Mo", "blue")
    assert one.image_id in {r.image_id for r in store.snapshot(small.id, 0).rows}


def test_a_corrected_picture_joins_with_the_persons_label_and_the_prediction_stays_known(
    small: Dataset, upload: Callable[..., Prediction]
) -> None:
    one = queued(small, upload())
    review.decide(one.id, "corrected", "red", "Mo")
    assert store.get_image(small.id, one.image_id).label == "red"
    (done,) = reviewing.decided(small.id)
    assert (done.verdict, done.label, done.predicted) == ("corrected", "red", "blue")


def test_a_rejected_picture_never_joins_even_if_a_label_is_given(small: Dataset, upload: Callable[..., Prediction]) -> None:
    one = queued(small, upload())
    review.decide(one.id, "rejected", "red", "Mo")
    assert dataset.totals(small.id) == (24, 24)
    with pytest.raises(NotFound):
        store.get_image(small.id, one.image_id)
    (done,) = reviewing.decided(small.id)
    assert (done.verdict, done.label) == ("rejected", None)


@pytest.mark.parametrize("first", ["accepted", "rejected"])
def test_a_second_decision_is_refused_and_changes_nothing(small: Dataset, upload: Callable[..., Prediction], first: Verdict) -> None:
    one = queued(small, upload())
    review.decide(one.id, first, None, "Mo")
    before = (dataset.totals(small.id), reviewing.decided(small.id), labels.history(small.id, one.image_id))
    again: tuple[tuple[Verdict, str | None], ...] = (("corrected", "red"), ("rejected", None), ("accepted", None))
    for verdict, label in again:
        with pytest.raises(Conflict, match="decided already"):
            review.decide(one.id, verdict, label, "Bo")
    assert (dataset.totals(small.id), reviewing.decided(small.id), labels.history(small.id, one.image_id)) == before


@pytest.mark.parametrize(("verdict", "label"), [("corrected", "horse"), ("corrected", None), ("maybe", "red")])
def test_a_verdict_or_class_that_does_not_exist_is_refused_and_the_picture_stays_queued(
    small: Dataset, upload: Callable[..., Prediction], verdict: Verdict, label: str | None
) -> None:
    one = queued(small, upload())
    with pytest.raises(Invalid):
        review.decide(one.id, verdict, label, "Mo")
    assert review.queue_length(small.id) == 1 and dataset.totals(small.id) == (24, 24)


def known_picture(small: Dataset, split: str) -> tuple[Image, Submission]:
    """A red image of the dataset, brought again and answered with blue."""
    known = store.browse(small.id, store.Filter(label="red", split=split), 0, 1)[0]
    kept = uploads.keep("again.png", (settings().images / known.path).read_bytes())
    return known, queued(small, Prediction("again.png", kept.id, CLASSES, (0.6, 0.2, 0.2)))


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("colours", [False, True])
def test_a_picture_without_a_file_is_known_by_its_pixels_grey_or_in_colour_as_saved_from_an_export_or_the_page(
    home: Path, tmp_path: Path, colours: bool
) -> None:
    (settings().runs / RUN).mkdir(parents=True)
    found, grey = store.create_dataset("digits"), np.random.default_rng(1).integers(0, 256, (8, 6), np.uint8)
    array = grey[..., None].repeat(3, 2) if colours else grey
    there = imports.add_upload(found, tmp_path / "one", "one", replace_id(tmp_path / "one", array))
    classes.ensure(found.id, ["red", "blue"])
    labels.add_images(found.id, [replace(there, label="red", split="test")], "tester", "import")
    stored = settings().images / there.path
    page, _ = images.picture_file(stored)
    assert Pillow.open(io.BytesIO(page)).size == (384, 512)
    other = images.png(grey if colours else grey[..., None].repeat(3, 2))
    for i, data in enumerate((stored.read_bytes(), other, page)):
        kept = uploads.keep(f"{i}.png", data)
        assert kept.id != there.id and review.there(found.id, [kept.id])[kept.id].id == there.id
        one = queued(found, Prediction(f"{i}.png", kept.id, ("blue", "red"), (0.6, 0.4)))
        with pytest.raises(Invalid, match="is a test image of digits, and is labelled “red”"):
            review.decide(one.id, "corrected", "blue", "Mo")
        review.decide(one.id, "accepted", None, "Mo")
        assert dataset.totals(found.id) == (1, 1) and store.get_image(found.id, there.id).label == "red"
    review.reopen(one.id, "Mo")
    review.decide(one.id, "corrected", "blue", "Mo", sure=True)
    assert store.get_image(found.id, there.id).label == "blue"
    review.reopen(one.id, "Mo")
    assert store.get_image(found.id, there.id).label == "red" and dataset.totals(found.id) == (1, 1)
    strange = uploads.keep("other.png", images.png(255 - grey))
    assert review.there(found.id, [strange.id]) == {}


def replace_id(file: Path, array: np.ndarray) -> images.Examined:
    """What an import keeps of an array, whose PNG is written into the file."""
    file.write_bytes(images.png(array))
    return replace(images.examine(file.read_bytes()), id=images.array_id(array))


@pytest.mark.parametrize("split", ["train", "test"])
def test_accepting_an_answer_never_changes_the_label_of_an_image_that_is_there(
    small: Dataset, upload: Callable[..., Prediction], split: str
) -> None:
    upload()
    known, one = known_picture(small, split)
    assert review.known(one) == known
    review.decide(one.id, "accepted", None, "Mo", sure=True)
    assert store.get_image(small.id, known.id) == known and reviewing.waiting(small.id) == []
    assert [e.label for e in labels.history(small.id, known.id)] == ["red"]


def test_the_label_of_a_test_image_changes_only_when_somebody_is_sure(small: Dataset, upload: Callable[..., Prediction]) -> None:
    upload()
    known, one = known_picture(small, "test")
    with pytest.raises(Invalid, match="test image of squares, and is labelled “red”"):
        review.decide(one.id, "corrected", "blue", "Mo")
    assert store.get_image(small.id, known.id).label == "red" and review.queue_length(small.id) == 1
    review.decide(one.id, "corrected", "blue", "Mo", sure=True)
    assert store.get_image(small.id, known.id).label == "blue"


def test_a_picture_the_dataset_has_already_gets_a_corrected_label_as_one_more_event(
    small: Dataset, upload: Callable[..., Prediction]
) -> None:
    known = store.browse(small.id, store.Filter(label="red", split="train"), 0, 1)[0]
    kept = uploads.keep("again.png", (settings().images / known.path).read_bytes())
    one = queued(small, Prediction("again.png", kept.id, CLASSES, (0.6, 0.2, 0.2)))
    review.decide(one.id, "corrected", "blue", "Mo")
    assert dataset.totals(small.id) == (24, 24)
    assert [(e.label, e.previous) for e in labels.history(small.id, known.id)] == [("blue", "red"), ("red", None)]
    (entry,) = audit.search(audit.Which(kind="review.decide"), 1, 9)[0]
    assert (entry.before["dataset_label"], entry.after["dataset_label"]) == ("red", "blue")


def test_who_gives_a_picture_the_label_that_it_has_and_that_was_answered_has_accepted(
    small: Dataset, upload: Callable[..., Prediction]
) -> None:
    upload()
    known = store.browse(small.id, store.Filter(label="blue", split="train"), 0, 1)[0]
    kept = uploads.keep("again.png", (settings().images / known.path).read_bytes())
    one = queued(small, Prediction("again.png", kept.id, CLASSES, (0.6, 0.2, 0.2)))
    review.decide(one.id, "corrected", "blue", "Mo")
    assert [(s.verdict, s.label) for s in reviewing.decided(small.id)] == [("accepted", "blue")]


def test_a_deleted_dataset_takes_no_decision_until_it_is_restored(small: Dataset, upload: Callable[..., Prediction]) -> None:
    one = queued(small, upload())
    store.set_deleted(small.id, True)
    said: tuple[Verdict, ...] = ("accepted", "rejected")
    for verdict in said:
        with pytest.raises(Invalid, match="“squares” was deleted"):
            review.decide(one.id, verdict, None, "Mo")
    store.set_deleted(small.id, False)
    review.decide(one.id, "accepted", None, "Mo")
    assert dataset.totals(small.id) == (25, 25)


def test_a_picture_that_is_broken_cannot_join_and_can_still_be_rejected(small: Dataset, upload: Callable[..., Prediction]) -> None:
    one = queued(small, upload())
    Path(review.picture(one)).write_bytes(b"broken")
    with pytest.raises(Invalid, match=r"new-0\.png"):
        review.decide(one.id, "accepted", None, "Mo")
    assert review.queue_length(small.id) == 1
    review.decide(one.id, "rejected", None, "Mo")


def test_submitting_for_a_run_or_picture_that_is_gone_is_refused(small: Dataset, upload: Callable[..., Prediction]) -> None:
    one = upload()
    with pytest.raises(NotFound, match="no run"):
        review.submit(small.id, "20260101-000000-0000", one, "Ann")
    uploads.find(one.image_id).path.unlink()
    with pytest.raises(NotFound, match="Upload it again"):
        review.submit(small.id, RUN, one, "Ann")
    assert runs.folder(RUN) and review.queue_length(small.id) == 0


# Taking a decision back


def test_a_decision_that_is_taken_back_waits_again_and_its_picture_leaves_the_dataset(
    small: Dataset, upload: Callable[..., Prediction]
) -> None:
    one = queued(small, upload())
    review.decide(one.id, "accepted", None, "Mo")
    review.reopen(one.id, "Bo")
    assert reviewing.waiting(small.id) == [one] and reviewing.decided(small.id) == []
    assert dataset.totals(small.id) == (24, 24)
    assert [(e.label, e.previous, e.by) for e in labels.history(small.id, one.image_id)] == [(None, "blue", "Bo"), ("blue", None, "Mo")]
    with pytest.raises(Conflict, match="waits in the queue already"):
        review.reopen(one.id, "Bo")
    review.decide(one.id, "corrected", "red", "Mo")
    assert store.get_image(small.id, one.image_id).label == "red" and dataset.totals(small.id) == (25, 25)


def test_taking_a_rejection_back_changes_no_label(small: Dataset, upload: Callable[..., Prediction]) -> None:
    one = queued(small, upload())
    review.decide(one.id, "rejected", None, "Mo")
    review.reopen(one.id, "Mo")
    assert review.queue_length(small.id) == 1 and labels.history(small.id, one.image_id) == []


def test_a_label_somebody_gave_since_the_decision_stays(small: Dataset, upload: Callable[..., Prediction]) -> None:
    one = queued(small, upload())
    review.decide(one.id, "accepted", None, "Mo")
    labels.apply(small.id, {one.image_id: store.get_image(small.id, one.image_id).label_seq}, "green", "Ann")
    review.reopen(one.id, "Mo")
    assert store.get_image(small.id, one.image_id).label == "green"


@pytest.mark.parametrize("before", ["red", None])
def test_an_image_that_was_in_the_dataset_before_the_decision_stays_with_its_label_of_then(
    small: Dataset, upload: Callable[..., Prediction], tmp_path: Path, before: str | None
) -> None:
    upload()
    file = tmp_path / "imported.png"
    file.write_bytes(images.png(np.full((12, 12, 3), 9, np.uint8)))
    imported = replace(imports.add_upload(small, file, "imported.png"), label=before)
    labels.add_images(small.id, [imported], "tester", "import")
    kept = uploads.keep("again.png", file.read_bytes())
    one = queued(small, Prediction("again.png", kept.id, CLASSES, (0.6, 0.2, 0.2)))
    review.decide(one.id, "corrected", "blue", "Mo", sure=True)
    assert store.get_image(small.id, imported.id).label == "blue"
    review.reopen(one.id, "Mo")
    assert store.get_image(small.id, imported.id).label == before


def test_taking_one_decision_back_leaves_another_one_on_the_same_picture(small: Dataset, upload: Callable[..., Prediction]) -> None:
    other_run = "20260101-000000-f00d"
    (settings().runs / other_run).mkdir(parents=True)
    prediction = upload()
    first = queued(small, prediction)
    review.decide(first.id, "accepted", None, "Mo")
    assert not review.submit(small.id, other_run, prediction, "Ann") and reviewing.waiting(small.id) == []  # it was decided
    said: tuple[tuple[Verdict, str | None], ...] = (("accepted", None), ("corrected", "red"))
    for verdict, label in said:
        assert review.submit(small.id, other_run, prediction, "Ann", again=True)
        (second,) = reviewing.waiting(small.id)
        review.decide(second.id, verdict, label, "Mo", sure=True)
        review.reopen(second.id, "Mo")
        assert store.get_image(small.id, first.image_id).label == "blue"
        review.decide(second.id, "rejected", None, "Mo")


def test_no_decision_on_a_deleted_dataset_is_taken_back(small: Dataset, upload: Callable[..., Prediction]) -> None:
    one = queued(small, upload())
    review.decide(one.id, "accepted", None, "Mo")
    store.set_deleted(small.id, True)
    with pytest.raises(Invalid, match="“squares” was deleted"):
        review.reopen(one.id, "Mo")
    assert [s.id for s in reviewing.decided(small.id)] == [one.id]


def test_a_decision_on_a_class_renamed_since_is_taken_back_to_the_name_of_today(small: Dataset, upload: Callable[..., Prediction]) -> None:
    known = store.browse(small.id, store.Filter(label="red"), 0, 1)[0]
    kept = uploads.keep("again.png", (settings().images / known.path).read_bytes())
    one = queued(small, Prediction("again.png", kept.id, CLASSES, (0.6, 0.2, 0.2)))
    classes.rename(small.id, "blue", "navy", "Ann")
    assert [s.predicted for s in reviewing.waiting(small.id)] == ["navy"]
    review.decide(one.id, "corrected", "navy", "Mo", sure=True)
    assert store.get_image(small.id, known.id).label == "navy"
    classes.rename(small.id, "red", "ruby", "Ann")
    labels.flag(small.id, {known.id: store.get_image(small.id, known.id).label_seq}, True, "Ann")
    review.reopen(one.id, "Mo")
    assert store.get_image(small.id, known.id).label == "ruby"
    assert {r.label for r in store.snapshot(small.id, 0).rows} <= set(store.get_dataset(small.id).classes)


def test_a_class_renamed_in_mid_queue_is_accepted_by_its_new_name_and_its_old_one_is_refused_in_words(
    small: Dataset, upload: Callable[..., Prediction]
) -> None:
    one = queued(small, upload())
    old = one.predicted
    classes.rename(small.id, old, "navy", "Ann")
    (shown,) = reviewing.waiting(small.id)
    assert shown.predicted == "navy" and "navy" in shown.probabilities and old not in shown.probabilities
    with pytest.raises(Invalid, match=f"“{old}” is not a class of squares"):
        review.decide(one.id, "corrected", old, "Mo")  # by a page that was drawn before
    assert [s.id for s in reviewing.waiting(small.id)] == [one.id]
    review.decide(one.id, "accepted", None, "Mo")
    (done,) = reviewing.decided(small.id)
    assert (done.predicted, done.label) == ("navy", "navy") and store.get_image(small.id, one.image_id).label == "navy"
