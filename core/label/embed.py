"""Where a dataset's images lie and what a head on top has learned: the map, clusters, near duplicates, quality, "Teach me", orders."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from filelock import FileLock

from core.data import events, labels, store
from core.data.store import Carried, Filter
from core.errors import Invalid, NotFound
from core.metrics import wilson
from core.runs import jobs, launch, remote, runs
from core.settings import settings
from core.types import SPLITS, Interval, Progress, now

CLUSTERINGS: dict[str, tuple[str, str]] = {  # title, and what size means
    "k-means": ("A number of clusters", "Every image belongs to one of this many clusters."),
    "hdbscan": ("Dense groups", "The smallest number of images that make a group; what lies between groups is in none."),
}
SURE = 0.95
RESULT = "embedding.npz"


# Embedding in the background: a folder and a command line, as imports and exports have them ---------


def start(dataset_id: int, by: str) -> str:
    """Starts an embedding that outlives the page and the server, and returns its id; that of the running one if there is one."""
    dataset = store.get_dataset(dataset_id)
    if dataset.deleted_at:
        raise NotFound(f"The dataset “{dataset.name}” was deleted.", "Restore it on the Dataset page first.")
    if not sum(n for _, _, n in store.counts(dataset_id)):
        raise Invalid(f"The dataset “{dataset.name}” holds no images.", "Add images first.")
    return jobs.start_one(_home(dataset_id), EMBED, {"dataset_id": dataset_id, "by": by}, RESULT)


def _work(folder: Path, job: jobs.Line, progress: Progress) -> jobs.Line:
    from core.ml.embed import embed

    write_list(folder, job["dataset_id"])
    embedded, unreadable = embed(folder, job["dataset_id"], progress)
    return {"images": embedded, "unreadable": unreadable}


EMBED = jobs.Kind("embed", "embedding", "What is done is kept: start it again to go on.", _work)


def write_list(folder: Path, dataset_id: int) -> None:
    """The dataset's images as the job's images.csv."""
    with open(folder / "images.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows((i.id, i.path, i.split, i.width, i.height) for i in store.all_images(dataset_id))


def state(dataset_id: int) -> jobs.State | None:
    """The dataset's newest embedding, finished or not."""
    found = jobs.newest(_home(dataset_id), EMBED)
    if found is None or found.status != "done":
        return found
    done, bad = found.end["images"], found.end["unreadable"]
    found = replace(found, done=done, total=done + bad, what="")
    if not bad:
        return found
    what = "1 image could not be read and is" if bad == 1 else f"{bad:,} images could not be read and are"
    return replace(found, message=f"{what} left out.", hint="Their files are damaged or gone: import them again.")


def stop(dataset_id: int) -> None:
    """Asks the running embedding to end; what it has looked at is kept."""
    for folder in jobs.folders(_home(dataset_id))[-1:]:
        runs.request_stop(folder)


def running() -> list[jobs.State]:
    """The embeddings of all datasets that are being made."""
    return jobs.running((path.parent for path in settings().embeddings.glob("*/[!.]*/handle.json")), EMBED)


def _home(dataset_id: int) -> Path:
    return settings().embeddings / str(dataset_id)


# What it found ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Embedding:
    """One place per image: row i of every array is that of ids[i]."""

    id: str
    ids: np.ndarray  # (N,) str
    xy: np.ndarray  # (N, 2) float32 in 0..1: alike is near
    brightness: np.ndarray  # (N,) float32, 0 black, 1 white
    sharpness: np.ndarray  # (N,) float32, the variance of the Laplacian; small is blurred
    oddness: np.ndarray  # (N,) float32: how many times a side is twice, or half, the usual one
    group: np.ndarray  # (N,) int32: near duplicates share a number; -1: none
    unreadable: frozenset[str]  # ids of images that were left out


def latest(dataset_id: int) -> Embedding | None:
    """The newest finished embedding."""
    path = _newest(dataset_id)
    return None if path is None else _embedding(path, path.stat().st_mtime_ns)


def _newest(dataset_id: int) -> Path | None:
    return next((path for folder in reversed(jobs.folders(_home(dataset_id))) if (path := folder / RESULT).exists()), None)


@lru_cache(maxsize=4)
def _embedding(path: Path, mtime_ns: int) -> Embedding:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in ("ids", "xy", "brightness", "sharpness", "oddness", "group")}
        return Embedding(id=path.parent.name, unreadable=frozenset(stored["unreadable"].tolist()), **arrays)


def missing(dataset_id: int) -> int:
    """How many readable images came after the newest finished embedding."""
    found = latest(dataset_id)
    here = store.carried(dataset_id).keys()
    return len(here) if found is None else len(here - set(found.ids.tolist()) - found.unreadable)


