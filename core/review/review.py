"""The moderator's queue: predictions that wait for a person, and what was decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache, partial
from pathlib import Path

from core import roles, storage
from core.data import basket, events, images, originals, people, policies, removed, store, uploads
from core.data import decisions as stored
from core.data import queue as items
from core.data.decisions import Said
from core.data.imports import add_upload
from core.data.queue import Submission, Verdict
from core.data.schema import moment
from core.errors import AppError, Conflict, Invalid, NotFound
from core.review import policy, predict
from core.review.arms import Arm
from core.runs import launch, runs
from core.runs.remote import infer
from core.settings import settings
from core.types import Dataset, Image, Prediction

queue_length = items.queue_length
WEEK = timedelta(days=7)  # who has decided since then is at work here


@roles.needs("decide")
def colleagues(dataset_id: int, who: str) -> list[str]:
    """To whom a picture can be handed: who else decides here these days and may still do so."""
    since = (datetime.now(UTC) - WEEK).isoformat(timespec="milliseconds")
    others = (one for one in stored.at_work(dataset_id, since) if one not in (who, roles.UNNAMED))
    return [one for one in others if not settings().sign_in or _may_decide(one, dataset_id)]


def _may_decide(name: str, dataset_id: int) -> bool:
    one = people.find(name)
    return one is not None and one.off_at is None and one.acting().may("decide", dataset_id)


# What comes in ------------------------------------------------------------------------------------


@roles.needs("ask")
def submit(dataset_id: int, run_id: str, prediction: Prediction, by: str, source: str = "upload", again: bool = False) -> bool:
    """Queues an upload and its prediction; False if it waits already, or was decided and is not to be asked again."""
    runs.folder(run_id)
    row = _row(dataset_id, run_id, prediction, by, source) | policy.sorter(dataset_id, run_id)(prediction) | {"state": "waiting"}
    return _add([row], again) == ["new"]


@roles.needs("ask")
def send(dataset_id: int, ids: Sequence[int], by: str) -> tuple[int, int]:
    """Queues pictures that were answered and sent to nobody, with the answers that they have.

    How many wait now that did not, and how many are not there any more, themselves or their files.
    """
    rows, sorter = [], cache(partial(policy.sorter, dataset_id))
    for number in ids:
        try:
            one = items.get(number)  # in the run's own words, as its policy knows them
            said = one.probabilities
            answer = Prediction(one.name, one.image_id, tuple(said), tuple(said.values()), fingerprint=one.fingerprint)
            row = _row(dataset_id, one.run_id, answer, by, one.source)
        except NotFound:
            continue
        if one.dataset_id == dataset_id:
            rows.append(row | sorter(one.run_id)(answer) | {"state": "waiting"})
    return _add(rows).count("new"), len(ids) - len(rows)


@roles.needs("ask")
def keep(dataset_id: int, run_id: str, predictions: Sequence[Prediction], by: str, source: str) -> dict[str, int]:
    """Keeps what was predicted, sorted by the active policy if it is this run's; how many there are of each state."""
    sort, found = policy.sorter(dataset_id, run_id), dict[str, int]()
    rows = [_row(dataset_id, run_id, one, by, source) | {"state": "predicted"} | sort(one) for one in predictions]
    for row, what in zip(rows, _add(rows), strict=True):
        state = str(row["state"]) if what == "new" else what
        found[state] = found.get(state, 0) + 1
    return found


def _add(rows: Sequence[Mapping[str, object]], again: bool = False) -> list[items.Added]:
    """Their pictures are in storage before a row names them."""
    patience = storage.SOON if len(rows) == 1 else storage.PATIENT
    storage.keep((uploads.pictures() / f"{row['image_id']}.{row['ext']}" for row in rows), patience)
    return items.add(rows, again)


def _row(dataset_id: int, run_id: str, prediction: Prediction, by: str, source: str) -> dict[str, object]:
    upload = uploads.find(prediction.image_id, prediction.file)
    label, probability = prediction.top(1)[0]
    return {
        "dataset_id": dataset_id,
        "run_id": run_id,
        "image_id": upload.id,
        "ext": upload.path.suffix.lstrip("."),
        "name": prediction.file,
        "by": by,
        "source": source,
        "predicted": label,
        "probability": probability,
        "probabilities": dict(zip(prediction.classes, prediction.probabilities, strict=True)),
        "fingerprint": prediction.fingerprint,
    }


