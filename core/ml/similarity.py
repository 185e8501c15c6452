"""Pixel similarity: the mean image of each class, and the nearest of them as the answer; nothing is trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

Distance = Literal["l1", "l2"]
NEVER_SEEN = 10.0  # of a class without training images: pixels lie in 0..1, so its mean image is nearest to none


class Similarity(nn.Module):
    """(N, C, S, S) pixels in 0..1 to (N, classes) logits: minus the distance to the mean image of each class.

    The softmax of these logits orders the classes, but it is no probability: distances hardly differ from one another.
    """

    means: Tensor  # (classes, C, S, S)

    def __init__(self, distance: Distance, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.distance = distance
        self.register_buffer("means", torch.full((classes, channels, side, side), NEVER_SEEN))

    def learn(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Takes the means of (B, C, S, S) pixels with their (B,) classes, in one pass."""
        sums = torch.zeros_like(self.means).flatten(1)
        counts = sums.new_zeros(len(sums))
        for x, y in batches:
            belongs = nn.functional.one_hot(y, len(sums)).to(x.dtype)  # (B, classes)
            sums += belongs.T @ x.flatten(1)
            counts += belongs.sum(0)
        seen = counts > 0
        self.means[seen] = (sums[seen] / counts[seen, None]).view(-1, *self.means.shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        # Class by class: all differences at once would take as many copies of the batch as there are classes.
        return -torch.stack([distance(x, mean, self.distance) for mean in self.means], 1)


def distance(x: Tensor, mean: Tensor, kind: Distance) -> Tensor:
    """(N,) mean absolute (L1) or root mean square (L2) difference of (N, C, S, S) pictures from one of (C, S, S)."""
    difference = (x - mean).flatten(1)
    if kind == "l1":
        return difference.abs().mean(1)
    return difference.square().mean(1).clamp(min=1e-12).sqrt()  # the slope of the root is infinite at 0
