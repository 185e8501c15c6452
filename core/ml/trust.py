"""Can a map be trusted: what covering the pixels it marks does to the answer, and whether it depends on what was learned."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from captum.metrics import infidelity, sensitivity_max
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from core import images, runs
from core.ml import attribute
from core.ml.erase import cover
from core.ml.infer import loaded, normalised, read
from core.ml.model import LoadedModel, create
from core.types import RunConfig

PER_CALL = 16  # pictures in one forward pass
SQUARE = 1 / 5  # of the shorter side: what is covered at once for infidelity
STAGES = (0, 0.25, 0.5, 0.75, 1)  # of the layers that a cascade has made random, from the last; 0: the last alone

Tick = Callable[[int, int], None]


class Parts:
    """Parts of equal weight, told as one: tick(thousandths done, 1000) may raise core.ml.data.Stopped."""

    def __init__(self, parts: int, tick: Tick | None) -> None:
        self.parts, self.tick, self.ended = parts, tick, 0

    def within(self, done: int, total: int) -> None:
        if self.tick is not None:
            self.tick(min(1000, round(1000 * (self.ended + done / max(1, total)) / self.parts)), 1000)

    def end(self, parts: int = 1) -> None:
        self.ended += parts
        self.within(0, 1)


def trust(
    run_folder: str, file: str, method: str, target: int, settings: Mapping[str, Any], how: Mapping[str, Any], tick: Tick | None = None
) -> dict[str, Any]:
    """What one method's map of one picture is worth; settings: the method's, how: those of core.trust.PARAMS, all of them.

    image (H, W, 3) uint8, map (H, W) float32, random_map of the first random network or None, deletion and insertion as of
    curves(), completeness as of completeness(), randomised: rows as of alike(), infidelity, sensitivity; None where undefined.
    """
    found, config = loaded(run_folder), runs.load(runs.Path(run_folder)).config
    array = read(file, found.preprocess)
    return {"image": images.as_seen(array), **check(found, config, array, method, target, settings, how, tick)}


def check(
    found: LoadedModel,
    config: RunConfig,
    array: np.ndarray,
    method: str,
    target: int,
    settings: Mapping[str, Any],
    how: Mapping[str, Any],
    tick: Tick | None = None,
) -> dict[str, Any]:
    """The same for a network that is loaded and a picture (C, H, W) uint8."""
    networks = how["networks"] if how["randomise"] == "whole" else len(STAGES)
    parts = Parts(1 + 2 + networks + 1 + how["noise"] + 1, tick)
    seed = how["seed"]

    def explained(network: LoadedModel, x: Tensor, report: Tick | None = parts.within) -> attribute.Maps:
        return attribute.maps(network, x, method, [target] * len(x), settings, report)

    x = normalised([array], found.preprocess)
    first = explained(found, x)
    values = first.map[0]
    parts.end()
    covered = normalised([cover(array, how["cover"], found.preprocess)], found.preprocess)
    blurred = normalised([cover(array, "blur", found.preprocess)], found.preprocess)
    answers: dict[str, Any] = {}
    for name, start, end in (("deletion", x, covered), ("insertion", blurred, x)):
        answers[name] = curves(found, start, end, values, target, how, parts.within)
        parts.end()
    rows, random_map = [], None
    for share, network in random_networks(found, config, how):
        other = explained(replace(found, model=network), x).map[0]
        random_map = other if random_map is None or how["randomise"] == "cascading" else random_map
        rows.append({"share": share, **alike(values, other)})
        parts.end()
    told = foretold(found, x, values, target, how["squares"], seed)
    parts.end()
    return {
        "map": values,
        "random_map": random_map,
        **answers,
        "completeness": completeness(values, None if first.delta is None else float(first.delta[0])),
        "randomised": rows,
        "infidelity": told,
        "sensitivity": sensitivity(lambda noisy: explained(found, noisy).map, x, how["noise"], how["radius"], seed, parts),
    }


# Deletion and insertion ---------------------------------------------------------------------------


def curves(
    found: LoadedModel, start: Tensor, end: Tensor, values: np.ndarray, target: int, how: Mapping[str, Any], tick: Tick
) -> dict[str, Any] | None:
    """Probability of the target while the pixels of one picture give way to those of another, most important first.

    Petsiuk et al. 2018, RISE, arXiv:1806.07421. own, reverse (or None): probabilities of steps + 1 pictures; random: the same for
    each draw; None for a map that marks nothing. Departure: the yardstick is not single pixels in random order but the map itself,
    moved and mirrored at random: it covers in patches of the same grain, for single pixels mislead a network most of all.
    """
    if values.max() == values.min():
        return None
    random = np.random.default_rng(how["seed"])
    orders = [ranked(values, random)] + ([ranked(-values, random)] if how["reverse"] else [])
    orders += [ranked(moved(values, random), random) for _ in range(how["draws"])]
    done = []
    for i, order in enumerate(orders):
        done.append(curve(found, start, end, order, target, how["steps"]))
        tick(i + 1, len(orders))
    return {"own": done[0], "reverse": done[1] if how["reverse"] else None, "random": done[2 if how["reverse"] else 1 :]}


def ranked(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Indices of the flat (H, W) map, the greatest value first; equal ones in random order."""
    return np.lexsort((random.random(values.size), -values.ravel()))


