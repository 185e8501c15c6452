"""Superpixels: a picture divided along its edges into connected regions of like colour."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from core.types import Preprocess


def superpixels(x: Tensor, preprocess: Preprocess, count: int) -> np.ndarray:
    """(H, W) int64 numbers from 0 of about count regions of a normalised (C, H, W) picture (SLIC, Achanta et al. 2012)."""
    from skimage.segmentation import slic  # 0.4 s, which most maps do without

    pixels = seen(x, preprocess)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)  # SLIC measures colours in Lab, which grey has only as a colour
    # Not blurred before, which would move the regions' borders off the edges; compact instead, against ragged ones.
    found: np.ndarray = slic(pixels, n_segments=count, compactness=20, sigma=0, start_label=0, channel_axis=2)
    numbers = np.unique(found, return_inverse=True)[1].reshape(found.shape).astype(np.int64)
    return numbers if numbers.max() > 0 else grid(x.shape[1], x.shape[2])


def grid(height: int, width: int) -> np.ndarray:
    """(H, W) int64 numbers of four quarters, for a picture in which SLIC sees one region only."""
    rows, columns = np.arange(height) * 2 // height, np.arange(width) * 2 // width
    return (2 * rows[:, None] + columns[None, :]).astype(np.int64)


def seen(x: Tensor, preprocess: Preprocess) -> np.ndarray:
    """(H, W, C) float64 values in 0..1 of a normalised (C, H, W) picture."""
    values = x.detach().cpu().double().permute(1, 2, 0).numpy()
    seen: np.ndarray = np.clip(values * np.array(preprocess.std) + np.array(preprocess.mean), 0, 1)
    return seen
