"""What a network looks for over many images: mean maps, where attention lies, and experiments that find marks at a fixed place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage, stats  # type: ignore[import-untyped]
from scipy.special import logsumexp  # type: ignore[import-untyped]
from skimage.filters import threshold_otsu  # type: ignore[import-untyped]
from skimage.measure import regionprops  # type: ignore[import-untyped]

from core.data import images
from core.errors import AppError, Invalid
from core.metrics import Z95
from core.ml.attribute import maps
from core.ml.data import Normalise, Pixels, Tick, pixel_rows, save_arrays
from core.ml.features import fastest
from core.ml.infer import CPU
from core.ml.model import LoadedModel, load
from core.runs import runs
from core.settings import settings
from core.types import Preprocess, Progress, SnapshotRow, silent

BATCH = 32
BORDER = 0.1  # of each side: the frame whose attention is measured
SMOOTH = 0.02  # of the side: standard deviation by which mean maps are smoothed for the eye; numbers are of the maps as they are
FEWEST = 10  # images of a class, and of the others, for an experiment
EXAMPLES = 4  # pictures kept of an experiment
SMALLEST_TEXT = 64  # pixels: letters need more than a picture of a smaller side has

# Where a mark may lie: (height, width) of windows as shares of the side, and the widths of frames.
WINDOWS = ((1 / 8, 1 / 8), (1 / 4, 1 / 4), (1 / 10, 1 / 3), (1 / 10, 1), (1, 1 / 10))
FRAMES = (0.06, 0.12)
LARGEST, MOST_BOXES = 0.3, 4  # share of the picture of a window around marks, and how many of them are tried
CONTROLS = 3  # places as large, elsewhere
# A warning needs both experiments: filling the place takes away, and what the class's pictures share there brings, a part of what
# separates the class, by the lower ends of 99 % intervals. Of a place where all pictures have the same edges a small part is enough;
# else it must be more than twice the place's own share of the picture, for classes differ in their usual colours too.
CONFIDENCE, LEAST, LEAST_MARKED, TIMES_AREA = 0.99, 1 / 12, 0.01, 2.0
SHARP, STEP = 6.0, 4.0  # standard errors and brightness levels by which an edge of the mean picture stands out
STILL, LIVELY = 0.3, 10.0  # a pixel that varies so much less than in other classes, where it varies by so many levels, is covered
MARKED, ALONE = 0.05, 5.0  # share of a place's pixels with such edges or cover, and how many times that of the rest of the picture
# A class has marks at all from this share of its pixels. Where most classes have, things lie at fixed places, as digits do: then a mark
# is only what lies where other classes have little, against their usual spread of brightness.
ANY_MARKS, EMPTY = 0.01, 0.5

Ask = Callable[[np.ndarray], np.ndarray]  # (N, C, S, S) uint8 -> (N, classes) logits


Elsewhere = Callable[[list[Any], list[int]], Iterator[list[dict[str, Any]]]]  # look_at's first arguments, and classes -> its rows


def look(folder: Path, job: dict[str, Any], progress: Progress, elsewhere: Elsewhere | None = None) -> dict[str, Any]:
    """Writes patterns.json and patterns.npz beside the job, for the run in its run_folder; returns how many images it saw.

    Pictures are cut to squares for networks that take rectangles too: places are compared over all images.
    elsewhere: has the classes looked at, each as a whole: which places are tried in its pictures follows from the maps of all of them.
    """
    progress(0, 0, "Reading images")
    sample = Sample(job, lambda done, total: progress(done, total, "Reading images"))
    steps, aligned = Steps(progress), _aligned(sample.pixels, sample.labels, job["seed"])
    steps.total = sum(sample.counts) * (1 + EXPERIMENT)
    facts: dict[int, dict[str, Any]] = {}
    arrays: dict[str, Any] = {}
    classes = list(range(len(sample.wanted)))
    if elsewhere is not None:
        steps.what = f"Looking at {len(classes)} classes"
        for rows in elsewhere([str(folder), aligned], classes):
            for row in rows:
                facts[row["place"]] = row["facts"]
                with np.load(kept := _kept(folder, row["place"])) as stored:
                    arrays.update(stored)
                kept.unlink()
            steps.add(sum(sample.counts[row["place"]] for row in rows) * (1 + EXPERIMENT))
    else:
        ask = sample.asking(steps)
        for place in classes:
            facts[place], found = _class(sample, place, ask, steps, aligned)
            arrays.update(found)
    with open(folder / "patterns.npz", "wb") as f:
        np.savez_compressed(f, **arrays)
    side = sample.how.crop
    runs.write_json(
        folder / "patterns.json",
        {"classes": [facts[place] for place in classes], "side": side, "border_area": float(_border(side).mean()), "aligned": aligned},
    )
    return {"images": sum(sample.counts), "unreadable": len(sample.pixels.skipped)}


def look_at(folder: str, aligned: bool, places: list[int]) -> list[dict[str, Any]]:
    """Looks at classes of the job in the folder on a node of a cluster: a row for each, with its facts; its arrays lie in the folder."""
    sample, ask = _awake(folder)
    rows = []
    for place in places:
        facts, arrays = _class(sample, place, ask, Steps(silent), aligned)
        save_arrays(_kept(Path(folder), place), arrays)
        rows.append({"place": place, "facts": facts})
    return rows


def _kept(folder: Path, place: int) -> Path:
    return folder / f"class-{place}.npz"


class Sample:
    """What is looked at: a run's network, and pictures of its classes."""

    def __init__(self, job: dict[str, Any], reading: Tick) -> None:
        self.job, folder = job, Path(job["run_folder"])
        self.found = load(folder)
        self.how = replace(self.found.preprocess, rectangles=False)
        self.rows = _sample(runs.snapshot_rows(folder), self.found.classes, job)
        if not self.rows:
            raise Invalid(f"None of these classes has images in the {job['split']} split.", "Choose another split, or other classes.")
        self.pixels = pixel_rows(settings().cache, job["dataset_id"], self.how, self.rows, reading)
        self.labels = np.array([row.label for row in self.pixels.rows])
        self.wanted = [self.found.classes.index(name) for name in job["classes"]]
        self.counts = [int((self.labels == name).sum()) for name in job["classes"]]

    def asking(self, steps: Steps) -> Ask:
        return _asking(self.found, self.how, sum(self.counts) * EXPERIMENT, steps)