def moved(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The (H, W) map shifted round its edges and mirrored at random."""
    shifted = np.roll(values, tuple(random.integers(values.shape)), (0, 1))
    return shifted[:: random.choice((1, -1)), :: random.choice((1, -1))]


def curve(found: LoadedModel, start: Tensor, end: Tensor, order: np.ndarray, target: int, steps: int) -> list[float]:
    """Probability of the target with 0, 1/steps, … 1 of the pixels of start (1, C, H, W) replaced by those of end."""
    place = torch.empty(len(order), dtype=torch.long)
    place[torch.from_numpy(order)] = torch.arange(len(order))
    place = place.reshape(start.shape[2:])  # when each pixel's turn is
    counts = [round(i * len(order) / steps) for i in range(steps + 1)]
    answers: list[float] = []
    for some in (counts[i : i + PER_CALL] for i in range(0, len(counts), PER_CALL)):
        batch = torch.cat([torch.where(place < count, end, start) for count in some])
        with torch.inference_mode():
            answers += found.model(batch).double().softmax(1)[:, target].tolist()
    return answers


def area(probabilities: list[float]) -> float:
    """Under the curve, over shares of 0 to 1."""
    return float(np.trapezoid(probabilities, dx=1 / (len(probabilities) - 1)))


# Completeness -------------------------------------------------------------------------------------


def completeness(values: np.ndarray, delta: float | None) -> dict[str, float] | None:
    """delta: how far the sum of the map is from the change in score, change: that change; None where the method promises no sum."""
    return None if delta is None else {"delta": delta, "change": float(values.sum(dtype=np.float64)) - delta}


# Random weights -----------------------------------------------------------------------------------


def random_networks(found: LoadedModel, config: RunConfig, how: Mapping[str, Any]) -> Iterator[tuple[float, nn.Module]]:
    """(share of layers that are random, copy of the network); none where a network has no weights.

    Adebayo et al. 2018, Sanity Checks for Saliency Maps, arXiv:1810.03292. The random weights are those the network would begin
    its training with, so that their sizes are sound; a cascade makes them random from the last layer to the first.
    """
    if not any(True for _ in found.model.parameters()):
        return
    rounds = range(how["networks"]) if how["randomise"] == "whole" else (0,)
    for i in rounds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(how["seed"] + i)
            fresh = create(found.architecture, len(found.classes), found.preprocess, config.layers, config.output)
        fresh.eval().requires_grad_(False)
        names = [name for name, module in fresh.named_modules() if next(module.parameters(recurse=False), None) is not None]
        for stage in (1.0,) if how["randomise"] == "whole" else STAGES:
            some = names[len(names) - max(1, round(stage * len(names))) :]
            network = copy.deepcopy(found.model)
            for name in some:
                network.get_submodule(name).load_state_dict(own_state(fresh.get_submodule(name)), strict=False)
            yield len(some) / len(names), network


def own_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of the module without those of its children."""
    return {name: tensor for name, tensor in module.state_dict().items() if "." not in name}


def alike(one: np.ndarray, other: np.ndarray) -> dict[str, float | None]:
    """rank: Spearman's correlation of the (H, W) maps, strength: that of their absolute values, ssim: of the maps scaled to ±1.

    A map that is the same everywhere has no ranks: None, unless the other is the same, too.
    """
    a, b = (m / (np.abs(m).max() or 1) for m in (one.astype(np.float64), other.astype(np.float64)))
    if np.allclose(a, b, atol=1e-6):
        return {"rank": 1.0, "strength": 1.0, "ssim": 1.0}
    window = min(7, min(a.shape) - 1 + min(a.shape) % 2)  # odd
    ssim = float(structural_similarity(a, b, data_range=2.0, win_size=window)) if window >= 3 else None
    return {"rank": correlation(a, b), "strength": correlation(np.abs(a), np.abs(b)), "ssim": ssim}


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    if a.min() == a.max() or b.min() == b.max():
        return None
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


# Infidelity and sensitivity -----------------------------------------------------------------------


def foretold(found: LoadedModel, x: Tensor, values: np.ndarray, target: int, squares: int, seed: int) -> dict[str, float] | None:
    """infidelity: mean squared error with which the map, scaled as fits best, foretells what covering squares takes from the score;
    unexplained: the same as a share of those changes' mean square; None where nothing changes, or the map is 0 on all squares.

    Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations, arXiv:1901.09392: removal of squares, which become the
    mean picture. agrees: whether the scale that fits best is positive.
    """
    _, channels, high, wide = x.shape
    side = max(1, round(SQUARE * min(high, wide)))
    random = np.random.default_rng(seed)
    masks = torch.zeros(squares, 1, high, wide)
    for mask, y, z in zip(masks, random.integers(high - side + 1, size=squares), random.integers(wide - side + 1, size=squares), strict=True):
        mask[:, y : y + side, z : z + side] = 1
    # Captum wants a map of the picture's shape: each channel carries an equal part of the pixel's value.
    shared = torch.from_numpy(values).expand(1, channels, high, wide) / channels
    taken = iter(masks.split(PER_CALL))

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        some = next(taken)
        return some.expand_as(inputs), inputs * (1 - some)

    with torch.inference_mode():
        score = found.model(x)[0, target]
        changes = torch.cat([score - found.model(x * (1 - some))[:, target] for some in masks.split(PER_CALL)])
    sums = (masks[:, 0] * torch.from_numpy(values)).sum((1, 2))
    squared = float((changes**2).mean())
    if squared < 1e-12 or not sums.any():
        return None
    error = float(infidelity(found.model, perturb, x, shared, target=target, n_perturb_samples=squares, max_examples_per_batch=PER_CALL, normalize=True))
    return {"infidelity": error, "unexplained": max(0.0, error) / squared, "agrees": float(sums @ changes > 0)}


def sensitivity(
    explanation: Callable[[Tensor], np.ndarray], x: Tensor, noise: int, radius: float, seed: int, parts: Parts
) -> float | None:
    """The greatest change of the map under noise of up to radius (normalised units), as a share of its own length (Yeh et al. 2019)."""

    def explained(inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
        given = inputs if isinstance(inputs, Tensor) else inputs[0]
        maps = torch.from_numpy(explanation(given))
        parts.end(len(given))
        return maps

    with attribute.private_randomness(seed):
        changed = float(sensitivity_max(explained, x, perturb_radius=radius, n_perturb_samples=noise, max_examples_per_batch=1))
    return changed if math.isfinite(changed) else None