# What is there ------------------------------------------------------------------------------------


@roles.needs("see")
def browse(dataset_id: int, which: items.Which, sort: str = "newest", offset: int = 0, limit: int = 50) -> list[Submission]:
    """Everything that was predicted, as core.data.queue.browse finds it; classes bear their names of today."""
    words = events.names(dataset_id)
    return [today(one, words) for one in items.browse(dataset_id, which, sort, offset, limit)]


def today(submission: Submission, words: events.Names | None = None) -> Submission:
    """The same with the names that its classes bear today; words: what events.names says of its dataset, where many are asked about."""
    words = words or events.names(submission.dataset_id)
    named = {words.since(name, submission.at): p for name, p in submission.probabilities.items()}
    label = submission.label and words.since(submission.label, submission.decided_at or submission.at)
    return replace(submission, predicted=words.since(submission.predicted, submission.at), probabilities=named, label=label)


def picture(submission: Submission) -> Path:
    path = uploads.pictures() / f"{submission.image_id}.{submission.ext}"
    return path if storage.local(path).exists() else uploads.find(submission.image_id).path


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


def known(submission: Submission) -> Image | None:
    """The image of the dataset that the picture is, if it is one already."""
    return there(submission.dataset_id, [submission.image_id]).get(submission.image_id)


@roles.needs("see")
def there(dataset_id: int, upload_ids: Sequence[str]) -> dict[str, Image]:
    """The image of the dataset that each of the uploads is, by its bytes, or by its pixels where the image came without a file."""
    with moment():
        same = originals.here(dataset_id, list(upload_ids))
    for upload_id in upload_ids:
        if upload_id not in same and (found := store.known_images(dataset_id, _array_ids(upload_id))):
            same[upload_id] = next(iter(found))
    here = {one.id: one for one in store.get_images(dataset_id, list(set(same.values())))}
    return {upload_id: here[image_id] for upload_id, image_id in same.items() if image_id in here}  # else removed a moment ago


@lru_cache(maxsize=1000)
def _array_ids(upload_id: str) -> tuple[str, ...]:
    try:
        return tuple(launch.ask(infer.array_ids, str(uploads.find(upload_id).path)))
    except (Invalid, NotFound):  # who decides on it, or asks a network, is told
        return ()


# Dealing out --------------------------------------------------------------------------------------


@roles.needs("decide")
def deal(dataset_id: int, want: items.Deal, count: int, keep: Sequence[int] = ()) -> list[Submission]:
    """The next for a session, as the active policy mixes them; see core.data.queue.deal."""
    person = roles.allow("decide", dataset_id)
    want = replace(want, lead=person.may("lead", dataset_id))
    if acting := policy.active(dataset_id):
        said = policy.rules(acting)
        overdue = (datetime.now(UTC) - timedelta(hours=said.overdue_hours)).isoformat(timespec="milliseconds")
        want = replace(want, overdue=overdue, benign=said.benign, known=round(1 / said.known) if said.known else 0)
    words = events.names(dataset_id)
    return [today(one, words) for one in items.deal(dataset_id, want, count, keep)]


def is_blind(submission: Submission) -> bool:
    """Whether whoever decides is not shown the network's answer: second opinions, and the share that its policy draws."""
    return submission.blind or submission.state in items.BLIND


def named(submission: Submission) -> str:
    """A picture's name, or, where that may tell what is still to be decided blind, the beginning of its hash."""
    return items.unnamed(submission.image_id) if is_blind(submission) and submission.state != "decided" else submission.name


def _drawn(submission: Submission) -> frozenset[Arm]:
    """The arms that its policy has drawn for it, if one has sorted it."""
    if submission.policy_id is None:
        return frozenset()
    acting = policies.get(submission.policy_id)
    return policy.arms_of(acting, policy.rules(acting), submission.image_id)


# Deciding -----------------------------------------------------------------------------------------