def clusters(dataset_id: int, method: str, size: int) -> np.ndarray:
    """The cluster of each image of the newest embedding, the largest is 0; -1: in none. The model worker computes it once."""
    if method not in CLUSTERINGS:
        raise Invalid(f"“{method}” is not a way to cluster.", f"Choose one of: {', '.join(CLUSTERINGS)}.")
    if not 2 <= size <= 1000:
        raise Invalid(f"The size of clusters is {size}.", "Use a whole number from 2 to 1000.")
    path = _needed(dataset_id)
    return _clusters(path, path.stat().st_mtime_ns, method, size)


@lru_cache(maxsize=16)
def _clusters(path: Path, mtime_ns: int, method: str, size: int) -> np.ndarray:
    return launch.ask(remote.embed.clusters, str(path.parent), method, size)


def _needed(dataset_id: int) -> Path:
    path = _newest(dataset_id)
    if path is None:
        raise Invalid("Loupe has not looked at the images of this dataset yet.", "Make the map first, on the Label page.")
    return path


def crossing(dataset_id: int) -> int:
    """How many groups of near duplicates lie in more than one split: test images that training has seen, almost."""
    found = latest(dataset_id)
    if found is None:
        return 0
    return sum(len(splits) > 1 for splits in _splits_of_groups(found, store.carried(dataset_id)).values())


def _splits_of_groups(found: Embedding, carried: dict[str, Carried]) -> dict[int, set[str]]:
    splits: dict[int, set[str]] = {}
    for i in np.flatnonzero(found.group >= 0).tolist():
        if (one := carried.get(str(found.ids[i]))) is not None:
            splits.setdefault(int(found.group[i]), set()).add(one.split)
    return splits


# Teach me -----------------------------------------------------------------------------------------


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


def teach(dataset_id: int, by: str) -> Lesson:
    """Learns from today's labels and answers for every image of the newest embedding; Invalid if there are too few labels.

    Labels that were the model's own answers are learned from, but say nothing of how good it is.
    """
    _home(dataset_id).mkdir(parents=True, exist_ok=True)
    with FileLock(_home(dataset_id) / "teach.lock"):  # one at a time, in all threads and processes
        path, at, before = _needed(dataset_id), now(), answers(dataset_id)
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
        runs.append_line(_home(dataset_id), asdict(lesson))
        return lesson


def lessons(dataset_id: int) -> list[Lesson]:
    """Every lesson of the dataset, oldest first; a new embedding does not end the list."""
    return [Lesson(**line) for line in runs.read_lines(_home(dataset_id))[0]]


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
    taught, names = _taught(path, mtime_ns), np.array([*classes, None], object)  # the last place is that of -1
    plain = {name: taught[name] for name in ("confidence", "entropy", "margin", "own", "issue")}
    return pd.DataFrame(
        {"image_id": taught["ids"].astype(object), "predicted": names[taught["predicted"]], "label": names[taught["label"]], **plain}
    )


def _answers_path(dataset_id: int) -> Path:
    return _home(dataset_id) / "answers.npz"


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


# Orders -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    title: str
    help: str
    needs: Literal["", "embedding", "lesson"] = ""


ORDERS: dict[str, Order] = {
    "added": Order("As they came", "The images in the order in which they were added."),
    "entropy": Order("Least certain: entropy", "First the images for which most classes seem possible.", "lesson"),
    "margin": Order("Least certain: margin", "First the images whose two likeliest classes are nearly as likely.", "lesson"),
    "least-confidence": Order("Least certain: confidence", "First the images whose likeliest class is the least likely.", "lesson"),
    "surest": Order("Surest first", "First the images whose answer is the most certain: quick to check.", "lesson"),
    "likely-wrong": Order("Labels likely wrong", "Only labelled images whose label the others contradict, the worst first.", "lesson"),
    "near-duplicates": Order("Near duplicates", "Only images that are nearly the same as another one, group by group.", "embedding"),
    "darkest": Order("Darkest first", "First the images that are darkest on average.", "embedding"),
    "brightest": Order("Brightest first", "First the images that are brightest on average.", "embedding"),
    "blurred": Order("Most blurred first", "First the images with the least detail.", "embedding"),
    "odd-sized": Order("Odd sizes first", "First the images whose width or height differs most from the usual.", "embedding"),
}


@dataclass(frozen=True)
class Ordered:
    ids: list[str]
    notes: dict[str, str]  # a short sentence by image id, where there is something to say


