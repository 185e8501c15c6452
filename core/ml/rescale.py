"""DeepLift's rescale rule (Shrikumar et al. 2017, arXiv:1704.02685, section 3.5.1): a change in score, shared out among the pixels.

Captum's DeepLift sends picture and baseline forth and back together, knows no ReLU6, and where windows of a pooling overlap it gives a
pixel that wins in two of them the share of one. A copy written with ReLUs alone, which it needs for EfficientNet-Lite0, takes it five
times as long.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.ml.rewrite import POINTWISE


def share_out(model: nn.Module, x: Tensor, baseline: Tensor, targets: list[int]) -> tuple[Tensor, Tensor]:
    """The (n, C, H, W) parts of (n, C, H, W) pictures, and the (n,) changes in score from the baseline that they share out.

    In the model every activation and pooling is a module that is used once, and not in place.
    """
    references: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def remember(module: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
        references[module] = args[0], out

    def replace(module: nn.Module, args: tuple[Tensor], out: Tensor) -> Tensor:
        before, after = references.pop(module)
        if isinstance(module, nn.MaxPool2d):
            share: Tensor = Pooled.apply(args[0], before, after, module)
        else:
            share = Scaled.apply(args[0], out.detach(), multiplier(module, args[0].detach(), out.detach(), before, after))
        return share

    parts: list[nn.Module] = [m for m in model.modules() if isinstance(m, (*POINTWISE, nn.MaxPool2d))]
    rows = list(range(len(x)))
    with torch.no_grad(), hooked(parts, remember):
        low = model(baseline)[rows, targets]
    picture = x.detach().requires_grad_()
    with torch.enable_grad(), hooked(parts, replace):
        high = model(picture)[rows, targets]
        (slope,) = torch.autograd.grad(high.sum(), picture)
    return slope * (picture.detach() - baseline), high.detach().double() - low.double()


class hooked:
    """Within it the hook hears of every call of the modules."""

    def __init__(self, modules: list[nn.Module], hook: Any) -> None:
        self.modules, self.hook = modules, hook

    def __enter__(self) -> None:
        self.handles = [module.register_forward_hook(self.hook) for module in self.modules]

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()


def multiplier(module: nn.Module, x: Tensor, y: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """How much an activation's output changes for each change of its input."""
    found = (y - after).div_(x - before)
    if found.sum().isnan():  # 0 / 0: somewhere the input is as it was
        with torch.enable_grad():
            place = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(module.forward(place).sum(), place)
        found = torch.where(found.isnan(), slope, found)
    return found


class Scaled(torch.autograd.Function):
    """An activation's output, whose slope is the multiplier."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, multiplier: Tensor) -> Tensor:
        ctx.save_for_backward(multiplier)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, None, None]:
        (multiplier,) = ctx.saved_tensors
        return given[0] * multiplier, None, None


class Pooled(torch.autograd.Function):
    """A maximum: what it rises above the baseline's goes to the pixel that wins in the picture, what it falls below to the one that won."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, before: Tensor, after: Tensor, pool: nn.MaxPool2d) -> Tensor:
        how = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
        out, winner = F.max_pool2d(x, *how, return_indices=True)
        _, earlier = F.max_pool2d(before, *how, return_indices=True)
        ctx.save_for_backward(x - before, out, after, winner, earlier)
        return out

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, None, None, None]:
        change, out, after, winner, earlier = ctx.saved_tensors
        share, top = torch.zeros_like(change).flatten(2), torch.maximum(out, after)
        share.scatter_add_(2, winner.flatten(2), (given[0] * (top - after)).flatten(2))
        share.scatter_add_(2, earlier.flatten(2), (given[0] * (out - top)).flatten(2))
        return torch.where(change == 0, 0, share.view_as(change) / change), None, None, None