def _labelled(image: Image) -> str:
    return "has no label" if image.label is None else f"is labelled “{image.label}”"


def _dataset_of(submission: Submission) -> Dataset:
    dataset = store.get_dataset(submission.dataset_id)
    if dataset.deleted_at:
        raise Invalid(f"The dataset “{dataset.name}” was deleted.", "Restore it on the Dataset page first.")
    return dataset


def decide(
    submission_id: int,
    verdict: Verdict,
    label: str | None,
    by: str,
    sure: bool = False,
    *,
    session: str = "",
    operation: str | None = None,
    hint: bool = True,
    seconds: float | None = None,
    note: str = "",
    reason: str = "",
) -> items.Decided:
    """Accepts (the predicted class), corrects (to a class that a person chose), rejects or escalates, once.

    Without a policy an accepted or corrected picture joins the dataset with its label at once; under one it waits in the basket until a
    lead accepts it. A rejected one never joins. One that the dataset has with a label keeps it when an answer is accepted; the label
    of a test image changes only when somebody is sure.
    """
    with moment():
        submission = today(items.get(submission_id))
        dataset = _dataset_of(submission)
        roles.allow("lead" if submission.state == "lead" else "decide", dataset.id)
        drawn = _drawn(submission)
    if verdict not in ("accepted", "corrected", "rejected", "escalated"):
        raise Invalid(f"“{verdict}” is no decision.", "Accept the answer, choose a class, say that none fits, or escalate.")
    act = items.Act(
        by, verdict, None, session, operation, hint, seconds, note.strip()[:2000], reason.strip()[:200],
        seconded="second" in drawn, basket=submission.policy_id is not None, reserved=submission.state in ("audit", "known") or not hint,
    )  # fmt: skip
    before = _may_be(submission) if submission.state == "appeal" else []
    if verdict in ("rejected", "escalated"):
        return items.decide(submission_id, act, None, before)
    if verdict == "accepted":
        label = submission.predicted
    if label not in {*dataset.classes, submission.predicted}:
        raise Invalid(f"“{label}” is not a class of {dataset.name}.", f"Its classes are: {', '.join(dataset.classes)}.")
    joins = not act.basket and submission.state != "known"
    same = verdict == "corrected" and label == submission.predicted
    have = known(submission) if joins or same else None
    if same and (have is None or have.label in (None, label)):
        verdict = "accepted"
    act = replace(act, verdict=verdict, label=label)
    if not joins:
        return items.decide(submission_id, act, None, before)
    if submission.verdict is None:
        _may_change(dataset, submission, have, label, verdict, sure)
    if submission.state not in (*items.OURS, "known"):  # refused there, with who decided it
        return items.decide(submission_id, act, have)
    return items.decide(submission_id, act, have or _as_image(dataset, submission), before)


def _may_change(dataset: Dataset, submission: Submission, have: Image | None, label: str | None, verdict: str, sure: bool) -> None:
    keeps = have is not None and have.label is not None and verdict == "accepted"
    if have is not None and have.split == "test" and have.label != label and not keeps and not sure:
        raise Invalid(
            f"{submission.name} is a test image of {dataset.name}, and {_labelled(have)}.",
            "Its label decides how runs are measured: say that you are sure, and choose its class again.",
        )


def _as_image(dataset: Dataset, submission: Submission) -> Image:
    file = picture(submission)
    try:
        examined = images.Examined(**launch.ask(infer.facts, str(file)))
    except Invalid as problem:
        raise Invalid(f"{submission.name}: {problem.message}", problem.hint) from None
    return add_upload(dataset, file, submission.name, examined)


def reopen(submission_id: int, by: str, seq: int | None = None) -> None:
    """Takes the last decision on a picture back: one's own, or as a lead anybody's; it waits again and leaves the dataset."""
    submission = items.get(submission_id)
    _dataset_of(submission)
    standing = [one for one in stored.of_item(submission_id) if one.undone_at is None]
    roles.allow("lead" if standing and standing[-1].by != by else "decide", submission.dataset_id)
    items.take_back(submission_id, by, _may_be(submission), seq)


