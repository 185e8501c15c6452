"""A frozen backbone is run once: its features are kept on disk, and epochs train a head in milliseconds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from core.ml.data import Normalise, Pixels, Progress, RowCache
from core.ml.model import head_of, set_module
from core.types import Architecture, Preprocess

BATCH = 32  # images; about 0.5 s of two CPU cores, so progress and stop stay lively


def run_once(
    model: nn.Module,
    arch: Architecture,
    preprocess: Preprocess,
    pixels: Pixels,
    cache_folder: Path,
    dataset_id: int,
    device: torch.device,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray]:
    """The head's input for every image: all cached rows (M, F) float32, and the (N,) row of each image.

    Full precision: the same image gives the same answer later, through the whole network on another device.
    """
    head = head_of(model, arch)
    place = {row.image_id: int(i) for row, i in zip(pixels.rows, pixels.index, strict=True)}
    normalise = Normalise(preprocess, device)

    def compute(missing: list[str]) -> Iterator[tuple[list[str], np.ndarray]]:
        progress(0, len(missing))
        for start in range(0, len(missing), BATCH):
            some = missing[start : start + BATCH]
            x = torch.from_numpy(pixels.cache[[place[i] for i in some]]).to(device)
            x = normalise(x.contiguous(memory_format=torch.channels_last))
            with torch.inference_mode():
                features: np.ndarray = model(x).float().cpu().numpy()
            yield some, features
            progress(min(start + BATCH, len(missing)), len(missing))

    weights = hashlib.sha256(repr((arch.factory, arch.weights, preprocess)).encode()).hexdigest()[:12]
    cache = RowCache(cache_folder, f"{dataset_id}-features-{arch.name}-{weights}", (head.in_features,), "float32")
    set_module(model, arch.head, nn.Identity())
    try:
        model.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cache.fetch([row.image_id for row in pixels.rows], compute)
    finally:
        set_module(model, arch.head, head.to(device))
