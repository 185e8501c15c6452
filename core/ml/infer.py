"""Answers of trained runs, asked for in the model worker: every function takes and returns plain values."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core import storage
from core.catalog.networks import measured, preprocess_for
from core.data import images
from core.errors import AppError, Unavailable
from core.ml.data import Normalise, measure, sample_sizes
from core.ml.model import LoadedModel, load
from core.ml.similarity import Distance, distance
from core.runs import runs
from core.settings import settings
from core.types import Preprocess, RunConfig, SnapshotRow

BATCH = 32
FIRST = 8  # pictures: the network begins on the first few while the next, twice as many each time, are read
CPU = torch.device("cpu")  # the GPU is left to training


def ready() -> str:
    """Says what answers; called first, it loads PyTorch and what it does only once, so that no click waits for that."""
    importlib.import_module("core.ml.anatomy").describe("convnet", (), "softmax", False, 1, 28, 2)  # PyTorch's kernels without data: 2 s
    return f"cpu, {torch.get_num_threads()} threads, torch {torch.__version__}"


def warm(run_folder: str) -> None:
    """Loads the run's network before it is asked for, and lets it answer on nothing: the first pass takes longer than others."""
    found = loaded(run_folder)
    with torch.inference_mode():
        found.model(torch.zeros(1, found.preprocess.channels, found.preprocess.crop, found.preprocess.crop))


def load_module(name: str) -> None:
    """Imports it, if it was not."""
    importlib.import_module(name)


def loaded(run_folder: str) -> LoadedModel:
    """The run's best model; the last two stay in memory, until their file changes."""
    path = runs.weights(Path(run_folder))
    return _loaded(run_folder, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=2)
def _loaded(run_folder: str, mtime_ns: int) -> LoadedModel:
    found = load(Path(run_folder))
    if any(isinstance(m, nn.Conv2d) for m in found.model.modules()):
        found.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return found


def _pictures(rows: list[dict[str, Any]], preprocess: Preprocess) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """What is judged, one picture in memory at a time, and where its answer belongs; a file that cannot be read gets error and hint."""
    for row in rows:
        try:
            for number, total, array, mark in images.read_frames(Path(row["file"]), preprocess):
                row.setdefault("fingerprint", mark)
                if total == 1:
                    yield row, array
                else:
                    row["total"] = total
                    row.setdefault("frames", []).append(frame := {"number": number + 1})
                    yield frame, array
        except AppError as e:
            row |= {"error": e.message, "hint": e.hint}


def read(file: str, preprocess: Preprocess) -> np.ndarray:
    """(C, S, S) uint8, as in training."""
    return images.read(Path(file), preprocess)


def normalised(arrays: list[np.ndarray], preprocess: Preprocess) -> Tensor:
    """(N, C, S, S) float32."""
    return Normalise(preprocess, CPU)(torch.from_numpy(np.stack(arrays)).contiguous(memory_format=torch.channels_last))


def probabilities(logits: Tensor) -> list[list[float]]:
    answer: list[list[float]] = logits.double().softmax(1).tolist()
    return answer


def predict(run_folder: str, files: list[str]) -> list[dict[str, Any]]:
    """One row per file, in order: fingerprint, and probabilities, or total and frames (number from 1, probabilities); or error and hint."""
    found = loaded(run_folder)
    answers: list[dict[str, Any]] = [{"file": file} for file in files]
    pictures = _pictures(answers, found.preprocess)

    def read_some(n: int) -> list[tuple[dict[str, Any], np.ndarray]]:
        return list(islice(pictures, n))

    n = FIRST
    with ThreadPoolExecutor(1) as reader:  # the next ones are decoded while the network is at work
        coming = reader.submit(read_some, n)
        while batch := coming.result():
            coming = reader.submit(read_some, n := min(2 * n, BATCH))
            _answer(found, batch)
    return answers


def _answer(found: LoadedModel, batch: list[tuple[dict[str, Any], np.ndarray]]) -> None:
    for shape in dict.fromkeys(a.shape for _, a in batch):  # one, unless pictures keep their own
        some = [(row, a) for row, a in batch if a.shape == shape]
        with torch.inference_mode():
            answered = probabilities(found.model(normalised([a for _, a in some], found.preprocess)))
        for (row, _), answer in zip(some, answered, strict=True):
            row["probabilities"] = answer


