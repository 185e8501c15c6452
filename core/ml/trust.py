"""Can a map be trusted: what covering the pixels it marks does to the answer, and whether it depends on what was learned."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.metrics import infidelity, sensitivity_max
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from core.data import images
from core.ml import attribute, forward_passes
from core.ml.erase import cover
from core.ml.infer import loaded, normalised, read
from core.ml.model import LoadedModel, create
from core.runs import runs
from core.types import RunConfig

PER_CALL = 16  # pictures in one forward pass
SQUARE = 1 / 5  # of the shorter side: what is covered at once for infidelity
STAGES = (0, 0.25, 0.5, 0.75, 1)  # of the layers that a cascade has made random, from the last; 0: the last alone

Tick = Callable[[int, int], None]


class Parts:
    """Parts of equal weight, told as one: tick(thousandths done, 1000) may raise core.errors.Stopped."""

    def __init__(self, parts: int, tick: Tick | None) -> None:
        self.parts, self.tick, self.ended = parts, tick, 0

    def within(self, done: int, total: int) -> None:
        if self.tick is not None:
            self.tick(min(1000, round(1000 * (self.ended + done / max(1, total)) / self.parts)), 1000)

    def end(self, parts: int = 1) -> None:
        self.ended += parts
        self.within(0, 1)


def answer(
    run_folder: str,
    file: str,
    method: str,
    target: int,
    settings: Mapping[str, Any],
    how: Mapping[str, Any],
    out: str,
    progress: str,
    stop: str,
) -> None:
    """Writes what the checks of one method's map of one picture found into the file out; how: core.explain.trust.PARAMS, all of them."""

    def work(tick: Tick) -> dict[str, Any]:
        found, config = loaded(run_folder), runs.load(Path(run_folder)).config
        array = read(file, found.preprocess)
        facts = {"target": target, "how": dict(how), "image": images.as_seen(array)}
        return {**facts, **check(found, config, array, method, target, settings, how, tick)}

    attribute.written(work, out, progress, stop)


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
    """What one method's map of the picture (C, H, W) uint8 is worth; settings: those of the method.

    map (H, W) float32, random_map of the first network with random weights (None where it has no weights), deletion and insertion as
    of curves(), completeness: (delta, change) as in Maps, randomised: share of layers and alike(), infidelity as of foretold(),
    sensitivity; None where undefined.
    """
    networks = rounds(found, how)
    parts = Parts(1 + 2 + len(networks) + 1 + how["noise"] + 1, tick)
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
    for seed_of, layers in networks:
        network, share = randomised(found, config, seed_of, layers)
        other = explained(replace(found, model=network), x).map[0]
        random_map = other if random_map is None or how["randomise"] == "cascading" else random_map
        rows.append({"share": share, **alike(values, other)})
        parts.end()
    told = foretold(found, x, values, target, squares(x, how["squares"], seed))
    parts.end()
    return {
        "map": values,
        "random_map": random_map,
        **answers,
        "completeness": None if first.delta is None or first.change is None else (float(first.delta[0]), float(first.change[0])),
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
    each draw; None for a map that marks nothing. Departure: the yardstick is not single pixels in random order but the map itself, moved and
    mirrored at random: it covers in patches of the same grain, so that only the places differ.
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
    per_call = forward_passes.largest_batch(found, start, gradient=False)
    for some in (counts[i : i + per_call] for i in range(0, len(counts), per_call)):
        batch = torch.cat([torch.where(place < count, end, start) for count in some])
        with torch.inference_mode():
            answers += forward_passes.answers(found, batch).double().softmax(1)[:, target].tolist()
    return answers


# Random weights -----------------------------------------------------------------------------------


def rounds(found: LoadedModel, how: Mapping[str, Any]) -> list[tuple[int, int]]:
    """(seed, number of layers from the last) of each network with random weights; none where a network has no weights."""
    layers = len(weighted(found.model))
    if not layers:
        return []
    if how["randomise"] == "whole":
        return [(how["seed"] + i, layers) for i in range(how["networks"])]
    return [(how["seed"], count) for count in dict.fromkeys(max(1, round(stage * layers)) for stage in STAGES)]


def weighted(model: nn.Module) -> list[str]:
    """Names of the layers with weights of their own, in the order in which the network was built."""
    return [name for name, module in model.named_modules() if next(module.parameters(recurse=False), None) is not None]


def randomised(found: LoadedModel, config: RunConfig, seed: int, layers: int) -> tuple[nn.Module, float]:
    """A copy of the network whose last layers have random weights, and their share of all layers.

    Adebayo et al. 2018, Sanity Checks for Saliency Maps, arXiv:1810.03292. The random weights are those the network would begin
    its training with, so that their sizes are sound; a cascade makes them random from the last layer to the first.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = create(found.architecture, len(found.classes), found.preprocess, config.layers, config.output)
    network, names = copy.deepcopy(found.model), weighted(fresh)
    for name in names[len(names) - layers :]:
        network.get_submodule(name).load_state_dict(own_state(fresh.get_submodule(name)), strict=False)
    return network, layers / len(names)


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
    ssim = float(structural_similarity(a, b, data_range=2.0, win_size=window)) if window >= 3 else None  # type: ignore[no-untyped-call]
    return {"rank": correlation(a, b), "strength": correlation(np.abs(a), np.abs(b)), "ssim": ssim}


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    if a.min() == a.max() or b.min() == b.max():
        return None
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


# Infidelity and sensitivity -----------------------------------------------------------------------


def squares(x: Tensor, number: int, seed: int) -> Tensor:
    """(number, 1, H, W): 1 in a square of each, at random places."""
    high, wide = x.shape[2:]
    side = max(1, round(SQUARE * min(high, wide)))
    random = np.random.default_rng(seed)
    masks = torch.zeros(number, 1, high, wide)
    for mask, y, z in zip(masks, random.integers(high - side + 1, size=number), random.integers(wide - side + 1, size=number), strict=True):
        mask[:, y : y + side, z : z + side] = 1
    return masks


def batches(masks: Tensor) -> tuple[Tensor, ...]:
    return torch.split(masks, PER_CALL)


def foretold(found: LoadedModel, x: Tensor, values: np.ndarray, target: int, masks: Tensor) -> dict[str, Any] | None:
    """infidelity: mean squared error with which the map, scaled as fits best, foretells what covering squares takes from the score;
    unexplained: the same as a share of those changes' mean square; None where nothing changes, or the map is 0 on all squares.

    Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations, arXiv:1901.09392: removal of squares, which become the
    mean picture. agrees: whether the scale that fits best is positive.
    """
    # Captum wants a map of the picture's shape: each channel carries an equal part of the pixel's value.
    shared = torch.from_numpy(values).expand_as(x) / x.shape[1]
    taken, forward = iter(batches(masks)), partial(forward_passes.answers, found)

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        some = next(taken)
        return some.expand_as(inputs), inputs * (1 - some)

    with torch.inference_mode():
        score = forward(x)[0, target]
        changes = torch.cat([score - forward(x * (1 - some))[:, target] for some in batches(masks)])
    sums = (masks[:, 0] * torch.from_numpy(values)).sum((1, 2))
    squared = float((changes**2).mean())
    if squared < 1e-12 or not sums.any():
        return None
    fit = {"n_perturb_samples": len(masks), "max_examples_per_batch": min(PER_CALL, len(masks)), "normalize": True}
    error = float(infidelity(forward, perturb, x, shared, target=target, **fit))
    return {"infidelity": error, "unexplained": max(0.0, error) / squared, "agrees": bool(sums @ changes > 0)}


def sensitivity(explanation: Callable[[Tensor], np.ndarray], x: Tensor, noise: int, radius: float, seed: int, parts: Parts) -> float | None:
    """The greatest change of the map under noise of up to radius (normalised units), as a share of its own length (Yeh et al. 2019)."""

    def explained(inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor]:
        given = inputs if isinstance(inputs, Tensor) else inputs[0]
        maps = torch.from_numpy(explanation(given))
        parts.end(len(given))
        return (maps,)  # of a bare tensor Captum 0.9 would take each picture for an input of its own

    with attribute.private_randomness(seed):
        changed = float(sensitivity_max(explained, x, perturb_radius=radius, n_perturb_samples=noise, max_examples_per_batch=1))
    return changed if math.isfinite(changed) else None
