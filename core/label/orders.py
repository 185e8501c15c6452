"""Orders in which images are worth looking at: least certain, likely wrong, near duplicates, odd quality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from core import roles
from core.data import alike, store
from core.data.store import Filter
from core.errors import Invalid
from core.label import embed, teach
from core.types import SPLITS

if TYPE_CHECKING:
    import pandas as pd

AT_ONCE = 20_000  # rows of an order that the database is asked about at once
FEW = 100_000  # images that are all asked for, and not looked for among others


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

    most: no more than the first ones, of a million a small part of the work.
    """
    if name not in ORDERS:
        raise Invalid(f"“{name}” is not an order of images.", f"Choose one of: {', '.join(ORDERS)}.")
    if not ORDERS[name].needs:
        ids = store.ids(dataset_id, want, most)
        return Ordered(ids, {}, len(ids) if most is None else store.count(dataset_id, want))
    if ORDERS[name].needs == "embedding":
        embed.needed(dataset_id)
        found = embed.latest(dataset_id)
        assert found is not None
        return _duplicates(dataset_id, found, want, most) if name == "near-duplicates" else _by_quality(dataset_id, found, name, want, most)
    taught = teach.answers(dataset_id)
    if taught is None:
        raise Invalid("Loupe has learned nothing from this dataset yet.", "Label a few images of two classes and press Teach me.")
    return _suspects(dataset_id, taught, want, most) if name == "likely-wrong" else _by_certainty(dataset_id, taught, name, want, most)


@roles.needs("see")
def sureness(dataset_id: int, name: str) -> str:
    """How what an order names was found, of how many, and how sure that is; "" for an order that names nothing."""
    if name == "likely-wrong" and (taught := teach.answers(dataset_id)) is not None:
        judged = taught[taught["own"].notna()]
        named = judged[judged["issue"]]
        labels = store.known_images(dataset_id, named["image_id"].tolist())
        still = sum(i in labels and labels[i] == label for i, label in zip(named["image_id"], named["label"], strict=True))
        said = f"Found by confident learning: {still:,} of {len(judged):,} labels that were judged, each by a model that had not seen it."
        lessons = teach.lessons(dataset_id)
        if lessons and (share := lessons[-1].accuracy) is not None:
            how = "validation images" if lessons[-1].how == "validation" else "images, by cross-validation"
            said += f" That model is right on {share.value:.0%} of {lessons[-1].n:,} labelled {how} ({share.low:.0%} to {share.high:.0%})."
        return f"{said} Where labels were changed on purpose, three to four in five of those named were wrong."
    if name == "near-duplicates" and (found := embed.latest(dataset_id)) is not None:
        of = dict(zip(found.ids[found.group >= 0].tolist(), found.group[found.group >= 0].tolist(), strict=True))
        in_group = Counter(of[i] for i in store.splits(dataset_id, list(of)))
        groups = [n for n in in_group.values() if n > 1]
        before = alike.groups(dataset_id)
        early = [n for n in Counter(before[i] for i in store.splits(dataset_id, list(before))).values() if n > 1]
        return (
            f"Found by the network (cosine above 0.8) and by small grey pictures (correlation of {alike.SAME_PIXELS:g} or more, and well above "
            f"what is usual here): {sum(groups):,} of {int(embed.still_here(dataset_id, found).sum()):,} images in {len(groups):,} group{'s' * (len(groups) != 1)}. "
            f"By the grey pictures alone, mirrored ones too, the import found {sum(early):,} in {len(early):,}: these share a split. "
            "Of copies made on purpose all were found; among 600 photos of cats and dogs none was named that is no copy."
        )
    return ""


