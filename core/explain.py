"""Why a network answered as it did: attribution maps over the picture it saw."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from core import catalog, images, launch, networks, runs
from core.errors import Invalid
from core.types import Attribution

RED, BLUE = (214, 39, 40), (31, 93, 200)


def methods(run_id: str) -> list[str]:
    """The methods that work for the run's network; Grad-CAM needs a convolution."""
    arch = networks.of(runs.load(runs.trained(run_id)).config)
    return [m for m in catalog.METHODS if arch.cam_layer or m != "grad_cam"]


def ask(run_id: str, file: Path, method: str, target: str | None = None) -> Future[Any]:
    """Queues one map in the model worker; read it with answer(). No target: the likeliest class."""
    path = runs.trained(run_id)
    catalog.method(method)
    classes = runs.load(path).classes
    if target is not None and target not in classes:
        raise Invalid(f"“{target}” is not a class of this run.", f"Its classes are: {', '.join(classes)}.")
    return launch.submit("core.ml.attribute", "attribute", str(path), str(file), method, None if target is None else classes.index(target))


def answer(run_id: str, image_id: str, method: str, future: Future[Any]) -> Attribution:
    row = launch.result(future)
    classes = runs.load(runs.trained(run_id)).classes
    return Attribution(run_id, image_id, method, classes[row["target"]], row["probability"], row["image"], row["map"], row["delta"])


def explain(run_id: str, file: Path, method: str, target: str | None = None) -> Attribution:
    return answer(run_id, file.stem, method, ask(run_id, file, method, target))


def scale(maps: list[np.ndarray]) -> float:
    """One colour scale for maps that are compared: their 99.5th percentile of strength."""
    return float(max((np.percentile(np.abs(m), 99.5) for m in maps), default=1.0)) or 1.0


def map_png(values: np.ndarray, strength: float) -> bytes:
    """(H, W) signed values as a PNG: red for, blue against, more opaque where stronger."""
    alpha = np.clip(np.abs(values) / strength, 0, 1)
    rgba = np.empty((*values.shape, 4), np.uint8)
    rgba[..., :3] = np.where(values[..., None] >= 0, RED, BLUE)
    rgba[..., 3] = (alpha * 255).round()
    return images.png(rgba)


def picture_png(attribution: Attribution) -> bytes:
    """The picture the network saw."""
    return images.png(attribution.image)


def overlay_png(attribution: Attribution, opacity: float = 0.7) -> bytes:
    """The map laid over the picture the network saw, in one file."""
    values, strength = attribution.map, scale([attribution.map])
    alpha = (np.clip(np.abs(values) / strength, 0, 1) * opacity)[..., None]
    colour = np.where(values[..., None] >= 0, RED, BLUE)
    return images.png((attribution.image * (1 - alpha) + colour * alpha).round().astype(np.uint8))
