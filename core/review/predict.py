"""Predictions on pictures that people bring, through the very preprocessing of the run."""

from __future__ import annotations

import hashlib
from collections import Counter
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from core import meters, storage
from core.catalog import params
from core.data import depth, store, uploads
from core.errors import AppError, Invalid
from core.review import animation, together
from core.runs import launch, runs
from core.runs.remote import infer
from core.settings import settings
from core.types import SPLITS, FrameAnswer, Prediction, RunConfig, SnapshotRow

UNSURE = 0.8  # a lower top probability is marked unsure
KEPT = 1  # raised when a network would answer otherwise on the same picture: what older code has stored is asked anew


@dataclass(frozen=True)
class Failure:
    """A file that could not be predicted, and why."""

    file: str
    message: str
    hint: str


@runs.needs("see")
def expect(run_id: str) -> None:
    """The model worker loads the run's network meanwhile: somebody is about to ask it."""
    folder = runs.trained(run_id)
    _expected(folder, runs.maps_folder(folder).name)


@lru_cache(maxsize=64)
def _expected(folder: Path, weights: str) -> None:
    launch.submit(infer.warm, str(folder))


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
def stored(run_id: str, file: Path, name: str) -> Prediction | None:
    """What predict_one was told of the same picture by the same weights, also before the server was started anew."""
    try:
        row = runs.read_json(_place(run_id, file))
        if tuple(row["classes"]) != runs.load(runs.folder(run_id)).classes:
            return None
        frames = tuple(FrameAnswer(one["number"], tuple(one["probabilities"])) for one in row["frames"])
        lists = {"classes": tuple(row["classes"]), "probabilities": tuple(row["probabilities"]), "frames": frames}
        return Prediction(**{**row, **lists, "file": name})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


@runs.needs("ask")
def predict_one(run_id: str, file: Path, name: str) -> Prediction:
    """The answer on one picture, which is kept; AppError where it cannot be read."""
    if (found := stored(run_id, file, name)) is not None:
        return found
    answer = predict(run_id, [file], [name])[0]
    if isinstance(answer, Failure):
        raise AppError(f"{answer.file}: {answer.message}", answer.hint)
    place = _place(run_id, file)
    place.parent.mkdir(parents=True, exist_ok=True)
    runs.write_json(place, asdict(answer))
    return answer


def _place(run_id: str, file: Path) -> Path:
    return runs.maps_folder(runs.trained(run_id)) / f"{hashlib.sha256(storage.local(file).read_bytes()).hexdigest()[:32]}-{KEPT}.json"


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


def keep_frame(upload: uploads.Upload, number: int, folder: Path | None = None) -> uploads.Upload:
    """A frame, from 1, kept as a picture of its own, so that it can be asked about like any other; in the folder, if one is named."""
    data = launch.ask(infer.frame, str(upload.path), number - 1)
    return replace(uploads.keep("frame.png", data, folder), name=f"{upload.name}, frame {number:,}")


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