def _ranked(dataset_id: int, ids: np.ndarray, key: np.ndarray, want: Filter, most: int | None, note: Callable[[int], str]) -> Ordered:
    """The first of the wanted images by the key of their row of ids, smallest first; those without a row last."""
    total = store.count(dataset_id, want)
    most = total if most is None else most
    rows = np.argsort(key, kind="stable")
    came = store.ids(dataset_id, want) if total <= max(FEW, most) else None
    all_wanted = None if came is None else set(came)
    found: dict[str, int] = {}
    for start in range(0, len(rows), AT_ONCE):
        if len(found) >= most:
            break
        some = rows[start : start + AT_ONCE]
        named = ids[some].tolist()
        wanted = store.among(dataset_id, named, want) if all_wanted is None else all_wanted
        found.update((i, n) for i, n in zip(named, some.tolist(), strict=True) if i in wanted)
    first = list(found)[:most]
    notes = {i: note(found[i]) for i in first}
    if len(first) < most:
        came = store.ids(dataset_id, want) if came is None else came
        first += [i for i in came if i not in found][: most - len(first)]
    return Ordered(first, notes, total)


def _by_quality(dataset_id: int, found: embed.Embedding, name: str, want: Filter, most: int | None) -> Ordered:
    key, sign, note = {
        "blurred": (found.sharpness, 1, lambda n: f"sharpness {1e4 * found.sharpness[n]:,.0f}"),
        "odd-sized": (found.oddness, -1, lambda n: f"a side {2.0 ** found.oddness[n]:.1f} × off the usual"),
        "darkest": (found.brightness, 1, lambda n: f"brightness {_percent(float(found.brightness[n]))}"),
        "brightest": (found.brightness, -1, lambda n: f"brightness {_percent(float(found.brightness[n]))}"),
    }[name]
    return _ranked(dataset_id, found.ids, sign * key, want, most, note)


def _duplicates(dataset_id: int, found: embed.Embedding, want: Filter, most: int | None) -> Ordered:
    grouped = np.flatnonzero(found.group >= 0)
    grouped = grouped[np.argsort(found.group[grouped], kind="stable")]
    group = dict(zip(found.ids[grouped].tolist(), found.group[grouped].tolist(), strict=True))
    splits = embed.splits_of_groups(dataset_id, found)

    def note(g: int) -> str:
        crossed = [s for s in SPLITS if s in splits[g]]
        return f"group {g + 1}" + (f", in {' and '.join(crossed)}" if len(crossed) > 1 else "")

    wanted = store.among(dataset_id, list(group), want)
    ids = [i for i in group if i in wanted and group[i] in splits]
    return Ordered(ids[:most], {i: note(group[i]) for i in ids[:most]}, len(ids))


def _by_certainty(dataset_id: int, taught: pd.DataFrame, name: str, want: Filter, most: int | None) -> Ordered:
    column, sign = {
        "entropy": ("entropy", -1),
        "margin": ("margin", 1),
        "least-confidence": ("confidence", 1),
        "surest": ("confidence", -1),
    }[name]
    ids, predicted, confidence, key = (taught[one].to_numpy() for one in ("image_id", "predicted", "confidence", column))
    return _ranked(dataset_id, ids, sign * key, want, most, lambda n: f"model: {predicted[n]}, {_percent(float(confidence[n]))}")


def _suspects(dataset_id: int, taught: pd.DataFrame, want: Filter, most: int | None) -> Ordered:
    suspect = taught[taught["issue"]].sort_values("own", kind="stable")
    labels = store.known_images(dataset_id, suspect["image_id"].tolist())
    wanted = store.among(dataset_id, list(labels), want)
    columns = (suspect[name].tolist() for name in ("image_id", "predicted", "confidence", "label", "own"))
    notes = {
        i: f"model: {predicted}, {_percent(confidence)}; label {label}, {_percent(own)}"
        for i, predicted, confidence, label, own in zip(*columns, strict=True)
        if i in wanted and labels[i] == label  # else somebody has corrected it since
    }
    ids = list(notes)
    return Ordered(ids[:most], notes, len(ids))


def _percent(share: float) -> str:
    return f"{share:.0%}"