@lru_cache(maxsize=1)
def _awake(folder: str) -> tuple[Sample, Ask]:
    sample = Sample(runs.read_json(Path(folder) / "job.json"), lambda done, total: None)
    return sample, sample.asking(Steps(silent))


EXPERIMENT = 18  # passes for each image of a class: about 11 to find a place, 5 to test it, 2 without a change


def _sample(rows: Sequence[SnapshotRow], classes: Sequence[str], job: dict[str, Any]) -> list[SnapshotRow]:
    """At random, the same for the same seed: so many images of each class that is looked at, and as many in all of the others."""
    rng = np.random.default_rng(job["seed"])
    of_class: dict[str, list[SnapshotRow]] = {name: [] for name in classes}
    for row in sorted(rows, key=lambda r: r.image_id):
        if row.split == job["split"] and row.label in of_class:
            of_class[row.label].append(row)
    others = len(classes) - len(job["classes"])
    few = -(-2 * job["each"] // max(1, others))
    chosen = []
    for name, some in of_class.items():
        most = job["each"] if name in job["classes"] else min(job["each"], few)
        chosen += [some[i] for i in rng.permutation(len(some))[:most]]
    return chosen if any(row.label in job["classes"] for row in chosen) else []


class Steps:
    """How many of how many passes are done."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.done, self.total, self.what = 0, 0, ""

    def add(self, passes: int) -> None:
        self.done = min(self.total, self.done + passes)
        self.progress(self.done, self.total, self.what)


def _asking(found: LoadedModel, how: Preprocess, passes: int, steps: Steps) -> Ask:
    normalise, forward = Normalise(how, CPU), fastest(found.model, how, CPU, passes)

    def ask(pictures: np.ndarray) -> np.ndarray:
        answers = []
        for start in range(0, len(pictures), BATCH):
            some = torch.from_numpy(np.ascontiguousarray(pictures[start : start + BATCH]))
            answers.append(np.asarray(forward(normalise(some)), np.float64))
            steps.add(len(some))
        found_: np.ndarray = np.concatenate(answers)
        if not np.isfinite(found_).all():
            raise AppError("The network answers with numbers that are not finite (NaN).", "Its training went wrong: choose another run.")
        return found_

    return ask


# One class ----------------------------------------------------------------------------------------


def _class(sample: Sample, place: int, ask: Ask, steps: Steps, aligned: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The facts and the arrays of the class that has this place among those that are looked at."""
    found, how, pixels, labels, job = sample.found, sample.how, sample.pixels, sample.labels, sample.job
    k, n = sample.wanted[place], sample.counts[place]
    steps.what = f"Looking at {found.classes[k]}"
    arrays: dict[str, np.ndarray] = {}
    drawn = [row.label for row in sample.rows].count(found.classes[k])
    facts: dict[str, Any] = {"name": found.classes[k], "n": n, "unreadable": drawn - n, "ids": []}
    if not n:
        return facts, arrays
    rng = np.random.default_rng(job["seed"])  # of the places for comparison
    mine = np.flatnonzero(labels == found.classes[k])
    others = _others(labels, found.classes[k], job["seed"])
    own = _taken(pixels, mine)
    signed = _maps(found, how, own, k, job["method"], steps)
    weight = np.abs(signed).sum((1, 2), keepdims=True)
    signed = signed / np.where(weight > 0, weight, 1)  # each image counts the same
    attention = np.abs(signed)
    smooth = SMOOTH * how.crop
    arrays[f"signed-{place}"] = ndimage.gaussian_filter(signed.mean(0), smooth).astype(np.float32)
    arrays[f"attention-{place}"] = ndimage.gaussian_filter(attention.mean(0), smooth).astype(np.float32)
    arrays[f"mean-{place}"] = images.as_seen(own.mean(0).round().astype(np.uint8))
    facts |= {
        "ids": [pixels.rows[i].image_id for i in mine],
        "border": _interval(attention[:, _border(how.crop)].sum(1)),
        "text": None,
    }
    if how.crop >= SMALLEST_TEXT:
        text = np.stack([text_like(one) for one in own])
        facts["text"] = {
            "share": _interval((attention * text).sum((1, 2))),
            "area": float(text.mean()),
            "images": int(text.any((1, 2)).sum()),
        }
    if len(found.classes) < 2:
        facts["untested"] = "The run knows one class only, so there is nothing to compare it with."
    elif len(own) < FEWEST or len(others) < FEWEST:
        facts["untested"] = (
            f"Too few images for an experiment: {len(own)} of this class and {len(others)} of others, at least {FEWEST} are needed."
        )
    else:
        experiment = find_mark(ask, own, _taken(pixels, others), k, attention.mean(0), rng, aligned)
        if isinstance(experiment, str):
            facts["untested"] = experiment
        else:
            facts["experiment"] = experiment.facts()
            facts["experiment"]["covered_ids"] = [pixels.rows[mine[i]].image_id for i in experiment.own]
            facts["experiment"]["pasted_ids"] = [pixels.rows[others[i]].image_id for i in experiment.others]
            arrays[f"covered-{place}"], arrays[f"pasted-{place}"] = experiment.covered, experiment.pasted
    return facts, arrays


def _others(labels: np.ndarray, name: str, seed: int) -> np.ndarray:
    """As many images of other classes, at random."""
    count = max(int((labels == name).sum()), 2 * FEWEST)
    return np.random.default_rng(seed).permutation(np.flatnonzero(labels != name))[:count]


def _aligned(pixels: Pixels, labels: np.ndarray, seed: int) -> bool:
    """Whether most classes have marks, as classes of digits have."""
    found = []
    for name in np.unique(labels):
        mine, others = np.flatnonzero(labels == name), _others(labels, name, seed)
        if min(len(mine), len(others)) >= FEWEST:
            found.append(float(Common(_taken(pixels, mine), _taken(pixels, others)).marks.mean()) > ANY_MARKS)
    return len(found) > 1 and sum(found) > len(found) / 2


def _taken(pixels: Pixels, rows: np.ndarray) -> np.ndarray:
    """(N, C, S, S) uint8: all pictures are squares, so there is one source."""
    return np.asarray(pixels.sources[0][pixels.index[rows]])


def _maps(found: LoadedModel, how: Preprocess, own: np.ndarray, k: int, method: str, steps: Steps) -> np.ndarray:
    """(N, S, S) float64."""
    normalise, parts = Normalise(how, CPU), []
    for start in range(0, len(own), BATCH):
        some = own[start : start + BATCH]

        def tick(done: int, total: int) -> None:
            steps.progress(steps.done, steps.total, steps.what)

        parts.append(maps(found, normalise(torch.from_numpy(some)), method, [k] * len(some), None, tick).map)
        steps.add(len(some))
    return np.concatenate(parts).astype(np.float64)


def _border(side: int) -> np.ndarray:
    return Place(frame=max(1, round(BORDER * side))).mask(side)


def _interval(values: np.ndarray) -> list[float] | None:
    """Mean and 95 % interval of a share over images, by the normal approximation; None for fewer than two."""
    if len(values) < 2:
        return None
    mean, half = float(values.mean()), Z95 * float(values.std(ddof=1)) / len(values) ** 0.5
    return [mean, max(0.0, mean - half), min(1.0, mean + half)]


# Text ---------------------------------------------------------------------------------------------


def text_like(picture: np.ndarray) -> np.ndarray:
    """(C, S, S) uint8 -> (S, S) bool: regions of many small strokes of high contrast in a row.

    The morphological gradient, thresholded (Otsu) and closed along the row; a component counts if it is low and wide and its middle
    crosses at least six edges. Blind to: single letters, slanted or upright lines, letters of more than a fifth of the side, faint
    text; grass, fences and fur may pass for text.
    """
    grey = picture.astype(np.float32).mean(0)
    side = grey.shape[0]
    gradient = ndimage.morphological_gradient(grey, size=(2, 2))
    level = float(threshold_otsu(gradient)) if gradient.max() > gradient.min() else 255.0  # type: ignore[no-untyped-call]
    strokes = gradient > max(24.0, level)
    closed = ndimage.binary_closing(np.pad(strokes, side // 16), np.ones((1, max(3, side // 32))))[
        side // 16 : -(side // 16), side // 16 : -(side // 16)
    ]
    found = np.zeros(grey.shape, bool)
    for region in regionprops(ndimage.label(closed)[0]):  # type: ignore[no-untyped-call]
        top, left, bottom, right = region.bbox
        high, wide = bottom - top, right - left
        if not (5 <= high <= side / 5 and wide >= 2 * high and region.extent > 0.4):
            continue
        middle = strokes[top + high // 3 : bottom - high // 3, left:right]
        crossings = (middle[:, 1:] != middle[:, :-1]).sum(1).mean() if middle.size else 0
        if crossings >= 6 and crossings >= wide / high:
            found[top:bottom, left:right] = True
    return found


# Marks at a fixed place: a watermark, a frame -----------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A window, or the frame between two distances from the edge, in pixels."""

    top: int = 0
    left: int = 0
    height: int = 0
    width: int = 0
    frame: int = 0  # 0: a window
    within: int = 0  # of a frame: where it begins

    def mask(self, side: int) -> np.ndarray:
        inside = np.zeros((side, side), bool)
        if not self.frame:
            inside[self.top : self.top + self.height, self.left : self.left + self.width] = True
            return inside
        for cut, value in ((self.within, True), (self.frame, False)):
            inside[cut : side - cut, cut : side - cut] = value
        return inside


@dataclass(frozen=True, eq=False)
class Experiment:
    """What covering a place of a class's pictures does, and what putting their common part there into others does."""

    place: Place
    side: int
    marked: bool  # all pictures of the class have the same edges or cover there, and nowhere else
    usual: bool  # things lie at fixed places in all classes, and there is one here in others too: no mark
    n_own: int  # images it was done on; others found the place
    n_others: int
    lost: list[float]  # mean and interval: share of what separates the class that covering takes away, beyond as large a place elsewhere
    gained: list[float]  # the same, that the common part brings to pictures of other classes
    left: tuple[int, int]  # answers that left the class, of those it had
    left_elsewhere: tuple[int, int]
    became: tuple[int, int]  # answers that became the class, of the other ones
    became_elsewhere: tuple[int, int]
    own: list[int]  # examples: rows of the class's images, and of the others
    others: list[int]
    covered: np.ndarray  # (examples, 2, S, S, 3) uint8: before and after
    pasted: np.ndarray

    def facts(self) -> dict[str, Any]:
        values = {
            key: getattr(self, key)
            for key in ("side", "marked", "n_own", "n_others", "lost", "gained", "left", "left_elsewhere", "became", "became_elsewhere")
        }
        area = float(self.place.mask(self.side).mean())
        return {**values, "place": asdict(self.place), "area": area, "warning": self.warning}

    @property
    def warning(self) -> bool:
        bar = LEAST_MARKED if self.marked else max(LEAST, TIMES_AREA * float(self.place.mask(self.side).mean()))
        return not self.usual and self.lost[1] > bar and self.gained[1] > bar


def find_mark(
    ask: Ask, own: np.ndarray, others: np.ndarray, k: int, attention: np.ndarray, rng: np.random.Generator, aligned: bool = False
) -> Experiment | str:
    """Tries places that draw attention and look alike in all pictures of the class on a third of the images, and tests the best
    on the rest; a sentence where nothing can be tested.

    own, others: (N, C, S, S) uint8; aligned: things lie at fixed places in most classes, so that marks say nothing. Effects are of the log odds of class k, as shares of their distance between own and others.
    """
    side = own.shape[2]
    logits_own, logits_others = ask(own), ask(others)
    odds_own, odds_others = _log_odds(logits_own, k), _log_odds(logits_others, k)
    gap = float(np.median(odds_own) - np.median(odds_others))
    if gap < 0.5:
        return "The network hardly tells this class from the others, so there is nothing to look for."
    common = Common(own, others)
    frames = [Place(frame=max(1, round(share * side))) for share in FRAMES]
    marks = [] if aligned else [place for place in (*_boxes(common.marks), *frames) if common.marked(place)]
    windows = (place for weight in (attention, attention * common.distance) for place in _windows(weight, side))
    places = marks or [*dict.fromkeys(windows), *frames]  # where there is a mark, it is what is asked about

    def lost(rows: np.ndarray, place: Place) -> tuple[np.ndarray, np.ndarray]:
        answers = ask(filled(own[rows], place))
        return (odds_own[rows] - _log_odds(answers, k)) / gap, answers

    def gained(rows: np.ndarray, place: Place) -> tuple[np.ndarray, np.ndarray]:
        answers = ask(common.put(others[rows], place.mask(side)))
        return (_log_odds(answers, k) - odds_others[rows]) / gap, answers

    first, rest = _thirds(len(own)), _thirds(len(others))
    scores = np.array([min(lost(first[0], p)[0].mean(), gained(rest[0], p)[0].mean()) for p in places])
    areas = np.array([p.mask(side).mean() for p in places])
    enough = np.flatnonzero(scores >= scores.max() - 0.3 * abs(scores.max()))
    best = places[int(enough[areas[enough].argmin()])]  # the smallest of those that do nearly as much

    elsewhere = list(_elsewhere(best, side, rng))
    here_own, here_others = lost(first[1], best), gained(rest[1], best)
    there_own, there_others = [lost(first[1], p) for p in elsewhere], [gained(rest[1], p) for p in elsewhere]
    less, more = here_own[0] - np.mean([e for e, _ in there_own], 0), here_others[0] - np.mean([e for e, _ in there_others], 0)
    mine, foreign = logits_own[first[1]].argmax(1) == k, logits_others[rest[1]].argmax(1) != k

    def changed(results: list[tuple[np.ndarray, np.ndarray]], among: np.ndarray, to: bool) -> tuple[int, int]:
        return sum(int(((answers.argmax(1) == k) == to)[among].sum()) for _, answers in results), len(results) * int(among.sum())

    shown_own, shown_others = (
        rows[np.argsort(-effect)][:EXAMPLES] for rows, effect in ((first[1], here_own[0]), (rest[1], here_others[0]))
    )
    return Experiment(
        place=best,
        side=side,
        marked=any(marks),
        usual=aligned and not common.empty(best.mask(side)),
        n_own=len(first[1]),
        n_others=len(rest[1]),
        lost=_bounds(less),
        gained=_bounds(more),
        left=changed([here_own], mine, False),
        left_elsewhere=changed(there_own, mine, False),
        became=changed([here_others], foreign, True),
        became_elsewhere=changed(there_others, foreign, True),
        own=shown_own.tolist(),
        others=shown_others.tolist(),
        covered=_pairs(own[shown_own], filled(own[shown_own], best)),
        pasted=_pairs(others[shown_others], common.put(others[shown_others], best.mask(side))),
    )


def _log_odds(logits: np.ndarray, k: int) -> np.ndarray:
    return np.asarray(logits[:, k] - logsumexp(np.delete(logits, k, 1), axis=1))


def _thirds(n: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(n)
    return rows[rows % 3 == 0], rows[rows % 3 != 0]


def _bounds(effects: np.ndarray) -> list[float]:
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(effects) - 1) * effects.std(ddof=1) / len(effects) ** 0.5)
    return [float(effects.mean()), float(effects.mean()) - half, float(effects.mean()) + half]


def filled(pictures: np.ndarray, place: Place) -> np.ndarray:
    """Each picture with the place filled by a mirror image of what lies beside it; of one colour it would be a mark itself."""
    changed, side = pictures.copy(), pictures.shape[2]
    if place.frame:
        depth, end = place.frame - place.within, side - place.within
        inner = pictures[:, :, place.frame : side - place.frame, place.frame : side - place.frame]
        changed[:, :, place.within : end, place.within : end] = np.pad(inner, ((0, 0), (0, 0), (depth, depth), (depth, depth)), "symmetric")
        return changed
    top, left, bottom, right = place.top, place.left, place.top + place.height, place.left + place.width
    room = {"above": top, "below": side - bottom, "left": left, "right": side - right}
    widest = max(room, key=room.__getitem__)
    # The side with most room, mirrored at the edge they share.
    if widest in ("above", "below"):
        up = widest == "above"
        beside = pictures[:, :, :top, left:right] if up else pictures[:, :, bottom:, left:right]
        whole = np.pad(beside, ((0, 0), (0, 0), (0, place.height) if up else (place.height, 0), (0, 0)), "symmetric")
        changed[:, :, top:bottom, left:right] = whole[:, :, top:] if up else whole[:, :, : place.height]
    else:
        before = widest == "left"
        beside = pictures[:, :, top:bottom, :left] if before else pictures[:, :, top:bottom, right:]
        whole = np.pad(beside, ((0, 0), (0, 0), (0, 0), (0, place.width) if before else (place.width, 0)), "symmetric")
        changed[:, :, top:bottom, left:right] = whole[:, :, :, left:] if before else whole[:, :, :, : place.width]
    return changed


class Common:
    """What a class's pictures have in common at each pixel, against those of other classes: a mean, and how much they vary.

    A watermark of opacity a over any background leaves 1 - a of the standard deviation, and its own colour in the mean: both come
    back where other pictures are shifted and scaled to them, while of natural pictures only a faint blur does.
    """

    def __init__(self, own: np.ndarray, others: np.ndarray) -> None:
        self.mean, self.before = own.mean(0, dtype=np.float32), others.mean(0, dtype=np.float32)
        spread, usual = own.std(0, dtype=np.float32) + 1, others.std(0, dtype=np.float32) + 1
        self.scale = np.minimum(spread / usual, 1.5)
        ratio, squares = (spread / usual) ** 2, spread**2 + usual**2
        # Bhattacharyya's distance of two normal distributions
        self.distance = (np.log((ratio + 1 / ratio + 2) / 4) / 4 + (self.mean - self.before) ** 2 / squares / 4).mean(0)
        self.usual = usual.mean(0)
        self.marks = _edges(own, others) | ((spread < STILL * usual) & (usual > LIVELY)).all(0)  # (S, S) bool

    def empty(self, mask: np.ndarray) -> bool:
        """Whether other classes have little there, as a digit's corners."""
        return bool(self.usual[mask].mean() < EMPTY * self.usual.mean())

    def marked(self, place: Place) -> bool:
        """Whether marks that no other class has lie there, on three sides of a frame, and, but for its rim, nowhere else."""
        side = self.marks.shape[0]
        mask = place.mask(side)
        sides = [mask & half for half in _halves(side)] if place.frame else [mask]
        inside = sorted(float(self.marks[part].mean()) for part in sides)[-3:][0]
        outside = float(self.marks[~ndimage.binary_dilation(mask, iterations=2)].mean())
        return inside >= MARKED and float(self.marks[mask].mean()) >= ALONE * outside

    def put(self, pictures: np.ndarray, mask: np.ndarray) -> np.ndarray:
        changed = pictures.copy()
        new = self.mean[:, mask] + self.scale[:, mask] * (pictures[:, :, mask] - self.before[:, mask])
        changed[:, :, mask] = new.round().clip(0, 255).astype(np.uint8)
        return changed


def _edges(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(S, S) bool: where neighbouring pixels differ on average over the class's pictures, and not in those of others."""
    found = np.zeros(own.shape[2:], bool)
    for axis in (2, 3):
        mean, error = _step(own, axis)
        foreign, more = _step(others, axis)
        sharp = (np.abs(mean) > np.maximum(STEP, SHARP * np.sqrt(error))) & (
            np.abs(mean - foreign) > np.maximum(STEP, SHARP * np.sqrt(error + more))
        )
        found |= np.pad(sharp, ((0, 1), (0, 0)) if axis == 2 else ((0, 0), (0, 1)))
    return found


def _step(pictures: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean difference of neighbouring pixels over the pictures, and the square of its standard error; a variance is at least 1."""
    steps = np.diff(pictures.mean(1, dtype=np.float32), axis=axis - 1)
    return steps.mean(0), (steps.var(0) + 1) / len(steps)


def _halves(side: int) -> list[np.ndarray]:
    """(S, S) bool: the upper, lower, left and right half."""
    rows, columns = np.indices((side, side))
    return [rows < side / 2, rows >= side / 2, columns < side / 2, columns >= side / 2]


def _boxes(marks: np.ndarray) -> list[Place]:
    """Windows around what lies close together, the most marks first."""
    side = marks.shape[0]
    grown = ndimage.label(ndimage.binary_dilation(marks, iterations=max(1, side // 24)))[0]
    found = []
    for region in regionprops(grown):  # type: ignore[no-untyped-call]
        rows, columns = np.nonzero(marks & (grown == region.label))
        top, left = max(0, int(rows.min()) - 1), max(0, int(columns.min()) - 1)
        height, width = min(side, int(rows.max()) + 3) - top, min(side, int(columns.max()) + 3) - left
        if height * width <= LARGEST * side**2:
            found.append((len(rows), Place(top, left, max(2, height), max(2, width))))
    return [place for _, place in sorted(found, key=lambda pair: -pair[0])[:MOST_BOXES]]


def _windows(weight: np.ndarray, side: int) -> Iterator[Place]:
    """For each shape of window where it holds most."""
    sums = np.pad(weight.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    for shares in WINDOWS:
        height, width = (min(side, max(2, round(share * side))) for share in shares)
        held = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
        top, left = np.unravel_index(int(held.argmax()), held.shape)
        yield Place(int(top), int(left), height, width)


def _elsewhere(place: Place, side: int, rng: np.random.Generator) -> Iterator[Place]:
    """Places of the same size that do not meet this one: its mirror images first; of a frame, the frame within it."""
    if place.frame:
        left = (side - 2 * place.frame) ** 2 - side**2 + (side - 2 * place.frame) ** 2  # pixels that remain within a second frame
        yield Place(frame=min(side // 2, round((side - max(0.0, left) ** 0.5) / 2)), within=place.frame)
        return
    mirrored = (side - place.top - place.height, side - place.left - place.width)
    corners = [(place.top, mirrored[1]), (mirrored[0], place.left), mirrored]
    anywhere = ((int(rng.integers(side - place.height + 1)), int(rng.integers(side - place.width + 1))) for _ in range(200))
    found = 0
    for top, left in (*corners, *anywhere):
        if abs(top - place.top) >= place.height or abs(left - place.left) >= place.width:
            yield Place(top, left, place.height, place.width)
            found += 1
            if found == CONTROLS:
                return


def _pairs(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(N, 2, S, S, 3) uint8."""
    return np.stack([np.stack([images.as_seen(a), images.as_seen(b)]) for a, b in zip(before, after, strict=True)])
