"""Where a dataset's images lie as a network sees them: the map, clusters, near duplicates, quality."""

from __future__ import annotations

import contextlib
import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from core import processes, roles
from core.data import removed, store
from core.data.store import Filter
from core.errors import Invalid, NotFound
from core.runs import cluster, jobs, launch, remote, runs
from core.settings import settings
from core.types import Progress

CLUSTERINGS = {"k-means": "k-means", "hdbscan": "HDBSCAN"}
RESULT = "embedding.npz"
APART, PARTLY_APART = 0.5, 0.25  # silhouette (Kaufman and Rousseeuw 1990)


# Embedding in the background: a folder and a command line, as imports and exports have them ---------


@roles.needs("label")
def start(dataset_id: int, by: str, arranged: bool = True) -> str:
    """Starts an embedding that outlives the page and the server, and returns its id; that of the running one if there is one.

    arranged: with the map. Who does not ask for it need not wait: of 600 photos on two cores it is the larger part of the second look.
    """
    dataset = store.get_dataset(dataset_id)
    if dataset.deleted_at:
        raise NotFound(f"The dataset “{dataset.name}” was deleted.", "Restore it on the Dataset page first.")
    if not sum(n for _, _, n in store.counts(dataset_id)):
        raise Invalid(f"The dataset “{dataset.name}” holds no images.", "Add images first.")
    return jobs.start_one(home(dataset_id), EMBED, {"dataset_id": dataset_id, "by": by, "arranged": arranged}, RESULT)


def expect() -> None:
    """Makes ready for somebody who is about to ask for an embedding: it then begins 4 to 5 s sooner."""
    launch.expect_run()


def _work(folder: Path, job: jobs.Line, progress: Progress) -> jobs.Line:
    from core.ml.embed import embed, unseen

    write_list(folder, job["dataset_id"])
    if settings().ray_address:
        given, left = unseen(folder, job["dataset_id"], cluster.takes)
        done = 0
        for rows in cluster.answers(folder / "nodes", remote.embed.look_at, given, left):
            progress(done := done + len(rows), len(left), "Looking at images")
    arranged = job.get("arranged", True)
    embedded, unreadable = embed(folder, job["dataset_id"], progress, arranged)
    if arranged:  # what the map opens with, for which nobody is to wait: 2 s of 4,000 images
        path = folder / RESULT
        for method in CLUSTERINGS:
            _sureness(path, path.stat().st_mtime_ns, method, usual_size(job["dataset_id"], method, embedded), _called)
    return {"images": embedded, "unreadable": unreadable}


def _called(function: Callable[..., Any], *args: Any) -> Any:
    """In this process, which is a job's and may load torch."""
    return function(*args)


EMBED = jobs.Kind("embed", "embedding", "What is done is kept: start it again to go on.", _work)


def write_list(folder: Path, dataset_id: int) -> None:
    """The dataset's images as the job's images.csv."""
    with open(folder / "images.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows((i.id, i.path, i.split, i.width, i.height) for i in store.all_images(dataset_id))


@roles.needs("see")
def state(dataset_id: int) -> jobs.State | None:
    """The dataset's newest embedding, finished or not."""
    found = jobs.newest(home(dataset_id), EMBED)
    if found is None or found.status != "done":
        return found
    done, bad = found.end["images"], found.end["unreadable"]
    found = replace(found, done=done, total=done + bad, what="")
    if not bad:
        return found
    what = "1 image could not be read and is" if bad == 1 else f"{bad:,} images could not be read and are"
    return replace(found, message=f"{what} left out.", hint="Their files are damaged or gone: import them again.")


@roles.needs("label")
def stop(dataset_id: int) -> None:
    """Asks the running embedding to end; what it has looked at is kept."""
    for folder in jobs.folders(home(dataset_id))[-1:]:
        runs.request_stop(folder)


def running() -> list[jobs.State]:
    """The embeddings that are being made, of all datasets that who acts may see."""
    found = jobs.running((path.parent for path in settings().embeddings.glob(f"*/[!.]*/{processes.HANDLE}")), EMBED)
    return [one for one in found if roles.current().may("see", one.job["dataset_id"])]


def home(dataset_id: int) -> Path:
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
    arranged: bool = True  # xy is a map, and not only the two main axes


@roles.needs("see")
def latest(dataset_id: int) -> Embedding | None:
    """The newest finished embedding."""
    path = _newest(dataset_id)
    return None if path is None else _embedding(path, path.stat().st_mtime_ns)


def _newest(dataset_id: int) -> Path | None:
    return next((path for folder in reversed(jobs.folders(home(dataset_id))) if (path := folder / RESULT).exists()), None)


@lru_cache(maxsize=4)
def _embedding(path: Path, mtime_ns: int) -> Embedding:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in ("ids", "xy", "brightness", "sharpness", "oddness", "group")}
        arranged = "arranged" not in stored or bool(stored["arranged"])  # before there was a choice it was always
        return Embedding(id=path.parent.name, unreadable=frozenset(stored["unreadable"].tolist()), arranged=arranged, **arrays)


@roles.needs("see")
def missing(dataset_id: int) -> int:
    """How many readable images came after the newest finished embedding."""
    found = latest(dataset_id)
    if found is None:
        return store.count(dataset_id, Filter())
    return _compared(dataset_id, found, _set_of(dataset_id))[0]


@roles.needs("see")
def still_here(dataset_id: int, found: Embedding) -> np.ndarray:
    """(N,) bool: which of its images are in the dataset, and were not removed since."""
    return _compared(dataset_id, found, _set_of(dataset_id))[1]


