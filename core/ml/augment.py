"""Random changes of training images, whole batches at a time, and their normalisation."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from core.ml.data import Normalise
from core.types import Preprocess, RunConfig

OPERATIONS = 2  # of RandAugment, for each image; its paper's choice for ImageNet


class Augment:
    """Every image of a batch gets changes of its own; random numbers come from torch's generator of the CPU."""

    def __init__(self, config: RunConfig, preprocess: Preprocess, classes: int, device: torch.device) -> None:
        self.config, self.normalise, self.classes = config, Normalise(preprocess, device), classes
        if config.randaugment or config.mixup or config.cutmix:
            from torchvision.transforms import v2  # 1.5 s, which nobody else need wait for

            self.randaugment = v2.RandAugment(OPERATIONS, config.randaugment)
            if config.mixup:
                self.mix = v2.MixUp(alpha=config.mixup, num_classes=classes)
            if config.cutmix:
                self.mix = v2.CutMix(alpha=config.cutmix, num_classes=classes)

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised (B, C, H, W) float32 from uint8, and (B,) labels, or (B, classes) shares where images are mixed."""
        x = self.normalise(self.changed(x))
        if self.config.mixup or self.config.cutmix:
            x, y = self.mix(x, y)
        return x, y

    def changed(self, x: Tensor) -> Tensor:
        """(B, C, H, W) uint8 to float32 of 0..255, before any mixing."""
        config = self.config
        if config.randaugment:
            x = torch.stack([self.randaugment(one) for one in x.contiguous()])
        x = x.float()
        if config.crop or config.rotate:
            x = warped(x, config)
        elif config.flip != "none":
            for axis in (-1, -2) if config.flip == "both" else (-1,):
                x = torch.where(yes(len(x), x.device)[:, None, None, None], x.flip(axis), x)
        return recoloured(x, config.color) if config.color else x


def yes(n: int, device: torch.device) -> Tensor:
    """(N,) bool, each true half of the time."""
    return (torch.rand(n) < 0.5).to(device)


def warped(x: Tensor, config: RunConfig) -> Tensor:
    """Flip, crop and rotation as one resampling; outside a picture its border goes on."""
    n, (height, width) = len(x), x.shape[-2:]
    scale = 1 - config.crop * torch.rand(n)
    angle = math.radians(config.rotate) * (2 * torch.rand(n) - 1)
    shift = (1 - scale)[:, None] * (2 * torch.rand(n, 2) - 1)
    mirrored = [1 - 2 * (torch.rand(n) < 0.5).float() if wanted else torch.ones(n) for wanted in flips(config)]
    cos, sin = scale * angle.cos(), scale * angle.sin()
    # grid_sample counts from -1 to 1 along either side, so a turn in a rectangle has to allow for the sides' ratio.
    rows = [torch.stack([cos * mirrored[0], -sin * mirrored[1] * height / width, shift[:, 0]], 1)]
    rows += [torch.stack([sin * mirrored[0] * width / height, cos * mirrored[1], shift[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1).to(x.device), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def flips(config: RunConfig) -> tuple[bool, bool]:
    """Left and right; up and down."""
    return config.flip != "none", config.flip == "both"


def recoloured(x: Tensor, strength: float) -> Tensor:
    """Brightness, contrast and, of colour images, saturation, each times 1 ± strength."""
    brightness, contrast, saturation = (1 + strength * (2 * torch.rand(len(x), 1, 1, 1) - 1).to(x.device) for _ in range(3))
    x = x * brightness
    middle = x.mean((1, 2, 3), keepdim=True)
    x = middle + contrast * (x - middle)
    if x.shape[1] == 3:
        grey = x.mean(1, keepdim=True)
        x = grey + saturation * (x - grey)
    return x.clamp(0, 255)


def show(config: RunConfig, preprocess: Preprocess, picture: Tensor, other: Tensor, seed: int, count: int = 9) -> Tensor:
    """(count, C, H, W) uint8: what training might make of a (C, H, W) uint8 picture; the other one is what it is mixed with."""
    augment = Augment(config, preprocess, 2, torch.device("cpu"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        both = torch.stack([picture, other] * count)  # mixing takes the neighbour before
        x, _ = augment(both, torch.arange(2).repeat(count))
    mean, std = (torch.tensor(v)[:, None, None] for v in (preprocess.mean, preprocess.std))
    return ((x[::2] * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
