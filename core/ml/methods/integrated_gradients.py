"""The gradients on the straight way from a baseline to the picture, added up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.catalog.method_params import BASELINE
from core.types import Method, Param

if TYPE_CHECKING:
    from torch import Tensor

    from core.ml.attribute import Batch

FIRST, MORE, MOST = 17, 16, 257  # points on the way: at first, in each round after, and at most
# Of the change in score: how far the sum may miss it, and how far the parts of the way together, which may miss to either side.
MISSED, MISSED_BY_PARTS = 0.02, 0.2

METHOD = Method(
    "integrated_gradients",
    "Integrated Gradients",
    "Adds up the sensitivity on the way from an average picture to this one.",
    "The parts should add up to the change in score; how nearly they do stands under the map.",
    "Sundararajan et al. 2017, arXiv:1703.01365; by itself the points lie close where the score is rough, and not evenly",
    order=40,
    params=(
        Param(
            "steps", "Steps", "int", 0,
            f"Points on the way, evenly spread. 0: as many as it takes until the parts add up, {MOST} at most, close where the score is rough.",
            "method", low=0, high=512,
        ),
        BASELINE,
    ),
    passes=lambda settings, height, width: int(settings["steps"]) or MOST,
    passes_at_most=True,
    sums_to="change",
)  # fmt: skip


def attribute(batch: Batch) -> Tensor:
    if not batch.settings["steps"]:
        return until_it_adds_up(batch)
    from captum.attr import IntegratedGradients

    return IntegratedGradients(batch.forward).attribute(
        batch.x,
        baselines=batch.baseline,
        target=batch.target,
        n_steps=batch.settings["steps"],
        internal_batch_size=batch.internal_batch_size,
    )


def until_it_adds_up(batch: Batch) -> Tensor:
    """(1, 1, H, W) by trapezoids: those that miss their own change in score most are halved, until the sum is met or MOST points are used.

    Near the mean picture a normalised network is rough: of EfficientNet-Lite0's slope all but a hundredth of the spread lies in the first
    eighth of the way, where even steps place one point of eight.
    """
    import torch

    start, way = batch.baseline, batch.x - batch.baseline
    places, scores, slopes = way.new_empty(0), way.new_empty(0, dtype=torch.float64), way.new_empty(0, 1, *way.shape[2:])
    fresh = torch.linspace(0, 1, FIRST, device=way.device)
    while True:
        for some in torch.split(fresh, batch.internal_batch_size):
            points = (start + some.view(-1, 1, 1, 1) * way).requires_grad_()
            answers = batch.forward(points)[:, batch.target]
            (gradient,) = torch.autograd.grad(answers.sum(), points)
            scores = torch.cat([scores, answers.detach().double()])
            slopes = torch.cat([slopes, (gradient * way).sum(1, keepdim=True)])
        places = torch.cat([places, fresh])
        order = places.argsort()
        places, scores, slopes = places[order], scores[order], slopes[order]
        widths, slope = places.diff(), slopes.sum((1, 2, 3)).double()
        missed = widths * (slope[1:] + slope[:-1]) / 2 - scores.diff()
        change = abs(float(scores[-1] - scores[0]))
        if (abs(float(missed.sum())) <= MISSED * change and float(missed.abs().sum()) <= MISSED_BY_PARTS * change) or len(places) >= MOST:
            weights = (torch.cat([widths, widths.new_zeros(1)]) + torch.cat([widths.new_zeros(1), widths])) / 2
            return torch.einsum("n,nchw->chw", weights, slopes)[None]
        worst = missed.abs().topk(MORE).indices
        fresh = (places[worst] + places[worst + 1]) / 2
