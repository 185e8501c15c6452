"""What training makes of one image, nine times; asked in the model worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from core.catalog.networks import preprocess_for
from core.data import images
from core.ml.augment import show
from core.ml.infer import read
from core.types import RunConfig

ROW = 3
SIDE = 120  # pixels, at least, that one of the nine has on the page
GAP = 4


def variants(config: RunConfig, sizes: Sequence[tuple[int, int, int]], file: str, other: str, seed: int, bits: int) -> bytes:
    """Nine draws of the augmentation as one PNG, three by three; sizes: (width, height, channels) of some training images."""
    preprocess = replace(preprocess_for(config, sizes), bits=bits)
    picture, mate = (torch.from_numpy(read(path, preprocess).copy()) for path in (file, other))
    if mate.shape != picture.shape:  # in training only pictures of one shape meet
        mate = F.interpolate(mate[None].float(), list(picture.shape[1:]))[0].to(torch.uint8)
    drawn = show(config, preprocess, picture, mate, seed, ROW * ROW).numpy()
    return images.png(together([images.as_seen(one) for one in drawn]))


def together(pictures: list[np.ndarray]) -> np.ndarray:
    """(H, W, 3) pictures in rows of three with clear gaps: (H, W, 4); small ones enlarged pixel by pixel."""
    height, width = pictures[0].shape[:2]
    factor = -(-SIDE // max(height, width))
    whole = np.zeros((ROW * (height * factor + GAP) - GAP, ROW * (width * factor + GAP) - GAP, 4), np.uint8)
    for i, one in enumerate(pictures):
        top, left = i // ROW * (height * factor + GAP), i % ROW * (width * factor + GAP)
        large = one.repeat(factor, 0).repeat(factor, 1)
        whole[top : top + height * factor, left : left + width * factor] = np.dstack([large, np.full(large.shape[:2], 255, np.uint8)])
    return whole