def order(dataset_id: int, name: str, want: Filter) -> Ordered:
    """The wanted images in an order of ORDERS; what has no place in it comes last, as it came."""
    if name not in ORDERS:
        raise Invalid(f"“{name}” is not an order of images.", f"Choose one of: {', '.join(ORDERS)}.")
    carried = store.carried(dataset_id)
    wanted = _wanted(dataset_id, want, carried)
    if ORDERS[name].needs == "embedding":
        _needed(dataset_id)
        found = latest(dataset_id)
        assert found is not None
        return _duplicates(found, wanted, carried) if name == "near-duplicates" else _by_quality(found, name, wanted)
    if ORDERS[name].needs == "lesson":
        taught = answers(dataset_id)
        if taught is None:
            raise Invalid("Loupe has learned nothing from this dataset yet.", "Label a few images of two classes and press Teach me.")
        return _suspects(taught, wanted, carried) if name == "likely-wrong" else _by_certainty(taught, name, wanted, carried)
    return Ordered(wanted, {})


def _wanted(dataset_id: int, want: Filter, carried: dict[str, Carried]) -> list[str]:
    if want.text:  # of a name that is not carried
        return [image.id for image in store.browse(dataset_id, want, 0, len(carried))]
    asked = (want.label, want.split or None, want.labelled, want.flagged)
    here = ((i, (one.label, one.split, one.label is not None, one.flagged)) for i, one in carried.items())
    return [i for i, has in here if all(a is None or a == h for a, h in zip(asked, has, strict=True))]


def _ranked(ids: list[str], key: np.ndarray, wanted: list[str], note: Callable[[int], str]) -> Ordered:
    """The wanted images by the key of their row of ids, smallest first; those without a row last."""
    row = {i: n for n, i in enumerate(ids)}
    rows = [row.get(i, -1) for i in wanted]
    places = np.array(rows, np.int64)
    ordered = np.argsort(np.where(places >= 0, key[places], np.inf), kind="stable")
    return Ordered([wanted[n] for n in ordered.tolist()], {i: note(n) for i, n in zip(wanted, rows, strict=True) if n >= 0})


def _by_quality(found: Embedding, name: str, wanted: list[str]) -> Ordered:
    ids = found.ids.tolist()
    if name == "blurred":
        sharp = found.sharpness.tolist()
        return _ranked(ids, found.sharpness, wanted, lambda n: f"sharpness {1e4 * sharp[n]:,.0f}")
    if name == "odd-sized":
        times = (2.0**found.oddness).tolist()
        return _ranked(ids, -found.oddness, wanted, lambda n: f"a side {times[n]:.1f} × off the usual")
    bright = found.brightness.tolist()
    return _ranked(ids, found.brightness if name == "darkest" else -found.brightness, wanted, lambda n: f"brightness {_percent(bright[n])}")


def _duplicates(found: Embedding, wanted: list[str], carried: dict[str, Carried]) -> Ordered:
    group = {i: g for i, g in zip(found.ids.tolist(), found.group.tolist(), strict=True) if g >= 0}
    splits = _splits_of_groups(found, carried)

    def note(g: int) -> str:
        crossed = [s for s in SPLITS if s in splits[g]]
        return f"group {g + 1}" + (f", in {' and '.join(crossed)}" if len(crossed) > 1 else "")

    ids = sorted((i for i in wanted if i in group), key=group.__getitem__)
    return Ordered(ids, {i: note(group[i]) for i in ids})


def _by_certainty(taught: pd.DataFrame, name: str, wanted: list[str], carried: dict[str, Carried]) -> Ordered:
    column, sign = {
        "entropy": ("entropy", -1),
        "margin": ("margin", 1),
        "least-confidence": ("confidence", 1),
        "surest": ("confidence", -1),
    }[name]
    predicted, confidence = taught["predicted"].tolist(), taught["confidence"].tolist()
    key = sign * taught[column].to_numpy()
    return _ranked(taught["image_id"].tolist(), key, wanted, lambda n: f"model: {predicted[n]} {_percent(confidence[n])}")


def _suspects(taught: pd.DataFrame, wanted: list[str], carried: dict[str, Carried]) -> Ordered:
    allowed = set(wanted)
    suspect = taught[taught["issue"]].sort_values("own", kind="stable")
    columns = (suspect[name].tolist() for name in ("image_id", "predicted", "confidence", "label", "own"))
    notes = {
        i: f"model: {predicted} {_percent(confidence)}, label {label} {_percent(own)}"
        for i, predicted, confidence, label, own in zip(*columns, strict=True)
        if i in allowed and carried[i].label == label  # else somebody has corrected it since
    }
    return Ordered(list(notes), notes)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def imported_predictions(dataset_id: int, ids: Sequence[str]) -> pd.DataFrame:
    """The likeliest prediction that came with an import for each of the images: image_id, predicted, confidence (may be NaN)."""
    rows = [(image_id, name, score) for image_id, _, name, score in store.imported_predictions(dataset_id, ids)]
    found = pd.DataFrame(rows, columns=["image_id", "predicted", "confidence"]).astype({"confidence": float})
    return found.sort_values("confidence", ascending=False).drop_duplicates("image_id")