def _set_of(dataset_id: int) -> tuple[int, str, int]:
    """The same as long as no image comes or goes."""
    return (*store.version(dataset_id)[1:], removed.newest(dataset_id))


@lru_cache(maxsize=4)
def _compared(dataset_id: int, found: Embedding, version: tuple[int, str, int]) -> tuple[int, np.ndarray]:
    """How many images came after it, and which of its own are there; kept as long as no image comes or goes: of a million it takes 3 s."""
    here = set(store.ids(dataset_id, Filter()))
    ids = found.ids.tolist()
    return len(here - set(ids) - found.unreadable), np.fromiter((i in here for i in ids), bool, len(ids))


@roles.needs("see")
def usual_size(dataset_id: int, method: str, images: int) -> int:
    """What the map begins with: of k-means one cluster for each class, of HDBSCAN the smallest cluster's images."""
    if method == "hdbscan":
        return max(2, min(4 * most_clusters(images), 15))
    return max(2, min(most_clusters(images), len(store.get_dataset(dataset_id).classes) or 6))


def most_clusters(images: int) -> int:
    return max(2, min(60, images // 2))


@roles.needs("see")
def clusters(dataset_id: int, method: str, size: int) -> np.ndarray:
    """The cluster of each image of the newest embedding, the largest is 0; -1: in none. The model worker computes it once."""
    if method not in CLUSTERINGS:
        raise Invalid(f"“{method}” is not a way to cluster.", f"Choose one of: {', '.join(CLUSTERINGS)}.")
    if not 2 <= size <= 1000:
        raise Invalid(f"The size of clusters is {size}.", "Use a whole number from 2 to 1000.")
    path = needed(dataset_id)
    if method == "hdbscan" and not _embedding(path, path.stat().st_mtime_ns).arranged:
        raise Invalid("HDBSCAN finds groups on the map, which is not arranged yet.", "Open the map on the Label page, or take k-means.")
    return _clusters(path, path.stat().st_mtime_ns, method, size)


@lru_cache(maxsize=16)
def _clusters(path: Path, mtime_ns: int, method: str, size: int, ask: Callable[..., Any] | None = None) -> np.ndarray:
    """Kept beside the embedding: after a start of the server the map does not wait for the model worker."""
    stored = path.with_name(f"clusters-{mtime_ns:x}-{method}-{size}.npy")
    with contextlib.suppress(FileNotFoundError, ValueError, EOFError):
        kept: np.ndarray = np.load(stored, allow_pickle=False)
        return kept
    found: np.ndarray = (ask or launch.ask)(remote.embed.clusters, str(path.parent), method, size)

    def write(tmp: Path) -> None:
        with open(tmp, "wb") as f:
            np.save(f, found)

    runs.write_atomically(stored, write)
    return found


@roles.needs("see")
def sureness(dataset_id: int, method: str, size: int) -> str:
    """How the clusters were found and how clear they are, in a sentence."""
    found, path = clusters(dataset_id, method, size), needed(dataset_id)
    facts = _sureness(path, path.stat().st_mtime_ns, method, size)
    found = found[still_here(dataset_id, _embedding(path, path.stat().st_mtime_ns))]
    groups, inside = len(np.unique(found[found >= 0])), int((found >= 0).sum())
    how = "k-means on what the network sees" if method == "k-means" else "HDBSCAN on the map"
    said = f"{how}: {inside:,} of {len(found):,} images in {groups:,} cluster{'s' * (groups != 1)}."
    if (clear := facts["silhouette"]) is None:
        return f"{said} How sure they are cannot be said of so few."
    word = "clearly apart" if clear >= APART else "partly apart" if clear >= PARTLY_APART else "run into one another"
    said += f" They {'are ' * (clear >= PARTLY_APART)}{word}: silhouette {clear:.2f} (1 apart, 0 no border; n = {facts['n']:,})"
    if facts["agreement"] is None:
        return f"{said}."
    return f"{said}; found anew from another beginning they agree by {facts['agreement']:.2f} (adjusted Rand index, 1 the same)."


@lru_cache(maxsize=16)
def _sureness(path: Path, mtime_ns: int, method: str, size: int, ask: Callable[..., Any] | None = None) -> dict[str, Any]:
    stored = path.with_name(f"clusters-{mtime_ns:x}-{method}-{size}.json")
    with contextlib.suppress(FileNotFoundError, ValueError):
        kept: dict[str, Any] = runs.read_json(stored)
        return kept
    found: dict[str, Any] = (ask or launch.ask)(
        remote.embed.sureness, str(path.parent), method, _clusters(path, mtime_ns, method, size, ask)
    )
    runs.write_json(stored, found)
    return found


@roles.needs("see")
def needed(dataset_id: int) -> Path:
    path = _newest(dataset_id)
    if path is None:
        raise Invalid("Loupe has not looked at the images of this dataset yet.", "Make the map first, on the Label page.")
    return path


@roles.needs("see")
def crossing(dataset_id: int) -> int:
    """How many groups of near duplicates lie in more than one split: test images that training has seen, almost."""
    found = latest(dataset_id)
    if found is None:
        return 0
    return sum(len(splits) > 1 for splits in splits_of_groups(dataset_id, found).values())


@roles.needs("see")
def splits_of_groups(dataset_id: int, found: Embedding) -> dict[int, set[str]]:
    """The splits of each group of near duplicates of which two images are still there."""
    group = dict(zip(found.ids[found.group >= 0].tolist(), found.group[found.group >= 0].tolist(), strict=True))
    here = store.splits(dataset_id, list(group))
    n = Counter(group[i] for i in here)
    splits: dict[int, set[str]] = {}
    for i, split in here.items():
        if n[group[i]] > 1:
            splits.setdefault(group[i], set()).add(split)
    return splits
