"""Where a network is worse than elsewhere: its answers by class, folder, image size, brightness and flag."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from core.data import images, store
from core.errors import NotFound
from core.evaluate.evaluate import kept_with_it
from core.label import embed
from core.metrics import TOO_FEW, wilson
from core.settings import settings
from core.types import Evaluation, Image, Interval

KINDS = {
    "class": "What the images are, by their label.",
    "folder": "The folder the images came from; a folder named like a class is left off.",
    "image size": "Four parts of about equally many images, by width × height in pixels.",
    "brightness": "Four parts of about equally many images, by their mean brightness: 0% is black, 100% white.",
    "flag": "Images that somebody has flagged, against the others.",
    "split": "Validation images against test images.",
}
MOST_FOLDERS = 40  # with more of them, the folders above
MOST_MEASURED = 5000  # images whose brightness is taken from their thumbnails, 2 s; of more, only where Loupe has looked at all images


@dataclass(frozen=True, eq=False)
class Slice:
    """Some of the images that were judged, beside all the others."""

    kind: str
    name: str
    ids: tuple[str, ...]
    right: int
    accuracy: Interval
    difference: Interval | None  # their accuracy less that of the others; None where there are no others

    @property
    def n(self) -> int:
        return len(self.ids)


def difference(right_a: int, n_a: int, right_b: int, n_b: int) -> Interval | None:
    """Share of A less share of B with its 95 % interval; None where either has no images.

    Newcombe 1998, Interval estimation for the difference between independent proportions, Statistics in Medicine 17:873, method 10.
    """
    a, b = wilson(right_a, n_a), wilson(right_b, n_b)
    if a is None or b is None:
        return None
    value = a.value - b.value
    low = value - float(np.hypot(a.value - a.low, b.high - b.value))
    high = value + float(np.hypot(a.high - a.value, b.value - b.low))
    return Interval(value, max(-1.0, low), min(1.0, high))


@kept_with_it
def slices(e: Evaluation, dataset_id: int, other: Evaluation | None = None) -> tuple[Slice, ...]:
    """Every slice of the images, the worst first; fewer than 30 images are a count and come last.

    other: the evaluation of another split, for the slices by split.
    """
    import pandas as pd

    ids = e.rows["image_id"].to_numpy(object)
    right = (e.rows["true"] == e.rows["predicted"]).to_numpy(bool)
    found = []
    for kind, names in _names(e, dataset_id, list(ids)):
        places, titles = pd.factorize(np.array(names, object))  # -1: in none
        order = np.argsort(places, kind="stable")
        ends = np.searchsorted(places[order], np.arange(len(titles) + 1))
        for title, first, last in zip(titles, ends[:-1], ends[1:], strict=True):
            inside, rest = order[first:last], np.concatenate([order[:first], order[last:]])
            found.append(_slice(kind, title, ids[inside], right[inside], right[rest]))
    if other is not None:
        others = (other.rows["true"] == other.rows["predicted"]).to_numpy(bool)
        found.append(_slice("split", e.split, ids, right, others))
        found.append(_slice("split", other.split, other.rows["image_id"].to_numpy(object), others, right))
    return tuple(sorted(found, key=lambda one: (one.n < TOO_FEW, one.difference.value if one.difference else 0.0)))


def _slice(kind: str, name: str, ids: np.ndarray, right: np.ndarray, others: np.ndarray) -> Slice:
    hits = int(right.sum())
    accuracy = wilson(hits, len(right))
    assert accuracy is not None
    return Slice(kind, name, tuple(ids), hits, accuracy, difference(hits, len(right), int(others.sum()), len(others)))


def _names(e: Evaluation, dataset_id: int, ids: list[str]) -> Iterator[tuple[str, list[str | None]]]:
    """Kind, and the name of each image's slice (None: in none); only kinds that tell images apart."""
    yield "class", list(e.rows["true"])
    held = {i.id: i for i in store.get_images(dataset_id, ids)}
    found = [held.get(i) for i in ids]
    folders = _folders(found, set(e.classes))
    sizes = _quarters([i.width * i.height if i else np.nan for i in found], lambda low, high: f"{low:,.0f}–{high:,.0f} pixels")
    bright = _quarters(_brightness(dataset_id, found), lambda low, high: f"brightness {100 * low:.0f}–{100 * high:.0f}%")
    flags = ["flagged" if i and i.flagged else "not flagged" if i else None for i in found]
    for kind, names in (("folder", folders), ("image size", sizes), ("brightness", bright), ("flag", flags)):
        if len({name for name in names if name is not None}) > 1:
            yield kind, names


def _folders(found: list[Image | None], classes: set[str]) -> list[str | None]:
    """The folder of each image, without a last one that only repeats a class."""

    def parts(image: Image) -> tuple[str, ...]:
        *folder, _ = image.source.split("/")
        return tuple(folder[:-1] if folder and folder[-1] in classes else folder)

    paths = [None if i is None else parts(i) for i in found]
    for depth in range(max((len(p) for p in paths if p is not None), default=0), 0, -1):
        names = [None if p is None else "/".join(p[:depth]) or "(no folder)" for p in paths]
        if depth == 1 or len(set(names)) <= MOST_FOLDERS:
            return names
    return [None] * len(found)


def _quarters(values: Iterable[float], title: Callable[[float, float], str]) -> list[str | None]:
    """Which quarter each value lies in; equal values share one, and what is no number is in none."""
    array = np.fromiter(values, float)
    valid = np.isfinite(array)
    if not valid.any():
        return [None] * len(array)
    edges = np.unique(np.quantile(array[valid], (0.25, 0.5, 0.75)))
    places = np.searchsorted(edges, array)
    titles = {p: title(array[valid & (places == p)].min(), array[valid & (places == p)].max()) for p in np.unique(places[valid])}
    return [titles[p] if ok else None for p, ok in zip(places, valid, strict=True)]


def _brightness(dataset_id: int, found: list[Image | None]) -> list[float]:
    """Mean brightness, 0 black to 1 white: as measured when Loupe looked at all images, else of the thumbnails of not too many."""
    looked = embed.latest(dataset_id)
    if looked is not None:
        known = dict(zip(looked.ids.tolist(), looked.brightness.tolist(), strict=True))
        return [np.nan if i is None else known.get(i.id, np.nan) for i in found]
    if len(found) > MOST_MEASURED:
        return [np.nan] * len(found)
    pack = images.ThumbPack(settings().thumbs, dataset_id)

    def measured(image: Image) -> float:
        try:
            return images.brightness(pack.read(image.thumb_offset, image.thumb_size))
        except (OSError, NotFound):  # no thumbnail, or none that can be read
            return np.nan

    return [np.nan if i is None else measured(i) for i in found]
