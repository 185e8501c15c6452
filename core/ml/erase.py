"""Erase and ask again: a part of the picture is filled with something else, and the network answers once more."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from skimage.restoration import inpaint_biharmonic
from torch.nn import functional as F

from core.data import images
from core.errors import Invalid
from core.ml.infer import loaded, normalised, probabilities, read
from core.types import Preprocess

FILLS = ("blur", "grey", "inpaint")
BLUR = 1 / 14  # of the longer side: the sigma that leaves colours and takes shapes
MOST_UNKNOWN = 4000  # pixels solved for at once: 40 ms; a larger region is filled at a coarser size


def erase(run_folder: str, file: str, mask: bytes, fill: str) -> dict[str, Any]:
    """The answer for the picture with the masked pixels filled.

    mask: one bit a pixel of the picture the network sees, row by row, most significant bit first; empty: nothing is erased.
    width, height, probabilities, share (of the pixels erased), picture: PNG, the whole one without a mask, else the filled pixels
    alone on a transparent ground.
    """
    if fill not in FILLS:
        raise Invalid(f"“{fill}” is no way to fill a region.", f"Use one of: {', '.join(FILLS)}.")
    found = loaded(run_folder)
    array = _read(file, found.preprocess)
    _, high, wide = array.shape
    chosen = np.zeros((high, wide), bool)
    if mask:
        if len(mask) != -(-high * wide // 8):
            raise Invalid(f"The mask is not one of {wide} × {high} pixels.", "Reload the page.")
        chosen = np.unpackbits(np.frombuffer(mask, np.uint8), count=high * wide).reshape(high, wide).astype(bool)
        array = filled(array, chosen, fill, found.preprocess)
    with torch.inference_mode():
        answer = probabilities(found.model(normalised([array], found.preprocess)))[0]
    picture = images.as_seen(array)
    if mask:
        alpha = (chosen * 255).astype(np.uint8)[..., None]
        picture = np.concatenate([picture * (alpha > 0), alpha], axis=2)
    return {
        "width": wide,
        "height": high,
        "share": float(chosen.mean()),
        "probabilities": answer,
        "picture": images.png(np.ascontiguousarray(picture)),
    }


@lru_cache(maxsize=8)  # the pictures that are being painted on
def _read(file: str, preprocess: Preprocess) -> np.ndarray:
    if not Path(file).exists():
        raise Invalid("This picture is not stored any more.", "Choose another picture.")
    return read(file, preprocess)


def filled(array: np.ndarray, chosen: np.ndarray, fill: str, preprocess: Preprocess) -> np.ndarray:
    """(C, H, W) uint8 with the chosen (H, W) pixels replaced."""
    if not chosen.any():
        return array
    if fill == "inpaint" and not chosen.all():
        other = _inpainted(array, chosen)
    else:
        other = cover(array, "blur" if fill == "blur" else "grey", preprocess)
    return np.where(chosen, other, array)


def cover(array: np.ndarray, fill: str, preprocess: Preprocess) -> np.ndarray:
    """The whole (C, H, W) picture blurred, or of the mean colour of the run's training images (for a pretrained network: of its own)."""
    if fill == "grey":
        colour = np.round(np.array(preprocess.mean) * 255).astype(np.uint8)
        return np.broadcast_to(colour[:, None, None], array.shape)
    sigma = max(1.0, BLUR * max(array.shape[1:]))
    return rounded(gaussian_filter(array.astype(np.float32), (0, sigma, sigma), mode="nearest"))


def rounded(values: Any) -> np.ndarray:
    whole: np.ndarray = np.asarray(values).round().clip(0, 255).astype(np.uint8)
    return whole


def _inpainted(array: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The smoothest continuation of what lies around (biharmonic equation, Damelin and Hoang 2018, as in scikit-image).

    224 × 224 with 12,000 pixels unknown takes 140 ms whole and 25 ms at half size, and no shape would show the difference.
    """
    factor = max(1, int(np.ceil(np.sqrt(chosen.sum() / MOST_UNKNOWN))))
    _, high, wide = array.shape
    below, right = -high % factor, -wide % factor

    def blocks(values: np.ndarray) -> np.ndarray:
        """Sums over squares of factor × factor."""
        padded = np.pad(values, ((0, 0), (0, below), (0, right)))
        squares = padded.reshape(len(values), (high + below) // factor, factor, (wide + right) // factor, factor)
        return np.asarray(squares.sum((2, 4)))

    known = blocks((~chosen)[None].astype(np.float32))
    coarse = blocks(np.where(chosen, 0, array).astype(np.float32)) / np.maximum(known, 1)
    unknown = known[0] == 0
    if unknown.any():
        coarse = inpaint_biharmonic(coarse / 255, unknown, channel_axis=0) * 255
    if factor > 1:
        tensor = torch.from_numpy(np.asarray(coarse, np.float32))[None]
        coarse = F.interpolate(tensor, scale_factor=factor, mode="bilinear", align_corners=False)[0].numpy()[:, :high, :wide]
    return rounded(coarse)
