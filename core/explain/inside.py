"""Inside a run's network: its first filters, its layers' outputs for one picture, the training images nearest to it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core import processes, storage
from core.data import events, images
from core.runs import launch, remote, runs

NEAREST = 8
PAGE = 24  # channels


@dataclass(frozen=True)
class Output:
    """One call of a layer that keeps places."""

    name: str
    call: int  # from 1; a layer may be used several times
    kind: str
    shape: tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True)
class FeatureMaps:
    """Some channels of a layer, strongest first; grey pictures of one scale."""

    channels: tuple[int, ...]
    strength: tuple[float, ...]  # mean absolute output
    pictures: tuple[bytes, ...]  # PNG
    total: int
    low: float  # black, of all channels; -high where there are negative outputs
    high: float  # white


@dataclass(frozen=True)
class Filters:
    """What the first layer looks for."""

    kind: Literal["convolution", "dense", "classes", "means", "none"]
    layer: str
    pictures: tuple[bytes | None, ...]  # PNG
    names: tuple[str, ...]  # under the pictures
    total: int
    scale: float  # weights from -scale (black) to scale (white); 0 for mean images
    size: tuple[int, int]  # height and width in weights


@dataclass(frozen=True)
class Neighbour:
    image_id: str
    label: str  # of the run's snapshot, in the words of today
    similarity: float  # cosine


@dataclass(frozen=True)
class Neighbours:
    nearest: tuple[Neighbour, ...]
    compared: int  # training images
    training: int


# Layers -------------------------------------------------------------------------------------------


def outputs(run_id: str) -> tuple[Output, ...]:
    """In the order of the calls; () where no layer keeps places."""
    path = runs.trained(run_id)
    return _outputs(path, _weights(path))


@lru_cache(maxsize=16)
def _outputs(path: Path, _weights: int) -> tuple[Output, ...]:
    return tuple(Output(**row) for row in launch.ask(remote.inside.layers, str(path)))


def _weights(path: Path) -> int:
    return storage.size_and_time(runs.checkpoint(path))[1]


@runs.needs("ask")
def feature_maps(run_id: str, file: Path, output: Output, first: int = 0, count: int = PAGE) -> FeatureMaps:
    path = runs.trained(run_id)
    found = launch.ask(remote.inside.feature_maps, str(path), str(file), output.name, output.call, first, count)
    high = max(abs(found["low"]), abs(found["high"])) or 1.0
    low = -high if found["low"] < 0 else 0.0
    pictures = tuple(images.png(_grey(one, low, high)) for one in found["maps"])
    return FeatureMaps(tuple(found["channels"]), tuple(found["strength"]), pictures, found["total"], low, high)


def _grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.asarray(((values - low) / (high - low) * 255).round().clip(0, 255), np.uint8)


# Filters ------------------------------------------------------------------------------------------


def filters(run_id: str) -> Filters:
    path = runs.trained(run_id)
    return _filters(path, _weights(path))


@lru_cache(maxsize=16)
def _filters(path: Path, _weights: int) -> Filters:
    found = launch.ask(remote.inside.filters, str(path))
    kind, classes = found["kind"], runs.load(path).classes
    if kind == "means":
        pictures = tuple(None if mean is None else images.png(mean) for mean in found["pictures"])
        return Filters(kind, "", pictures, classes, len(classes), 0.0, (0, 0))
    weights: np.ndarray = found["pictures"]
    scale = float(np.abs(weights).max(initial=0)) or 1.0
    names = classes if kind == "classes" else tuple(str(i + 1) for i in range(len(weights)))
    pictures = tuple(images.png(images.as_seen(_grey(one, -scale, scale))) for one in weights)
    return Filters(kind, found["name"], pictures, names, found["total"], scale, weights.shape[2:])


# Neighbours ---------------------------------------------------------------------------------------


def no_features(run_id: str) -> str:
    """Why the run's network has no features to compare images by; "" where it has."""
    path = runs.trained(run_id)
    return _no_features(path, _weights(path))


@lru_cache(maxsize=16)
def _no_features(path: Path, _weights: int) -> str:
    return str(launch.ask(remote.inside.no_features, str(path)))


def _stored(path: Path) -> Path:
    return runs.maps_folder(path) / "features.npz"


def compared(run_id: str) -> bool:
    """Whether the run's training images have been compared, which is done once."""
    return _stored(runs.trained(run_id)).exists()


@runs.needs("ask")
def compare(run_id: str) -> Future[Any]:
    """Queues the comparison in the slow worker; it makes itself, once, what neighbours() needs."""
    path = runs.trained(run_id)
    stored = _stored(path)
    stored.parent.mkdir(parents=True, exist_ok=True)
    return launch.submit_slow(remote.inside.compare, str(path), runs.load(path).dataset_id, str(stored), str(_progress(stored)))


def ended(future: Future[Any]) -> None:
    """AppError where a comparison that has ended did not succeed."""
    launch.result(future)


def progress(run_id: str) -> tuple[int, int]:
    """Images done and in all; (0, 0) while it waits for its turn."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        done, total = _progress(_stored(runs.trained(run_id))).read_text(encoding="ascii").split()
        return int(done), int(total)
    return 0, 0


def _progress(stored: Path) -> Path:
    return stored.with_name(f"{stored.stem}-{processes.own()}-0.progress")  # of this process and its workers


@runs.needs("ask")
def neighbours(run_id: str, file: Path, image_id: str = "", count: int = NEAREST) -> Neighbours:
    """The training images nearest to a picture, which is left out itself; NotFound before they were compared."""
    path = runs.trained(run_id)
    run = runs.load(path)
    found = launch.ask(remote.inside.neighbours, str(path), str(file), str(_stored(path)), image_id, count)
    words = events.names(run.dataset_id)
    rows = zip(found["ids"], found["labels"], found["similarity"], strict=True)
    nearest = tuple(Neighbour(i, words.since(run.classes[n], run.created_at), s) for i, n, s in rows)
    return Neighbours(nearest, found["compared"], found["training"])


def shares(nearest: Sequence[Neighbour]) -> list[tuple[str, int]]:
    """(label, images) among the neighbours, the most frequent first."""
    labels = [one.label for one in nearest]
    return sorted(((name, labels.count(name)) for name in dict.fromkeys(labels)), key=lambda pair: -pair[1])
