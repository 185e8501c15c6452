"""Inside a network: its first filters, the outputs of its layers for one picture, and the training images it holds for alike."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import Invalid, NotFound
from core.ml.data import Normalise, Pixels, pixel_rows, save_arrays
from core.ml.features import BATCH, fastest
from core.ml.infer import CPU, loaded, mean_images, normalised, read
from core.ml.model import LoadedModel, head_of, load, set_module
from core.ml.similarity import Similarity
from core.runs import runs
from core.settings import settings
from core.types import SnapshotRow

MOST_COMPARED = 20_000  # training images; of more a part is drawn, the same each time
MOST_BYTES = 100_000_000  # of their features, which are read anew for every picture: wide ones allow fewer images
MOST_FILTERS = 256


# Feature maps -------------------------------------------------------------------------------------


@contextmanager
def outputs_of(model: nn.Module, only: str | None = None) -> Iterator[list[tuple[str, nn.Module, Tensor]]]:
    """While it lasts, every output of a layer without parts (or of the one that is named), in the order of the calls."""
    found: list[tuple[str, nn.Module, Tensor]] = []
    hooks = []

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found.append((name, module, output.detach()))

        return hook

    try:
        for name, module in model.named_modules():
            if name and (name == only if only is not None else not list(module.children())):
                hooks.append(module.register_forward_hook(keep(name)))
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def layers(run_folder: str) -> list[dict[str, Any]]:
    """name, call (from 1), kind and shape (C, H, W) of every output that keeps places, in the order of the calls."""
    found = loaded(run_folder)
    side = found.preprocess.crop
    with outputs_of(found.model) as outputs, torch.inference_mode():
        found.model(torch.zeros(1, found.preprocess.channels, side, side))
    calls: dict[str, int] = {}
    rows = []
    for name, module, output in outputs:
        calls[name] = calls.get(name, 0) + 1
        if isinstance(module, nn.Identity | nn.Dropout):  # what came before, once more
            continue
        if output.ndim == 4 and output.shape[2] > 1 and output.shape[3] > 1:
            rows.append({"name": name, "call": calls[name], "kind": type(module).__name__, "shape": tuple(output.shape[1:])})
    return rows


def feature_maps(run_folder: str, file: str, layer: str, call: int, first: int, count: int) -> dict[str, Any]:
    """Some of a layer's channels for a picture, strongest first.

    channels: their numbers; strength: mean absolute output of each; maps (count, H, W) float32; low and high: of all channels.
    """
    found = loaded(run_folder)
    if layer not in dict(found.model.named_modules()):
        raise Invalid(f"This network has no layer “{layer}”.", "Choose another layer.")
    x = normalised([read(file, found.preprocess)], found.preprocess)
    with outputs_of(found.model, layer) as outputs, torch.inference_mode():
        found.model(x)
    if not 1 <= call <= len(outputs) or outputs[call - 1][2].ndim != 4:
        raise Invalid(f"The layer “{layer}” gives no maps.", "Choose another layer.")
    values = outputs[call - 1][2][0].float().numpy()
    strength = np.abs(values).mean((1, 2))
    order = np.argsort(-strength, kind="stable")[first : first + count]
    return {
        "channels": order.tolist(),
        "strength": strength[order].tolist(),
        "total": len(values),
        "maps": np.ascontiguousarray(values[order]),
        "low": float(values.min()),
        "high": float(values.max()),
    }


# Filters ------------------------------------------------------------------------------------------


def filters(run_folder: str) -> dict[str, Any]:
    """What the first layer looks for, as pictures.

    kind: convolution, dense, classes, means or none; name of the layer; pictures: (N, C, H, W) float32 weights, C 1 or 3, or for means
    a list of (S, S, 3) uint8 or None; total.
    """
    found = loaded(run_folder)
    if isinstance(found.model, Similarity):
        return {"kind": "means", "name": "", "pictures": mean_images(run_folder), "total": len(found.classes)}
    how = found.preprocess
    for name, module in found.model.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.weight.shape[1] not in (1, 3):
                break
            weights = module.weight.detach().float().numpy()
            return {"kind": "convolution", "name": name, "pictures": weights[:MOST_FILTERS].copy(), "total": len(weights)}
        if isinstance(module, nn.Linear):
            if module.in_features != how.channels * how.crop**2:
                break
            weights = module.weight.detach().float().numpy().reshape(-1, how.channels, how.crop, how.crop)
            kind = "classes" if name == found.architecture.head and len(weights) == len(found.classes) else "dense"
            return {"kind": kind, "name": name, "pictures": weights[:MOST_FILTERS].copy(), "total": len(weights)}
    return {"kind": "none", "name": "", "pictures": np.empty((0, 1, 1, 1), np.float32), "total": 0}


# Neighbours ---------------------------------------------------------------------------------------


def no_features(run_folder: str) -> str:
    """Why images cannot be compared as the network sees them; "" where they can."""
    found = loaded(run_folder)
    if isinstance(found.model, Similarity):
        return f"{found.architecture.title} compares pixels with mean images: it has no features of its own to compare images by."
    return ""


def compare(run_folder: str, dataset_id: int, out: str, progress: str) -> None:
    """Writes into out the unit features (the input of the head) of the run's training images, on the way `done total` into progress."""
    if Path(out).exists():
        return
    reported = 0.0

    def report(done: int, total: int) -> None:
        nonlocal reported
        if done == total or time.monotonic() - reported > 0.25:
            reported = time.monotonic()
            Path(progress).write_text(f"{done} {total}", encoding="ascii")

    try:
        found = load(Path(run_folder))  # a copy of its own: the served one keeps its head
        training = [row for row in runs.snapshot_rows(Path(run_folder)) if row.split == "train"]
        width = head_of(found.model, found.architecture).in_features
        chosen = sorted(training, key=_drawn)[: min(MOST_COMPARED, MOST_BYTES // (4 * width))]
        pixels = pixel_rows(settings().cache, dataset_id, found.preprocess, chosen, report)
        features = _features(found, pixels, report)
        arrays: dict[str, Any] = {
            "ids": np.array([row.image_id for row in pixels.rows]),
            "labels": np.array([found.classes.index(row.label) for row in pixels.rows]),
            "features": _unit(features),
            "training": np.array(len(training)),
        }
        save_arrays(Path(out), arrays)
    finally:
        Path(progress).unlink(missing_ok=True)


def _drawn(row: SnapshotRow) -> str:
    return hashlib.sha256(row.image_id.encode()).hexdigest()


def _features(found: LoadedModel, pixels: Pixels, report: Any) -> np.ndarray:
    """(N, F) float32."""
    width = head_of(found.model, found.architecture).in_features
    set_module(found.model, found.architecture.head, nn.Identity())
    normalise, forward = Normalise(found.preprocess, CPU), fastest(found.model, found.preprocess, CPU, len(pixels.rows))
    features = np.empty((len(pixels.rows), width), np.float32)
    done = 0
    report(0, len(features))
    for number, source in enumerate(pixels.sources):
        rows = np.flatnonzero(pixels.part == number)
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            features[some] = forward(normalise(torch.from_numpy(source[pixels.index[some]])))
            done += len(some)
            report(done, len(features))
    return features


def _unit(features: np.ndarray) -> np.ndarray:
    return np.asarray(features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-12), np.float32)


def neighbours(run_folder: str, file: str, stored: str, image_id: str, count: int) -> dict[str, Any]:
    """ids, labels (numbers) and cosine similarities of the nearest training images, the picture itself left out; compared, training."""
    found = loaded(run_folder)
    try:
        with np.load(stored, allow_pickle=False) as arrays:
            ids, labels, features, training = (arrays[key] for key in ("ids", "labels", "features", "training"))
    except FileNotFoundError:
        raise NotFound("The training images are not compared yet.", "Compare them first.") from None
    mine = _unit(feature(found, normalised([read(file, found.preprocess)], found.preprocess)))[0]
    similarity = np.where(ids == image_id, -np.inf, features @ mine)
    order = np.argsort(-similarity, kind="stable")[: min(count, int(np.isfinite(similarity).sum()))]
    return {
        "ids": ids[order].tolist(),
        "labels": labels[order].tolist(),
        "similarity": similarity[order].tolist(),
        "compared": len(ids),
        "training": int(training),
    }


def feature(found: LoadedModel, x: Tensor) -> np.ndarray:
    """(N, F) float32: what the head receives."""
    received: list[Tensor] = []
    hook = head_of(found.model, found.architecture).register_forward_pre_hook(lambda _, args: received.append(args[0].detach()))
    try:
        with torch.inference_mode():
            found.model(x)
    finally:
        hook.remove()
    return received[0].flatten(1).float().numpy()
