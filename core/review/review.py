"""The moderator's queue: predictions that wait for a person, and what was decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from core.data import events, images, originals, store, uploads
from core.data.imports import add_upload
from core.errors import Invalid, NotFound
from core.review import predict
from core.runs import launch, runs
from core.runs.remote import infer
from core.types import Dataset, Image, Prediction, Submission

__all__ = ["decide", "decided", "frames", "known", "picture", "queue", "queue_length", "reopen", "sent", "submit", "there"]

queue_length = store.queue_length


def submit(dataset_id: int, run_id: str, prediction: Prediction, by: str) -> bool:
    """Queues an upload and its prediction; False if the same picture and run wait already."""
    runs.folder(run_id)
    upload = uploads.find(prediction.image_id, prediction.file)
    label, probability = prediction.top(1)[0]
    values = {
        "dataset_id": dataset_id,
        "run_id": run_id,
        "image_id": upload.id,
        "ext": upload.path.suffix.lstrip("."),
        "name": prediction.file,
        "by": by,
        "predicted": label,
        "probability": probability,
        "probabilities": dict(zip(prediction.classes, prediction.probabilities, strict=True)),
    }
    return store.add_submission(values) is not None


def queue(dataset_id: int) -> list[Submission]:
    """What waits, least certain first; classes bear their names of today."""
    return [_today(one) for one in store.queue(dataset_id)]


def _today(submission: Submission) -> Submission:
    words = events.names(submission.dataset_id)
    named = {words.since(name, submission.at): p for name, p in submission.probabilities.items()}
    return replace(submission, predicted=words.since(submission.predicted, submission.at), probabilities=named)


def decided(dataset_id: int, limit: int = 10) -> list[Submission]:
    """What was decided, newest first."""
    return store.queue(dataset_id, decided=True, limit=limit)


def picture(submission: Submission) -> Path:
    return uploads.find(submission.image_id).path


@lru_cache(maxsize=256)  # a picture and a run stay what they are
def _frames(run_id: str, image_id: str) -> Prediction | None:
    upload = uploads.find(image_id)
    if not launch.ask(infer.is_animated, str(upload.path)):  # by what it holds: a GIF may be called .jpg
        return None
    (answer,) = predict.predict(run_id, [upload.path])
    if isinstance(answer, predict.Failure):
        raise Invalid(answer.message, answer.hint)
    return answer


def frames(submission: Submission) -> Prediction | None:
    """Every judged frame of a picture that has several, asked again: the same frame counts as when it was sent. None for a still."""
    return _frames(submission.run_id, submission.image_id)


def sent(submission: Submission) -> str:
    """The answer that it was sent with, by the name that the run has for it."""
    return store.get_submission(submission.id).predicted


def known(submission: Submission) -> Image | None:
    """The image of the dataset that the picture is, if it is one already."""
    return there(submission.dataset_id, [submission.image_id]).get(submission.image_id)


def there(dataset_id: int, upload_ids: Sequence[str]) -> dict[str, Image]:
    """The image of the dataset that each of the uploads is, by its bytes, or by its pixels where the image came without a file."""
    same = originals.here(dataset_id, list(upload_ids))
    for upload_id in upload_ids:
        if upload_id not in same and (found := store.known_images(dataset_id, _array_ids(upload_id))):
            same[upload_id] = next(iter(found))
    here = {one.id: one for one in store.get_images(dataset_id, list(set(same.values())))}
    return {upload_id: here[image_id] for upload_id, image_id in same.items()}


@lru_cache(maxsize=1000)
def _array_ids(upload_id: str) -> tuple[str, ...]:
    try:
        return tuple(launch.ask(infer.array_ids, str(uploads.find(upload_id).path)))
    except (Invalid, NotFound):  # who decides on it, or asks a network, is told
        return ()


def reopen(submission_id: int, by: str) -> None:
    """Takes a decision back; the prediction waits again and its picture leaves the dataset."""
    submission = store.get_submission(submission_id)
    _dataset_of(submission)
    have = known(submission)
    store.reopen(submission_id, by, submission.image_id if have is None else have.id)


def _labelled(image: Image) -> str:
    return "has no label" if image.label is None else f"is labelled “{image.label}”"


def _dataset_of(submission: Submission) -> Dataset:
    dataset = store.get_dataset(submission.dataset_id)
    if dataset.deleted_at:
        raise Invalid(f"The dataset “{dataset.name}” was deleted.", "Restore it on the Dataset page first.")
    return dataset


def decide(submission_id: int, verdict: str, label: str | None, by: str, sure: bool = False) -> None:
    """Accepts (the predicted class), corrects (to a class that a person chose) or rejects, once.

    An accepted or corrected picture joins the dataset with its label; a rejected one never does. One that the dataset has
    with a label keeps it when an answer is accepted; the label of a test image changes only when somebody is sure.
    """
    submission = _today(store.get_submission(submission_id))
    dataset = _dataset_of(submission)
    if verdict == "rejected":
        store.decide(submission_id, verdict, None, by, None)
        return
    if verdict == "accepted":
        label = submission.predicted
    if verdict not in ("accepted", "corrected") or label not in {*dataset.classes, submission.predicted}:
        raise Invalid(f"“{label}” is not a class of {dataset.name}.", f"Its classes are: {', '.join(dataset.classes)}.")
    have = known(submission)
    keeps = have is not None and have.label is not None and verdict == "accepted"
    if have is not None and have.split == "test" and have.label != label and not keeps and not sure and submission.verdict is None:
        raise Invalid(
            f"{submission.name} is a test image of {dataset.name}, and {_labelled(have)}.",
            "Its label decides how runs are measured: say that you are sure, and choose its class again.",
        )
    if have is not None:
        store.decide(submission_id, verdict, label, by, have)
        return
    file = picture(submission)
    try:
        examined = images.Examined(**launch.ask(infer.facts, str(file)))
    except Invalid as problem:
        raise Invalid(f"{submission.name}: {problem.message}", problem.hint) from None
    store.decide(submission_id, verdict, label, by, add_upload(dataset, file, submission.name, examined))
