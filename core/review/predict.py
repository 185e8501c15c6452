"""Predictions on pictures that people bring, through the very preprocessing of the run."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core import meters
from core.catalog import params
from core.data import depth, store, uploads
from core.errors import Invalid
from core.review import animation, together
from core.runs import launch, runs
from core.runs.remote import infer
from core.settings import settings
from core.types import SPLITS, FrameAnswer, Prediction, RunConfig, SnapshotRow

UNSURE = 0.8  # a lower top probability is marked unsure


@dataclass(frozen=True)
class Failure:
    """A file that could not be predicted, and why."""

    file: str
    message: str
    hint: str


@runs.needs("ask")
def ask(run_id: str, files: list[Path]) -> Future[Any]:
    """Queues the files in the model worker; read the answer with answers()."""
    return launch.submit(infer.predict, str(runs.trained(run_id)), [str(f) for f in files])


def answers(run_id: str, names: list[str], future: Future[Any]) -> list[Prediction | Failure]:
    classes, trained = runs.load(runs.folder(run_id)).classes, None
    found: list[Prediction | Failure] = []
    for name, row in zip(names, launch.result(future), strict=True):
        if "error" in row:
            found.append(Failure(name, row["error"], row["hint"]))
            continue
        known = (name, Path(row["file"]).stem, classes, tuple(row.get("probabilities", ())))
        answer = Prediction(*known, fingerprint=row.get("fingerprint"))
        if "frames" in row:
            trained = trained or Counter(r.label for r in runs.snapshot_rows(runs.folder(run_id)) if r.split == "train")
            frames = [FrameAnswer(one["number"], tuple(one["probabilities"])) for one in row["frames"]]
            answer = animation.judged(answer, frames, row["total"], trained)
        found.append(answer)
        meters.PREDICTIONS.inc()
    return found


@runs.needs("ask")
def predict(run_id: str, files: list[Path], names: list[str] | None = None) -> list[Prediction | Failure]:
    """One answer per file, in order."""
    return answers(run_id, names or [str(f) for f in files], ask(run_id, files))


@runs.needs("ask")
def predict_data(run_id: str, pictures: list[tuple[str, bytes]], keep: bool = False) -> list[Prediction | Failure]:
    """One answer for each name and content, in order; the pictures stay among the uploads if they are to be kept.

    What is asked while the model worker is busy waits, and is then answered together.
    """
    folder = str(runs.trained(run_id))
    found: list[Prediction | Failure | None] = [None] * len(pictures)
    with runs.scratch(settings().uploads / "asked") as scratch:
        places: list[int] = []
        files: list[str] = []
        for place, (name, data) in enumerate(pictures):
            try:
                path = uploads.keep(name, data, None if keep else scratch).path
            except Invalid as e:
                found[place] = Failure(name, e.message, e.hint)
                continue
            places.append(place)
            files.append(str(path))
        if files:
            names = [pictures[place][0] for place in places]
            for place, answer in zip(places, answers(run_id, names, together.ask(folder, files)), strict=True):
                found[place] = answer
    return [one for one in found if one is not None]


def keep_frame(upload: uploads.Upload, number: int) -> uploads.Upload:
    """A frame, from 1, kept as a picture of its own, so that it can be asked about like any other."""
    data = launch.ask(infer.frame, str(upload.path), number - 1)
    return replace(uploads.keep("frame.png", data), name=f"{upload.name}, frame {number:,}")


def received(network: str, dataset_id: int, file: str) -> dict[str, Any]:
    """What a network (see networks) receives of an image: picture, pixels (C, H, W) uint8, shape, low, high, how."""
    path = str(settings().images / file)
    kind, _, name = network.rpartition(":")
    if kind:
        return launch.ask(infer.received_untrained, *_untrained(name, dataset_id), depth.of(dataset_id), path)
    return launch.ask(infer.received, str(runs.trained(name)), path)


def _untrained(architecture: str, dataset_id: int) -> tuple[RunConfig, list[SnapshotRow]]:
    """What decides the preprocessing of a run that does not exist yet: its settings and some of its training images."""
    some = next((found for split in SPLITS if (found := store.some(dataset_id, split, 256))), None)
    if some is None:
        raise Invalid("This dataset holds no image to measure.", "Import some images first.")
    return params.run_config({"architecture": architecture}), [SnapshotRow(i.id, i.path, i.label or "", i.split) for i in some]
