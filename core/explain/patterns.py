"""What a run's network looks for over many images: a background job whose result stays in the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from core import storage
from core.catalog import methods
from core.data import events, images
from core.errors import Invalid
from core.metrics import TOO_FEW
from core.runs import cluster, jobs, launch, remote, runs
from core.runs.remote import attribute
from core.settings import settings
from core.types import SPLITS, Interval, Progress

EACH, MOST_EACH = 60, 1000  # images of a class
MOST_CLASSES = 12  # looked at unless somebody chooses others
RESULT = "patterns.json"
FORWARD = 18  # passes of an image besides those of its map, about: see core.ml.patterns


@dataclass(frozen=True)
class Mark:
    """A place that may give a class away, and what happened when it was filled, or put into other pictures.

    lost and gained are shares of what separates the class from the others (log odds, means with 99 % intervals), beyond what a place
    of the same size elsewhere does. Pairs are (answers that changed, answers in all).
    """

    place: str  # in words, as "the lower right corner"
    area: float  # share of the picture
    box: tuple[float, float, float, float]  # top, left, height, width as shares of the side; of a frame, its inside
    frame: bool
    marked: bool  # the class's pictures all have the same edges or cover there
    warning: bool
    n_own: int
    n_others: int
    lost: Interval
    gained: Interval
    left: tuple[int, int]
    left_elsewhere: tuple[int, int]
    became: tuple[int, int]
    became_elsewhere: tuple[int, int]
    covered: tuple[tuple[bytes, bytes], ...]  # PNG before and after, the strongest first
    pasted: tuple[tuple[bytes, bytes], ...]
    covered_ids: tuple[str, ...]
    pasted_ids: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Pattern:
    """One class: shares are of the attention (absolute attribution, each image counting the same), means with 95 % intervals."""

    name: str  # of today
    n: int
    unreadable: int
    ids: tuple[str, ...]
    picture: bytes  # PNG, the mean picture; empty without images
    signed: np.ndarray  # (S, S) float32, the mean map, smoothed for the eye
    attention: np.ndarray  # (S, S) float32, the mean of absolute maps, adding up to about 1; smoothed too
    border: Interval | None  # share on the outer tenth of each side; None for fewer than two images
    text: Interval | None  # share on text-like regions; None also where pictures are too small for letters
    text_area: float  # their share of the area
    text_images: int  # images that have any
    mark: Mark | None
    untested: str  # why there was no experiment; "" where there was one


@dataclass(frozen=True, eq=False)
class Patterns:
    run_id: str
    split: str
    method: str
    each: int
    seed: int
    by: str
    at: str
    border_area: float
    aligned: bool  # most classes have fixed shapes, as digits have: marks that all pictures share say nothing there
    classes: tuple[Pattern, ...]

    @property
    def warned(self) -> list[Pattern]:
        return [p for p in self.classes if p.mark is not None and p.mark.warning]


# The job ------------------------------------------------------------------------------------------


def counts(run_id: str) -> dict[str, dict[str, int]]:
    """Images the run knows by split and class; test is left out, for what is seen there would guide choices."""
    found: dict[str, dict[str, int]] = {}
    for row in runs.snapshot_rows(runs.folder(run_id)):
        if row.split != "test":
            of_split = found.setdefault(row.split, {})
            of_split[row.label] = of_split.get(row.label, 0) + 1
    return {split: found[split] for split in ("validation", "train") if split in found}


def usual_classes(run_id: str, split: str) -> list[str]:
    """Those with most images of the split, in the run's order."""
    known = counts(run_id).get(split, {})
    classes = runs.load(runs.folder(run_id)).classes
    first = sorted(classes, key=lambda name: -known.get(name, 0))[:MOST_CLASSES]
    return [name for name in classes if name in first]


def seen(run_id: str, split: str, classes: Sequence[str], each: int) -> int:
    """How many images a job with these settings looks at."""
    known = counts(run_id).get(split, {})
    return sum(min(each, known.get(name, 0)) for name in classes)


@runs.needs("ask")
def start(
    run_id: str,
    by: str,
    *,
    split: str = "validation",
    classes: Sequence[str] | None = None,
    each: int = EACH,
    method: str = "",
    seed: int = 0,
) -> str:
    """Starts a job that outlives the page and the server, and returns its id; that of the running one if there is one."""
    folder = runs.trained(run_id)
    job = _job(run_id, folder, split, classes, each, method, seed)
    return jobs.start_one(runs.patterns_folder(folder), PATTERNS, {**job, "by": by}, RESULT)