def mean_images(run_folder: str) -> list[np.ndarray | None]:
    """(S, S, 3) uint8 for each class of a run by pixel similarity; None for a class it has seen no image of."""
    means: Tensor = loaded(run_folder).model.get_buffer("means")
    return [None if mean.max() > 1 else images.as_seen((mean * 255).round().byte().numpy()) for mean in means]


def distances(run_folder: str, file: str) -> dict[str, Any]:
    """image (S, S, 3) uint8 as it is compared, and its l1 and l2 from the mean image of each class, pixels in 0..1."""
    found = loaded(run_folder)
    array = read(file, found.preprocess)
    x, means = normalised([array], found.preprocess), found.model.get_buffer("means")
    kinds: tuple[Distance, ...] = ("l1", "l2")
    return {"image": images.as_seen(array), **{kind: [float(distance(x, mean, kind)) for mean in means] for kind in kinds}}


def facts(path: str) -> dict[str, Any]:
    """Id, ext, width, height, channels and thumb bytes of an uploaded picture; Invalid if it cannot be read."""
    return asdict(images.examine(storage.local(Path(path)).read_bytes()))


def array_ids(path: str) -> list[str]:
    """As of images.array_ids, of an uploaded picture; Invalid if it cannot be read."""
    return images.array_ids(Path(path))


def fingerprints(path: str) -> tuple[int, int]:
    """As of images.fingerprints, of an uploaded picture; Invalid if it cannot be read."""
    return images.fingerprints(Path(path))


def fingerprints_of(paths: list[str]) -> list[int]:
    """Of each picture; 0 of one that cannot be read, since it is like no other. Unavailable if one cannot be fetched now."""
    found = []
    for path in paths:
        try:
            found.append(images.fingerprint(images.open_picture(storage.local(Path(path), storage.PATIENT))))
        except Unavailable:
            raise
        except AppError:
            found.append(0)
    return found


def picture(path: str, number: int = 0) -> tuple[bytes, str]:
    """A frame, from 0, of an uploaded picture for the browser and its media type; Invalid if it cannot be read."""
    return images.picture_file(Path(path), number)


def is_animated(path: str) -> bool:
    """Whether an uploaded picture has further frames or pages; Invalid if it cannot be read."""
    return images.is_animated(Path(path))


def frame(path: str, number: int) -> bytes:
    """A frame, from 0, of an uploaded picture as a PNG of its own; Invalid if it cannot be read."""
    return images.png(np.asarray(images.frame(Path(path), number)))


def contact_sheet(path: str) -> bytes:
    """The judged frames of an uploaded picture as one JPEG; Invalid if they cannot be read."""
    return images.contact_sheet(Path(path))


def received(run_folder: str, file: str) -> dict[str, Any]:
    """What the run's network receives: image (H, W, 3) and array (C, H, W) uint8, the tensor's shape, low and high, preprocess."""
    return _received(loaded(run_folder).preprocess, file)


def received_untrained(config: RunConfig, sample: list[SnapshotRow], bits: int, file: str) -> dict[str, Any]:
    """The same for a network not trained yet; where mean and std are not the network's own, they are measured on the sample."""
    preprocess = replace(preprocess_for(config, sample_sizes(sample)), bits=bits)
    if measured(config):
        squares = replace(preprocess, rectangles=False)  # of one shape
        arrays = np.stack([read(str(settings().images / row.path), squares) for row in sample])
        mean, std = measure(arrays, np.arange(len(arrays)))
        preprocess = replace(preprocess, mean=mean, std=std)
    return _received(preprocess, file)


def _received(preprocess: Preprocess, file: str) -> dict[str, Any]:
    array = read(file, preprocess)
    x = normalised([array], preprocess)
    facts = {"shape": tuple(x.shape), "low": float(x.min()), "high": float(x.max()), "preprocess": preprocess}
    return {"image": images.as_seen(array), "array": array, **facts}
