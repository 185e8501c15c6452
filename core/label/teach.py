"""Teach me: a small head on the embedding learns from the labels so far, answers for every image and says how often it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from filelock import FileLock

from core import roles
from core.data import events, labels, store
from core.label import embed
from core.metrics import wilson
from core.runs import launch, remote, runs
from core.types import Interval, now

if TYPE_CHECKING:
    import pandas as pd

SURE = 0.95


@dataclass(frozen=True)
class Lesson:
    """What the head knew after one press of "Teach me"."""

    at: str
    by: str
    labels: int  # of the train and validation splits; test is never learned from
    n: int  # images it was judged by
    correct: int
    how: Literal["validation", "cross-validation"]
    classes: int  # that had labels
    changed: int  # answers that differ from the last lesson's
    sure: int  # images without a label, outside test, answered with a confidence of at least 0.95
    learned: int | None = None  # of the labels; the others judge, or are more than it learns from. None: a lesson of before it was kept

    @property
    def accuracy(self) -> Interval | None:
        return wilson(self.correct, self.n)


@roles.needs("label")
def teach(dataset_id: int, by: str) -> Lesson:
    """Learns from today's labels and answers for every image of the newest embedding; Invalid if there are too few labels.

    Labels that were the model's own answers are learned from, but say nothing of how good it is.
    """
    embed.home(dataset_id).mkdir(parents=True, exist_ok=True)
    with FileLock(embed.home(dataset_id) / "teach.lock"):  # one at a time, in all threads and processes
        path, at, before = embed.needed(dataset_id), now(), answers(dataset_id)
        carried = store.carried(dataset_id)
        given = {i: one.label for i, one in carried.items() if one.label is not None and one.split != "test"}
        validation = [i for i in given if carried[i].split == "validation"]
        accepted = [i for i, source in labels.sources(dataset_id).items() if source == "model"]
        classes = tuple(sorted(set(given.values())))
        out = _answers_path(dataset_id)
        facts = launch.ask(remote.teach.teach, str(path.parent), str(out), given, classes, validation, accepted, at)
        after = answers(dataset_id)
        assert after is not None
        changed = 0
        if before is not None:
            both = after.merge(before, on="image_id")
            changed = int((both["predicted_x"] != both["predicted_y"]).sum())
        sure = sum(len(ids) for ids in suggest(dataset_id, SURE).values())
        lesson = Lesson(at=at, by=by, changed=changed, sure=sure, **facts)
        runs.append_line(embed.home(dataset_id), asdict(lesson))
        return lesson


@roles.needs("see")
def lessons(dataset_id: int) -> list[Lesson]:
    """Every lesson of the dataset, oldest first; a new embedding does not end the list."""
    return [Lesson(**line) for line in runs.read_lines(embed.home(dataset_id))[0]]


@roles.needs("see")
def answers(dataset_id: int) -> pd.DataFrame | None:
    """The last lesson's answers: image_id, predicted, confidence, entropy, margin, label, own, issue.

    label is that of the time (missing: none, or test), own the probability it was given, issue whether it is suspect.
    Classes bear their names of today. What is said of a labelled image is said by a head that has not seen its label;
    where nothing can be said without it, for it is the only one of its class, all classes are equally likely.
    """
    path = _answers_path(dataset_id)
    if not path.exists():
        return None
    mtime_ns = path.stat().st_mtime_ns
    taught, words = _taught(path, mtime_ns), events.names(dataset_id)
    at = str(taught.get("at", "9"))  # unknown: as if no class was renamed since
    return _answers(path, mtime_ns, tuple(words.since(name, at) for name in taught["classes"].tolist())).copy()


@lru_cache(maxsize=4)
def _taught(path: Path, mtime_ns: int) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return dict(stored)


@lru_cache(maxsize=4)
def _answers(path: Path, mtime_ns: int, classes: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    taught, names = _taught(path, mtime_ns), np.array([*classes, None], object)  # the last place is that of -1
    plain = {name: taught[name] for name in ("confidence", "entropy", "margin", "own", "issue")}
    return pd.DataFrame(
        {"image_id": taught["ids"].astype(object), "predicted": names[taught["predicted"]], "label": names[taught["label"]], **plain}
    )


def _answers_path(dataset_id: int) -> Path:
    return embed.home(dataset_id) / "answers.npz"


@roles.needs("see")
def suggest(dataset_id: int, least: float, label: str | None = None) -> dict[str, list[str]]:
    """Unlabelled images by the class the head is at least this confident of, surest first; a label asks for that class alone.

    None of the test split, whose labels people give.
    """
    found = answers(dataset_id)
    if found is None:
        return {}
    carried = store.carried(dataset_id)
    known = {name for name in store.get_dataset(dataset_id).classes if label in (None, name)}
    rows = found[(found["confidence"] >= least) & found["predicted"].isin(known)].sort_values("confidence", ascending=False, kind="stable")
    suggested: dict[str, list[str]] = {}
    for image_id, predicted in zip(rows["image_id"], rows["predicted"], strict=True):
        one = carried.get(image_id)
        if one is not None and one.label is None and one.split != "test":
            suggested.setdefault(predicted, []).append(image_id)
    return suggested


@roles.needs("see")
def imported_predictions(dataset_id: int, ids: Sequence[str]) -> pd.DataFrame:
    """The likeliest prediction that came with an import for each of the images: image_id, predicted, confidence (may be NaN)."""
    import pandas as pd

    rows = [(image_id, name, score) for image_id, _, name, score in store.imported_predictions(dataset_id, ids)]
    found = pd.DataFrame(rows, columns=["image_id", "predicted", "confidence"]).astype({"confidence": float})
    return found.sort_values("confidence", ascending=False).drop_duplicates("image_id")
