"""Pictures without evidence, with which attribution methods compare one."""

from __future__ import annotations

import torch
from torch import Tensor

from core.types import Preprocess

BLUR = 0.1  # standard deviation of the blurred picture, as a share of its shorter side


def extremes(preprocess: Preprocess) -> tuple[Tensor, Tensor]:
    """Black and white as the network receives them, (1, C, 1, 1)."""
    mean, std = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (preprocess.mean, preprocess.std))
    return (0 - mean) / std, (1 - mean) / std


def baseline(preprocess: Preprocess, x: Tensor, kind: str) -> Tensor:
    """(N, C, H, W) pictures without evidence; mean is zero."""
    if kind == "mean":
        return torch.zeros_like(x)
    if kind == "blur":
        from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]  # 0.4 s, for this kind alone

        deviation = BLUR * min(x.shape[2:])
        return torch.from_numpy(gaussian_filter(x.detach().cpu().numpy(), (0, 0, deviation, deviation), mode="nearest")).to(x.device)
    low, high = extremes(preprocess)
    return (low if kind == "black" else high).to(x.device).expand_as(x).clone()