def _job(run_id: str, folder: Path, split: str, classes: Sequence[str] | None, each: int, method: str, seed: int) -> dict[str, Any]:
    run = runs.load(folder)
    if not isinstance(each, int) or not 1 <= each <= MOST_EACH:
        raise Invalid(f"Images per class are {each}.", f"Use a whole number from 1 to {MOST_EACH}.")
    if split == "test":
        raise Invalid("Test images are not looked at here.", "What is seen would guide what is done next. Choose validation or train.")
    if split not in SPLITS:
        raise Invalid(f"“{split}” is not a split.", "Choose validation or train.")
    chosen = list(usual_classes(run_id, split) if classes is None else classes)
    if not chosen:
        raise Invalid("No class is chosen.", "Choose one class or more.")
    if unknown := [name for name in chosen if name not in run.classes]:
        raise Invalid(f"“{unknown[0]}” is not a class of this run.", f"Its classes are: {', '.join(run.classes)}.")
    if not seen(run_id, split, chosen, each):
        raise Invalid(f"None of these classes has {split} images.", "Choose another split, or other classes.")
    reasons = launch.ask(attribute.describe, str(folder))["unsupported"]
    method = method or usual_method(reasons)
    methods.method(method)
    if reasons.get(method):
        raise Invalid(reasons[method])
    return {
        "run_folder": str(folder), "dataset_id": run.dataset_id, "split": split, "classes": chosen, "each": each, "method": method,
        "seed": seed, "weights": _weights(folder),
    }  # fmt: skip


def usual_method(unsupported: Mapping[str, str]) -> str:
    """Grad-CAM is too coarse for a corner, and over many images the noise of the fast methods averages out."""
    return next(name for name in ("input_x_gradient", "occlusion") if not unsupported.get(name))


def _weights(folder: Path) -> list[int]:
    size, mtime_ns = storage.size_and_time(runs.checkpoint(folder))
    return [mtime_ns, size]


def _work(folder: Path, job: jobs.Line, progress: Progress) -> jobs.Line:
    from core.ml.patterns import look

    def on_nodes(given: list[Any], places: list[int]) -> cluster.Rows:
        return cluster.answers(folder / "nodes", remote.patterns.look_at, given, places, each=1)

    many = settings().ray_address and cluster.takes(seen(Path(job["run_folder"]).name, job["split"], job["classes"], job["each"]))
    return look(folder, job, progress, on_nodes if many else None)


PATTERNS = jobs.Kind("patterns", "look", "Start it again.", _work)


def state(run_id: str) -> jobs.State | None:
    """The run's newest look at many images."""
    return jobs.newest(runs.patterns_folder(runs.folder(run_id)), PATTERNS)


@runs.needs("ask")
def stop(run_id: str) -> None:
    for path in jobs.folders(runs.patterns_folder(runs.folder(run_id)))[-1:]:
        runs.request_stop(path)


# What it found ------------------------------------------------------------------------------------


def latest(run_id: str) -> Patterns | None:
    """The newest result for the run's present weights."""
    folder = runs.folder(run_id)
    path = _finished(folder)
    if path is None:
        return None
    run = runs.load(folder)
    words = events.names(run.dataset_id)
    return _read(path, run_id, tuple((name, words.since(name, run.created_at)) for name in run.classes))


def _finished(folder: Path) -> Path | None:
    if not storage.known(runs.checkpoint(folder)):
        return None
    weights = _weights(folder)
    for path in reversed(jobs.folders(runs.patterns_folder(folder))):
        if (path / RESULT).exists() and runs.read_json(path / "job.json")["weights"] == weights:
            return path
    return None


@lru_cache(maxsize=8)
def _read(path: Path, run_id: str, names: tuple[tuple[str, str], ...]) -> Patterns:
    """names: of the run's classes then and today."""
    job, found, today = runs.read_json(path / "job.json"), runs.read_json(path / RESULT), dict(names)
    with np.load(path / "patterns.npz", allow_pickle=False) as stored:
        classes = tuple(_pattern(one, today[one["name"]], stored, place) for place, one in enumerate(found["classes"]))
    facts: dict[str, Any] = {key: job[key] for key in ("split", "method", "each", "seed", "by", "at")}
    return Patterns(run_id, **facts, border_area=found["border_area"], aligned=found["aligned"], classes=classes)


def _pattern(one: Mapping[str, Any], name: str, stored: Any, place: int) -> Pattern:
    empty = np.zeros((1, 1), np.float32)
    has = one["n"] > 0
    text = one.get("text")
    return Pattern(
        name=name,
        n=one["n"],
        unreadable=one["unreadable"],
        ids=tuple(one["ids"]),
        picture=images.png(stored[f"mean-{place}"]) if has else b"",
        signed=stored[f"signed-{place}"].astype(np.float32) if has else empty,
        attention=stored[f"attention-{place}"].astype(np.float32) if has else empty,
        border=_interval(one.get("border")),
        text=_interval(text and text["share"]),
        text_area=text["area"] if text else 0.0,
        text_images=text["images"] if text else 0,
        mark=_mark(one["experiment"], stored, place) if "experiment" in one else None,
        untested=one.get("untested", "" if has else "The split holds no image of this class."),
    )


def _interval(values: Sequence[float] | None) -> Interval | None:
    return None if values is None else Interval(*values)