def _may_be(submission: Submission) -> list[str]:
    """The ids of what a decision on the picture was about: of its image, or, where that was removed since, of each that it may have been."""
    image_id = submission.image_id
    if have := known(submission):
        return [have.id]
    copy = originals.of(submission.dataset_id).get(image_id, image_id)
    return sorted(removed.among(submission.dataset_id, [image_id, copy, *_array_ids(image_id)])) or [image_id]


@roles.needs("decide")
def undo(dataset_id: int, by: str, seq: int | None = None, operation: str | None = None) -> Submission:
    """Takes back what a person decided last, or the decision named, once; returns the picture that waits again."""
    named = seq is not None or operation is not None
    last = stored.named(dataset_id, seq, operation) if named else stored.last_of(dataset_id, by)
    if last is None:
        said = "This decision was not stored" if named else "You have decided nothing here that could be taken back"
        raise Conflict(f"{said}.", "The last decisions stand below, each with its own button.")
    if last.undone_at is None:
        reopen(last.submission_id, by, last.seq)
    elif last.undone_by != by:
        raise Conflict(f"{last.undone_by} has taken this decision back already.", "The picture waits, or was decided anew.")
    return today(items.get(last.submission_id))


@roles.needs("see")
def told(dataset_id: int, which: Said) -> Said:
    """The same as its reader may see it: what others said of a picture that is still to be judged is for leads alone."""
    person = roles.allow("see", dataset_id)
    return which if person.may("lead", dataset_id) else replace(which, reader=person.name)


@roles.needs("see")
def decisions(dataset_id: int, which: Said, offset: int = 0, limit: int | None = None) -> list[tuple[items.Decision, Submission]]:
    """What was decided, newest first, as far as the reader may see it; classes bear their names of today."""
    words = events.names(dataset_id)
    return [
        (replace(one, label=one.label and words.since(one.label, one.at)), today(item, words))
        for one, item in stored.browse(dataset_id, told(dataset_id, which), offset, limit)
    ]


def appeal(submission_id: int, by: str, note: str) -> None:
    """Asks somebody who has not decided it to look at a decided picture again."""
    submission = items.get(submission_id)
    roles.allow("lead", submission.dataset_id)
    if not note.strip():
        raise Invalid("An appeal needs a reason.", "Say in a sentence what speaks against the decision.")
    items.appeal(submission_id, by, note.strip()[:2000])


# The basket ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Accepted:
    """What became of pictures that a lead let into the dataset."""

    joined: int
    refused: tuple[tuple[str, str], ...]  # (name, why) of those that stay in the basket


def accept(ids: Sequence[int], by: str) -> Accepted:
    """Lets decided pictures join the dataset, where the next run learns from them; a test image's label never changes by it."""
    joined, refused = 0, list[tuple[str, str]]()
    for submission in map(items.get, ids):
        roles.allow("lead", submission.dataset_id)
        dataset, one = _dataset_of(submission), today(submission)
        try:
            have = known(one)
            _may_change(dataset, one, have, one.label, one.verdict or "", sure=False)
            basket.accept(one.id, have or _as_image(dataset, one), by)
            joined += 1
        except AppError as problem:
            refused.append((one.name, problem.message))
    return Accepted(joined, tuple(refused))


def refuse(ids: Sequence[int]) -> int:
    """Decided pictures that are not learned from."""
    for dataset_id in {items.get(one).dataset_id for one in ids}:
        roles.allow("lead", dataset_id)
    return basket.refuse(ids)


@roles.needs("lead")
def mix_in(dataset_id: int, known_images: Sequence[Image], run_id: str, by: str) -> int:
    """Makes labelled images of the dataset questions whose answer is known; returns how many are new. They never change a label."""
    rows = []
    for image in known_images:
        upload = uploads.keep(f"known.{image.ext}", storage.local(settings().images / image.path).read_bytes())
        answer = predict.predict(run_id, [upload.path], [items.unnamed(upload.id)])[0]
        if isinstance(answer, Prediction):
            rows.append(_row(dataset_id, run_id, answer, by, "known") | {"state": "known", "known": image.label})
    return _add(rows).count("new")
