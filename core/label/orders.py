"""Orders in which images are worth looking at: least certain, likely wrong, near duplicates, odd quality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from core import roles
from core.data import alike, store
from core.data.store import Carried, Filter
from core.errors import Invalid
from core.label import embed, teach
from core.types import SPLITS

if TYPE_CHECKING:
    import pandas as pd


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
    "likely-wrong": Order(
        "Labels likely wrong",
        "Only labelled images whose label the others contradict, the worst first: what was learned without an image’s own label holds "
        "another class likelier (confident learning). Of labels changed on purpose about four in five were found; of those named up to "
        "one in five is right after all.",
        "lesson",
    ),
    "near-duplicates": Order(
        "Near duplicates",
        "Only images that are nearly the same as another one, group by group: the network sees them alike (cosine above 0.8), and their "
        "small grey pictures correlate by 0.9 or more. Copies that were smaller, cut, brighter or JPEG were all found; mirrored or turned "
        "ones are not, and of very similar pictures a few are no copies.",
        "embedding",
    ),
    "darkest": Order("Darkest first", "First the images that are darkest on average.", "embedding"),
    "brightest": Order("Brightest first", "First the images that are brightest on average.", "embedding"),
    "blurred": Order("Most blurred first", "First the images with the least detail.", "embedding"),
    "odd-sized": Order("Odd sizes first", "First the images whose width or height differs most from the usual.", "embedding"),
}


@dataclass(frozen=True)
class Ordered:
    ids: list[str]
    notes: dict[str, str]  # a short sentence by image id, where there is something to say
    total: int  # images in the order: more than the ids, where only the first were asked for


@roles.needs("see")
def order(dataset_id: int, name: str, want: Filter, most: int | None = None) -> Ordered:
    """The wanted images in an order of ORDERS; what has no place in it comes last, as it came.

    most: of images as they came, no more than the first ones, which the database has at once; any other order takes all images to make.
    """
    if name not in ORDERS:
        raise Invalid(f"“{name}” is not an order of images.", f"Choose one of: {', '.join(ORDERS)}.")
    if not ORDERS[name].needs:
        ids = store.ids(dataset_id, want, most)
        return Ordered(ids, {}, len(ids) if most is None else store.count(dataset_id, want))
    carried = store.carried(dataset_id)
    wanted = _wanted(dataset_id, want, carried)
    if ORDERS[name].needs == "embedding":
        embed.needed(dataset_id)
        found = embed.latest(dataset_id)
        assert found is not None
        return _duplicates(found, wanted, carried) if name == "near-duplicates" else _by_quality(found, name, wanted)
    taught = teach.answers(dataset_id)
    if taught is None:
        raise Invalid("Loupe has learned nothing from this dataset yet.", "Label a few images of two classes and press Teach me.")
    return _suspects(taught, wanted, carried) if name == "likely-wrong" else _by_certainty(taught, name, wanted, carried)


@roles.needs("see")
def sureness(dataset_id: int, name: str) -> str:
    """How what an order names was found, of how many, and how sure that is; "" for an order that names nothing."""
    if name == "likely-wrong" and (taught := teach.answers(dataset_id)) is not None:
        carried = store.carried(dataset_id)
        judged = taught[taught["own"].notna()]
        named = judged[judged["issue"]]
        still = sum(i in carried and carried[i].label == label for i, label in zip(named["image_id"], named["label"], strict=True))
        said = f"Found by confident learning: {still:,} of {len(judged):,} labels that were judged, each by a model that had not seen it."
        lessons = teach.lessons(dataset_id)
        if lessons and (share := lessons[-1].accuracy) is not None:
            how = "validation images" if lessons[-1].how == "validation" else "images, by cross-validation"
            said += f" That model is right on {share.value:.0%} of {lessons[-1].n:,} labelled {how} ({share.low:.0%} to {share.high:.0%})."
        return f"{said} Where labels were changed on purpose, three to four in five of those named were wrong."
    if name == "near-duplicates" and (found := embed.latest(dataset_id)) is not None:
        groups = len(np.unique(found.group[found.group >= 0]))
        early = alike.groups(dataset_id)
        return (
            f"Found by the network (cosine above 0.8) and by small grey pictures (correlation of {alike.SAME_PIXELS:g} or more, and well above "
            f"what is usual here): {int((found.group >= 0).sum()):,} of {len(found.ids):,} images in {groups:,} group{'s' * (groups != 1)}. "
            f"By the grey pictures alone, mirrored ones too, the import found {len(early):,} in {len(set(early.values())):,}: these share a split. "
            "Of copies made on purpose all were found; among 600 photos of cats and dogs none was named that is no copy."
        )
    return ""


def _wanted(dataset_id: int, want: Filter, carried: dict[str, Carried]) -> list[str]:
    if want.text:  # of a name that is not carried
        return store.ids(dataset_id, want)
    asked = (want.label, want.split or None, want.labelled, want.flagged)
    here = ((i, (one.label, one.split, one.label is not None, one.flagged)) for i, one in carried.items())
    return [i for i, has in here if all(a is None or a == h for a, h in zip(asked, has, strict=True))]


def _ranked(ids: list[str], key: np.ndarray, wanted: list[str], note: Callable[[int], str]) -> Ordered:
    """The wanted images by the key of their row of ids, smallest first; those without a row last."""
    row = {i: n for n, i in enumerate(ids)}
    rows = [row.get(i, -1) for i in wanted]
    places = np.array(rows, np.int64)
    ordered = np.argsort(np.where(places >= 0, key[places], np.inf), kind="stable")
    return Ordered([wanted[n] for n in ordered.tolist()], {i: note(n) for i, n in zip(wanted, rows, strict=True) if n >= 0}, len(wanted))


def _by_quality(found: embed.Embedding, name: str, wanted: list[str]) -> Ordered:
    ids = found.ids.tolist()
    if name == "blurred":
        sharp = found.sharpness.tolist()
        return _ranked(ids, found.sharpness, wanted, lambda n: f"sharpness {1e4 * sharp[n]:,.0f}")
    if name == "odd-sized":
        times = (2.0**found.oddness).tolist()
        return _ranked(ids, -found.oddness, wanted, lambda n: f"a side {times[n]:.1f} × off the usual")
    bright = found.brightness.tolist()
    return _ranked(ids, found.brightness if name == "darkest" else -found.brightness, wanted, lambda n: f"brightness {_percent(bright[n])}")


def _duplicates(found: embed.Embedding, wanted: list[str], carried: dict[str, Carried]) -> Ordered:
    group = {i: g for i, g in zip(found.ids.tolist(), found.group.tolist(), strict=True) if g >= 0}
    splits = embed.splits_of_groups(found, carried)

    def note(g: int) -> str:
        crossed = [s for s in SPLITS if s in splits[g]]
        return f"group {g + 1}" + (f", in {' and '.join(crossed)}" if len(crossed) > 1 else "")

    ids = sorted((i for i in wanted if i in group), key=group.__getitem__)
    return Ordered(ids, {i: note(group[i]) for i in ids}, len(ids))


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
    return Ordered(list(notes), notes, len(notes))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