def _mark(one: Mapping[str, Any], stored: Any, place: int) -> Mark:
    where, side = one["place"], one["side"]
    frame, edge = where["frame"] > 0, where["frame"] / side
    top, left, height, width = (where[key] / side for key in ("top", "left", "height", "width"))
    box = (edge, edge, 1 - 2 * edge, 1 - 2 * edge) if frame else (top, left, height, width)
    facts: dict[str, Any] = {key: one[key] for key in ("area", "marked", "warning", "n_own", "n_others")}
    facts |= {key: tuple(one[key]) for key in ("left", "left_elsewhere", "became", "became_elsewhere", "covered_ids", "pasted_ids")}
    return Mark(
        place=words(box, frame),
        box=box,
        frame=frame,
        lost=Interval(*one["lost"]),
        gained=Interval(*one["gained"]),
        covered=_pictures(stored[f"covered-{place}"]),
        pasted=_pictures(stored[f"pasted-{place}"]),
        **facts,
    )


def _pictures(pairs: np.ndarray) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((images.png(before), images.png(after)) for before, after in pairs)


def words(box: Sequence[float], frame: bool) -> str:
    """Where a place lies, for a sentence."""
    if frame:
        return "the frame around the picture"
    top, left, height, width = box
    down, right = top + height / 2, left + width / 2
    row = "upper" if down < 1 / 3 else "lower" if down > 2 / 3 else ""
    column = "left" if right < 1 / 3 else "right" if right > 2 / 3 else ""
    if width > 0.9:
        return f"the strip along the {'top' if row == 'upper' else 'bottom' if row else 'middle'}"
    if height > 0.9:
        return f"the strip along the {column or 'middle'}"
    if row and column:
        return f"the {row} {column} corner"
    if row or column:
        return f"the middle of the {row or column} edge"
    return "the middle of the picture"


def said(p: Pattern, border_area: float) -> list[str]:
    """What was found for a class, a sentence each; the warning first."""
    if not p.n or p.border is None:
        return [p.untested] if p.untested else []
    sentences = []
    if p.mark is not None and p.mark.warning:
        m = p.mark
        seen_there = "The same marks stand there in all of its pictures. " if m.marked else ""
        sentences.append(
            f"This class may be read from {m.place}, {m.area:.0%} of the picture. {seen_there}Filling it changes the answer of "
            f"{m.left[0]} of {m.left[1]} pictures; filling as much elsewhere {m.left_elsewhere[0]} of {m.left_elsewhere[1]}. "
            f"What its pictures share there turns {m.became[0]} of {m.became[1]} pictures of other classes into it; from elsewhere "
            f"{m.became_elsewhere[0]} of {m.became_elsewhere[1]}."
        )
        sentences.append(
            f"In score: filling takes away {_percent(m.lost)} of what separates the class from the others, the shared part brings "
            f"{_percent(m.gained)} (99% intervals, {m.n_own} and {m.n_others} images)."
        )
    elif p.mark is not None and p.mark.marked:
        sentences.append(
            f"Its pictures all have the same marks in {p.mark.place}, perhaps a watermark. The network makes little use of it: filling it "
            f"takes away {_percent(p.mark.lost, 1)} of what separates the class, putting it elsewhere brings {_percent(p.mark.gained, 1)} "
            f"(99% intervals, {p.mark.n_own} and {p.mark.n_others} images)."
        )
    n = f"n = {p.n}" + (", few: a rough figure" if p.n < TOO_FEW else "")
    sentences.append(f"{_percent(p.border)} of the attention lies on the border, which is {border_area:.0%} of the area ({n}).")
    if p.text is not None and p.text_images:
        sentences.append(
            f"{_percent(p.text, 1)} lies on text-like regions, {p.text_area:.1%} of the area ({p.text_images} of {p.n} images have one)."
        )
    elif p.text is not None:
        sentences.append("No image has a text-like region.")
    if p.mark is not None and not (p.mark.warning or p.mark.marked):
        sentences.append(f"No place was found that gives it away; tried on {p.mark.n_own} of its images and {p.mark.n_others} of others.")
    if p.untested:
        sentences.append(p.untested)
    return sentences


def _percent(share: Interval, places: int = 0) -> str:
    value, low, high = (f"{round(100 * one, places) + 0.0:.{places}f}".replace("-", "−") for one in (share.value, share.low, share.high))
    return f"{value}% ({low} to {high})"


def as_json(found: Patterns) -> dict[str, Any]:
    def interval(i: Interval | None) -> dict[str, float] | None:
        return None if i is None else {"value": i.value, "low": i.low, "high": i.high}

    return {
        "run": found.run_id,
        "split": found.split,
        "method": found.method,
        "border_area": found.border_area,
        "per_class": {
            p.name: {
                "n": p.n,
                "border": interval(p.border),
                "text": interval(p.text),
                "text_area": p.text_area,
                "warning": bool(p.mark and p.mark.warning),
                "place": p.mark.place if p.mark else None,
                "said": said(p, found.border_area),
            }
            for p in found.classes
        },
    }
