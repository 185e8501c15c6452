"""Runs beside each other: what differs in their settings, images and curves, and the images on which their answers differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from core import storage
from core.catalog import params
from core.data import events
from core.errors import Invalid
from core.metrics import wilson
from core.runs import runs
from core.types import SPLITS, EpochEnd, Evaluation, Interval, Run, Split

MOST = 6  # runs beside each other that eyes still tell apart
OUTCOMES = ("both", "only_a", "only_b", "neither")


@dataclass(frozen=True)
class Changes:
    """Images of one split that another run had, had not, or had with another label."""

    added: int
    gone: int
    relabelled: int


@dataclass(frozen=True, eq=False)
class Paired:
    """What two runs answered on the very same images."""

    a: str  # ids of the runs
    b: str
    split: str
    n: int
    both: int  # images both were right on
    only_a: int
    only_b: int
    neither: int
    answers_differ: int  # images; among those neither was right on too
    difference: Interval | None  # share B was right on less that of A; None without images
    p: float | None  # of McNemar's exact test
    left_out: int  # images that only one of them judged
    rows: Any  # pandas: image_id, true, a, a_confidence, b, b_confidence, outcome (one of OUTCOMES); surest answers first


def chosen(run_ids: Sequence[str]) -> list[Run]:
    """The runs, once each; Invalid unless they are two to six of one dataset."""
    found = [runs.load(runs.folder(one)) for one in dict.fromkeys(run_ids)]
    if not 2 <= len(found) <= MOST:
        raise Invalid(f"{len(found)} run{'s were' if len(found) != 1 else ' was'} named.", f"Choose 2 to {MOST} different runs.")
    if len({run.dataset_id for run in found}) > 1:
        raise Invalid("These runs learned from different datasets.", "Choose runs of one dataset.")
    return found


def changes(run: Run, other: Run) -> dict[Split, Changes]:
    """What is different in the images of the other run, by split, where there is anything; labels bear their names of today."""
    if run.snapshot_id == other.snapshot_id:
        return {}
    mine, others = _labels(run), _labels(other)
    found = {}
    for split in SPLITS:
        a, b = mine[split], others[split]
        one = Changes(len(b.keys() - a.keys()), len(a.keys() - b.keys()), sum(a[i] != b[i] for i in a.keys() & b.keys()))
        if any(asdict(one).values()):
            found[split] = one
    return found


def _labels(run: Run) -> dict[Split, dict[str, str]]:
    """Label by image id, by split, as the run saw them."""
    words = events.names(run.dataset_id)
    named = {c: words.since(c, run.created_at) for c in run.classes}
    found: dict[Split, dict[str, str]] = {split: {} for split in SPLITS}
    for row in runs.snapshot_rows(runs.folder(run.id)):
        found[row.split][row.image_id] = named.get(row.label, row.label)
    return found


def curve(run_id: str) -> tuple[EpochEnd, ...]:
    """The epochs that lasted: those a resumed run repeated stand once, as they came out at last."""
    path = runs.folder(run_id) / "events.jsonl"
    return _curve(path, path.stat().st_size) if path.exists() else ()


@lru_cache(maxsize=64)
def _curve(path: Path, _size: int) -> tuple[EpochEnd, ...]:
    return tuple(e for e in runs.events(path.parent, skip="Answers") if isinstance(e, EpochEnd))


def weights_bytes(run_id: str) -> int | None:
    """The size of the run's weights file; None before it has one."""
    try:
        return storage.size_and_time(runs.checkpoint(runs.folder(run_id)))[0]
    except FileNotFoundError:
        return None


def paired(a: Evaluation, b: Evaluation) -> Paired:
    """The answers of two runs on the images that both judged, with the same label for both."""
    rows = a.rows.rename(columns={"predicted": "a", "confidence": "a_confidence"}).merge(
        b.rows.rename(columns={"predicted": "b", "confidence": "b_confidence"}), on=["image_id", "true"]
    )
    right = 2 * (rows["a"] != rows["true"]).to_numpy(int) + (rows["b"] != rows["true"]).to_numpy(int)
    rows["outcome"] = [OUTCOMES[i] for i in right]
    counts = rows["outcome"].value_counts()
    both, only_a, only_b, neither = (int(counts.get(name, 0)) for name in OUTCOMES)
    order = (rows["a_confidence"] + rows["b_confidence"]).sort_values(ascending=False, kind="stable").index
    return Paired(
        a=a.run_id,
        b=b.run_id,
        split=a.split,
        n=len(rows),
        both=both,
        only_a=only_a,
        only_b=only_b,
        neither=neither,
        answers_differ=int((rows["a"] != rows["b"]).sum()),
        difference=paired_difference(both, only_a, only_b, neither),
        p=mcnemar(only_a, only_b) if len(rows) else None,
        left_out=a.n + b.n - 2 * len(rows),
        rows=rows.loc[order].reset_index(drop=True),
    )


def paired_difference(both: int, only_a: int, only_b: int, neither: int) -> Interval | None:
    """Share of B less share of A of the same images, with its 95 % interval; None without images.

    Newcombe 1998, Improved confidence intervals for the difference between binomial proportions based on paired data,
    Statistics in Medicine 17:2635, method 10: Wilson's intervals of both shares, joined with their correlation.
    """
    n = both + only_a + only_b + neither
    share_a, share_b = wilson(both + only_a, n), wilson(both + only_b, n)
    if share_a is None or share_b is None:
        return None
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    covariance = float(both * neither - only_a * only_b)
    if covariance > 0:
        covariance = max(covariance - n / 2, 0)
    correlation = covariance / margins**0.5 if margins else 0.0

    def joined(x: float, y: float) -> float:
        return float((x * x - 2 * correlation * x * y + y * y) ** 0.5)

    difference = (only_b - only_a) / n
    low = difference - joined(share_b.value - share_b.low, share_a.high - share_a.value)
    high = difference + joined(share_b.high - share_b.value, share_a.value - share_a.low)
    return Interval(difference, max(-1.0, low), min(1.0, high))


def mcnemar(only_a: int, only_b: int) -> float:
    """How likely the images that one alone is right on fall so unevenly or worse when both are equally good (McNemar 1947, exact,
    two-sided): a coin is thrown for each."""
    flips = only_a + only_b
    ways = tail = 1
    for i in range(min(only_a, only_b)):
        ways = ways * (flips - i) // (i + 1)
        tail += ways
    return min(1.0, float(2 * tail / 2**flips))


def as_json(found: Sequence[Run], evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Settings, images and metrics of the runs, and each pair with the first."""

    def interval(i: Interval | None) -> dict[str, float] | None:
        return None if i is None else asdict(i)

    def pair(p: Paired) -> dict[str, Any]:
        held = {key: value for key, value in vars(p).items() if key not in ("rows", "split")}
        return held | {"difference": interval(p.difference)}

    def setting(run: Run, name: str) -> Any:
        return asdict(run.config)[name]

    first, *others = found
    return {
        "split": evaluations[0].split,
        "runs": {
            run.id: {
                "name": run.name,
                "n": e.n,
                "accuracy": interval(e.accuracy),
                "loss": interval(e.loss),
                "weights_bytes": weights_bytes(run.id),
            }
            for run, e in zip(found, evaluations, strict=True)
        },
        "settings": {name: {run.id: setting(run, name) for run in found} for name in params.differing([run.config for run in found])},
        "images": {run.id: {split: asdict(one) for split, one in changes(first, run).items()} for run in others},
        "pairs": [pair(paired(evaluations[0], e)) for e in evaluations[1:]],
    }
