"""Which pixels spoke for a class: Captum's methods on a run's own network and preprocessing."""

from __future__ import annotations

import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import captum.attr
import numpy as np
import torch
from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]
from torch import Tensor, nn

from core.catalog import methods
from core.data import images
from core.errors import AppError, Invalid, Stopped
from core.ml.data import out_of_memory
from core.ml.infer import loaded, normalised, probabilities, read
from core.ml.model import LoadedModel
from core.ml.passes import Counted, Passes, Tick, enough_memory, remembered, room
from core.ml.rewrite import Different, Kind, Rewritten, check_rules, rewritten, set_rules, without_biases
from core.ml.similarity import Similarity
from core.ml.superpixels import superpixels
from core.runs import runs

BLUR = 0.1  # standard deviation of the blurred picture, as a share of its shorter side


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps of N pictures, signed: positive speaks for the target."""

    map: np.ndarray  # (N, H, W) float32
    delta: np.ndarray | None  # (N,) float64: what the parts add up to, less change; None where a method promises no sum
    change: np.ndarray | None  # (N,) float64: in score, that the parts should add up to
    notes: tuple[str, ...] = ()  # what the reader of these maps must know, in sentences


@dataclass
class Part:
    """Some of the pictures, as one method receives them."""

    found: LoadedModel
    x: Tensor  # (n, C, H, W), normalised
    targets: list[int]
    settings: Mapping[str, Any]
    rows: int  # pictures that may go through the network in one call
    forward: Passes  # the network, counted
    notes: list[str] = field(default_factory=list)

    @property
    def target(self) -> Any:
        return self.targets[0] if len(self.targets) == 1 else torch.tensor(self.targets)


Answer = tuple[Tensor, Tensor | None]  # (n, C, H, W) or (n, 1, H, W), and the (n,) error of the sum


# Asking -------------------------------------------------------------------------------------------


def attribute(
    run_folder: str, file: str, method: str, target: int | None, settings: Mapping[str, Any] | None = None, tick: Tick | None = None
) -> dict[str, Any]:
    """The map of one picture for one class's logit (None: the likeliest), beside the picture the network saw.

    image (H, W, 3) uint8, map (H, W) float32, target, probability, probabilities, delta, change, notes.
    """
    methods.method(method)
    found = loaded(run_folder)
    if target is not None and not 0 <= target < len(found.classes):
        raise Invalid(f"There is no class number {target}.", f"This run has {len(found.classes)} classes, counted from 0.")
    array = read(file, found.preprocess)
    x = normalised([array], found.preprocess)
    with torch.inference_mode():
        chances = probabilities(found.model(x))[0]
    wanted = int(np.argmax(chances)) if target is None else target
    maps_ = maps(found, x, method, [wanted], settings, tick)
    return {
        "image": images.as_seen(array),
        "map": maps_.map[0],
        "target": wanted,
        "probability": chances[wanted],
        "probabilities": chances,
        "delta": None if maps_.delta is None else float(maps_.delta[0]),
        "change": None if maps_.change is None else float(maps_.change[0]),
        "notes": maps_.notes,
    }


def answer(
    run_folder: str, file: str, method: str, target: int | None, settings: Mapping[str, Any], out: str, progress: str, stop: str
) -> None:
    """Writes the map into the file out."""

    def work(tick: Tick) -> dict[str, Any]:
        row = attribute(run_folder, file, method, target, settings, tick)
        return {key: value for key, value in row.items() if key != "probabilities"}

    written(work, out, progress, stop)


def written(work: Callable[[Tick], dict[str, Any]], out: str, progress: str, stop: str) -> None:
    """Writes what the work makes into the file out, on the way `done total` into progress; ends where the file stop appears."""
    last = 0.0

    def tick(done: int, total: int) -> None:
        nonlocal last
        if Path(stop).exists():
            raise Stopped
        if time.monotonic() - last > 0.1:
            last = time.monotonic()
            Path(progress).write_text(f"{done} {total}", encoding="ascii")

    try:
        if not Path(out).exists():  # somebody else may have asked for the same in the meantime
            tick(0, 0)
            runs.write_map(Path(out), work(tick))
    except Stopped:
        raise AppError("It was stopped before it was done.", "Ask for it again.") from None
    except AppError:
        raise
    except Exception as e:  # of a library, about a network that nobody has tried
        traceback.print_exc(file=sys.stderr)
        raise AppError(f"This method failed on this network ({type(e).__name__}).", "Choose another method.") from e
    finally:
        Path(progress).unlink(missing_ok=True)
        Path(stop).unlink(missing_ok=True)


def maps(
    found: LoadedModel,
    x: Tensor,
    method: str,
    targets: Sequence[int],
    settings: Mapping[str, Any] | None = None,
    tick: Tick | None = None,
) -> Maps:
    """Maps of (N, C, H, W) normalised pictures, each for its own target; zero is the mean picture.

    A call that does not fit into memory is made again with half as many pictures. tick(done, total) hears of passes
    through the network and may raise Stopped. Invalid where the network does not support the method, or answers NaN.
    """
    if why := unsupported(found, method):
        raise Invalid(why)
    checked = methods.method_settings(method, settings or {}, layers(found) if found.architecture.cam_layer else ())
    (work, whole), gradient = METHODS[method], methods.METHODS[method].gradient
    with enough_memory():
        rows = room(found, x[:1], gradient)
    each = methods.passes(method, checked, x.shape[2], x.shape[3])
    raws: list[Tensor] = []
    deltas: list[Tensor] = []
    notes: list[str] = []
    start = 0
    while start < len(x):
        some = x[start : start + (rows if whole else 1)].clone()
        chosen = [int(t) for t in targets[start : start + len(some)]]
        counted = Counted(start * each, (start + len(some)) * each, len(x) * each, tick)
        forward = Passes(found, counted, remembered(found, some, method, checked, rows) if not gradient else None)
        part = Part(found, some, chosen, checked, rows, forward)
        try:
            with quiet(), private_randomness(seed=0), torch.set_grad_enabled(gradient):
                raw, delta = work(part)
        except (RuntimeError, MemoryError) as e:
            if not out_of_memory(e):
                raise
            if rows == 1:
                with enough_memory():
                    raise
            rows //= 2
            continue
        raws.append(raw.detach().float().sum(1) if gradient else raw.detach().float().mean(1))
        notes += [note for note in part.notes if note not in notes]
        if delta is not None:
            deltas.append(delta.detach().double().flatten())
        start += len(some)
    values = torch.cat(raws).numpy()
    if not np.isfinite(values).all():
        raise Invalid(
            "This map holds numbers that are not finite (NaN).",
            "The training of this network went wrong, or the slope is infinite here. Try another method.",
        )
    if not values.reshape(len(values), -1).any(1).all():
        notes.append("The map is empty: nothing here speaks for or against the class.")
    if tick:
        tick(len(x) * each, len(x) * each)
    change = score_change(found, x, targets, checked.get("baseline"), rows) if deltas else None
    return Maps(values, torch.cat(deltas).numpy() if deltas else None, change, tuple(notes))


def score_change(found: LoadedModel, x: Tensor, targets: Sequence[int], kind: str | None, rows: int) -> np.ndarray:
    """(N,) of the target's logit from the baseline of this kind to the picture; None: from 0."""

    def scores(pictures: Tensor) -> Tensor:
        return torch.cat([found.model(pictures[i : i + rows]) for i in range(0, len(x), rows)]).double()[range(len(x)), list(targets)]

    with torch.inference_mode():
        change = scores(x) if kind is None else scores(x) - scores(baseline(found, x, kind))
    return change.numpy()


# Methods ------------------------------------------------------------------------------------------


def saliency(p: Part) -> Answer:
    return captum.attr.Saliency(p.forward).attribute(p.x.requires_grad_(), target=p.target, abs=False), None


def input_x_gradient(p: Part) -> Answer:
    return captum.attr.InputXGradient(p.forward).attribute(p.x.requires_grad_(), target=p.target), None


def smoothgrad(p: Part) -> Answer:
    low, high = extremes(p.found)
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(p.forward))
    raw = tunnel.attribute(
        p.x.requires_grad_(),
        nt_type="smoothgrad",
        nt_samples=p.settings["samples"],
        nt_samples_batch_size=min(p.rows, p.settings["samples"]),
        stdevs=float(p.settings["noise"] * (high - low).mean()),
        target=p.target,
        abs=False,
    )
    return raw, None


def integrated_gradients(p: Part) -> Answer:
    answer: Answer = captum.attr.IntegratedGradients(p.forward).attribute(
        p.x,
        baselines=baseline(p.found, p.x, p.settings["baseline"]),
        target=p.target,
        n_steps=p.settings["steps"],
        internal_batch_size=p.rows,
        return_convergence_delta=True,
    )
    return answer


def gradient_shap(p: Part) -> Answer:
    # A picture of one colour has no shape that could be mistaken for evidence; the colour is drawn from black to white.
    low, high = extremes(p.found)
    samples = p.settings["samples"]
    baselines = low + (high - low) * torch.rand(samples, p.x.shape[1], 1, 1)
    method = captum.attr.GradientShap(p.forward)
    total = torch.zeros_like(p.x)
    for start in range(0, samples, p.rows):  # Captum runs all samples of a call at once
        count = min(p.rows, samples - start)
        total += count * method.attribute(p.x, baselines=baselines.expand(-1, *p.x.shape[1:]), n_samples=count, target=p.target)
    return total / samples, None


def grad_cam(p: Part) -> Answer:
    layer = layer_of(p.found, p.settings["layer"])
    coarse = captum.attr.LayerGradCam(p.forward, layer).attribute(p.x.requires_grad_(), target=p.target, relu_attributions=False)
    return captum.attr.LayerAttribution.interpolate(coarse, p.x.shape[2:], "bilinear"), None


def occlusion(p: Part) -> Answer:
    side, step = methods.window(p.settings, *p.x.shape[2:])
    if p.settings["window"] > side:
        p.notes.append(f"The window of {p.settings['window']} pixels is larger than this picture: one of {side} was used.")
    raw = captum.attr.Occlusion(p.forward).attribute(
        p.x,
        sliding_window_shapes=(p.x.shape[1], side, side),
        strides=(p.x.shape[1], step, step),
        baselines=baseline(p.found, p.x, p.settings["baseline"]),
        target=p.target,
        perturbations_per_eval=p.rows,
    )
    return raw, None


def feature_ablation(p: Part) -> Answer:
    raw = captum.attr.FeatureAblation(p.forward).attribute(
        p.x,
        baselines=baseline(p.found, p.x, p.settings["baseline"]),
        target=p.target,
        feature_mask=regions(p),
        perturbations_per_eval=p.rows,
    )
    return raw, None


def kernel_shap(p: Part) -> Answer:
    raw = captum.attr.KernelShap(p.forward).attribute(
        p.x,
        baselines=baseline(p.found, p.x, p.settings["baseline"]),
        target=p.target,
        feature_mask=regions(p),
        n_samples=p.settings["samples"],
        perturbations_per_eval=p.rows,
    )
    return raw, None


def deep_lift(p: Part) -> Answer:
    """On the copy whose parts add up: Captum's own pooling and shared tensors lose some (core.ml.rewrite)."""
    p.forward.counted.add(2 * len(p.x))  # the baseline goes through beside the picture
    there = baseline(p.found, p.x, p.settings["baseline"])
    answer: Answer = captum.attr.DeepLift(copy_for(p.found, "deep_lift").model).attribute(
        p.x.requires_grad_(), there, target=p.target, return_convergence_delta=True
    )
    if not adds_up(*answer):
        p.notes.append("The parts do not add up to the change in score: DeepLift is not exact for this network and picture.")
    return answer


def guided_grad_cam(p: Part) -> Answer:
    p.forward.counted.add(len(p.x))
    guided = captum.attr.GuidedBackprop(copy_for(p.found, "guided").model).attribute(p.x.clone().requires_grad_(), target=p.target)
    coarse = captum.attr.LayerGradCam(p.forward, layer_of(p.found, p.settings["layer"])).attribute(
        p.x.requires_grad_(), target=p.target, relu_attributions=True
    )
    return guided * captum.attr.LayerAttribution.interpolate(coarse, p.x.shape[2:], "bilinear"), None


def lrp(p: Part) -> Answer:
    p.forward.counted.add(2 * len(p.x))
    model = copy_for(p.found, "lrp").model
    set_rules(model, p.settings["gamma"])
    raw, delta = captum.attr.LRP(model).attribute(p.x.requires_grad_(), target=p.target, return_convergence_delta=True)
    p.notes.append("What the biases add to the score belongs to no pixel: it is missing in the sum.")
    return raw, -delta


# The function, and whether all of a batch's pictures go through the network together.
METHODS: dict[str, tuple[Callable[[Part], Answer], bool]] = {
    "saliency": (saliency, True),
    "input_x_gradient": (input_x_gradient, True),
    "smoothgrad": (smoothgrad, False),
    "integrated_gradients": (integrated_gradients, False),
    "gradient_shap": (gradient_shap, False),
    "grad_cam": (grad_cam, True),
    "occlusion": (occlusion, False),
    "feature_ablation": (feature_ablation, False),
    "kernel_shap": (kernel_shap, False),
    "deep_lift": (deep_lift, True),
    "guided_grad_cam": (guided_grad_cam, True),
    "lrp": (lrp, True),
}


# What the methods share ---------------------------------------------------------------------------


def extremes(found: LoadedModel) -> tuple[Tensor, Tensor]:
    """Black and white as the network receives them, (1, C, 1, 1)."""
    mean, std = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (found.preprocess.mean, found.preprocess.std))
    return (0 - mean) / std, (1 - mean) / std


def baseline(found: LoadedModel, x: Tensor, kind: str) -> Tensor:
    """(N, C, H, W) pictures without evidence; mean is zero."""
    if kind == "mean":
        return torch.zeros_like(x)
    if kind == "blur":
        deviation = BLUR * min(x.shape[2:])
        return torch.from_numpy(gaussian_filter(x.detach().numpy(), (0, 0, deviation, deviation), mode="nearest"))
    low, high = extremes(found)
    return (low if kind == "black" else high).expand_as(x).clone()


def regions(p: Part) -> Tensor:
    """(1, 1, H, W) numbers of the picture's superpixels."""
    return torch.from_numpy(superpixels(p.x[0], p.found.preprocess, p.settings["superpixels"]))[None, None]


def layer_of(found: LoadedModel, name: str) -> nn.Module:
    return found.model.get_submodule(name or found.architecture.cam_layer)


def layers(found: LoadedModel) -> list[str]:
    """The layers whose regions Grad-CAM can weigh, the usual one first, then all convolutions from the picture on."""
    names = [name for name, module in found.model.named_modules() if isinstance(module, nn.Conv2d)]
    return list(dict.fromkeys([found.architecture.cam_layer, *names])) if found.architecture.cam_layer else []


# What a network supports --------------------------------------------------------------------------


def unsupported(found: LoadedModel, method: str) -> str:
    """Why the network does not support the method; "" if it does."""
    known = _unsupported.setdefault(found, {})
    if method not in known:
        with enough_memory():
            known[method] = reason(found, method)
    return known[method]


_unsupported: WeakKeyDictionary[LoadedModel, dict[str, str]] = WeakKeyDictionary()


def reason(found: LoadedModel, method: str) -> str:
    """The same, found out: what has to be tried is tried on noise."""
    facts, title = methods.method(method), found.architecture.title
    if isinstance(found.model, Similarity) and facts.gradient:
        return f"{title} compares pixels with mean images and has no weights: its slope shows nothing. Use a method that covers parts of the picture."
    if method in ("grad_cam", "guided_grad_cam") and not found.architecture.cam_layer:
        return f"{facts.title} needs a convolution near the answer, and {title} has none."
    if method not in KINDS:
        return ""
    try:
        found_copy = copy_for(found, KINDS[method])
        foreign = [name for name in found_copy.activations if name not in KNOWN[method]]
        if foreign:
            return f"{facts.title} is defined for {KNOWN_WORDS[method]}, and {title} uses {' and '.join(foreign)}."
        if method == "guided_grad_cam":
            return "" if found_copy.activations else f"{facts.title} changes the slopes of ReLU, and {title} has no ReLU."
        if found_copy.products:
            return f"{title} multiplies activations with each other, and {facts.title} cannot share a product out."
        if method == "lrp":
            check_rules(found_copy.model)
        if not sums_hold(found, method):
            return f"The parts that {facts.title} finds in {title} do not add up, so its map would be wrong."
    except Different as e:
        return f"{facts.title} needs a rewritten copy of the network, but {title} {e}."
    return ""


KINDS: dict[str, Kind] = {"deep_lift": "deep_lift", "guided_grad_cam": "guided", "lrp": "lrp"}
KNOWN = {
    "deep_lift": ("ReLU", "LeakyReLU", "ELU", "Sigmoid", "Tanh", "Softplus"),
    "guided_grad_cam": ("ReLU", "ReLU6"),
    "lrp": ("ReLU", "ReLU6", "Tanh"),
}
KNOWN_WORDS = {
    "deep_lift": "ReLU, sigmoid, tanh and their kin",
    "guided_grad_cam": "ReLU",
    "lrp": "ReLU and tanh",
}
BOUND = 1e-3  # of the parts' strengths together: an error of the sum beyond is no rounding
_copies: WeakKeyDictionary[LoadedModel, dict[Kind, Rewritten]] = WeakKeyDictionary()


def copy_for(found: LoadedModel, kind: Kind) -> Rewritten:
    """The network as a method needs it, checked to give equal answers; Different if there is no such copy."""
    kept = _copies.setdefault(found, {})
    if kind not in kept:
        kept[kind] = rewritten(found.model, noise(found), kind)
    return kept[kind]


def noise(found: LoadedModel) -> Tensor:
    """(1, C, S, S) normalised values at random, always the same."""
    side = found.preprocess.crop
    x = torch.randn(1, found.preprocess.channels, side, side, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


def sums_hold(found: LoadedModel, method: str) -> bool:
    """Whether the parts of noise add up: by DeepLift as they are, by LRP in a copy without biases."""
    x = noise(found)
    with quiet(), torch.enable_grad():
        if method == "deep_lift":
            model = copy_for(found, "deep_lift").model
            parts, delta = captum.attr.DeepLift(model).attribute(x.requires_grad_(), target=0, return_convergence_delta=True)
            return adds_up(parts, delta)
        model = without_biases(copy_for(found, "lrp").model)
        set_rules(model, gamma=0)
        parts, delta = captum.attr.LRP(model).attribute(x.requires_grad_(), target=0, return_convergence_delta=True)
        return adds_up(parts, delta)


def adds_up(parts: Tensor, delta: Tensor | None) -> bool:
    assert delta is not None
    return bool((delta.detach().abs() <= BOUND * parts.detach().abs().flatten(1).sum(1) + 1e-7).all())


def describe(run_folder: str) -> dict[str, Any]:
    """The run's layers for Grad-CAM, and why it does not support the methods that it does not."""
    found = loaded(run_folder)
    return {"layers": layers(found), "unsupported": {name: unsupported(found, name) for name in METHODS}, "side": found.preprocess.crop}


def measure(run_folder: str, out: str) -> None:
    """Writes into out the seconds that one picture's pass takes on this machine, without and with gradients, in calls of usual size."""
    if Path(out).exists():
        return
    found = loaded(run_folder)
    side = found.preprocess.crop
    seconds = {}
    for kind, gradient in (("forward", False), ("gradient", True)):
        x = torch.zeros(1, found.preprocess.channels, side, side)
        x = x.expand(room(found, x, gradient), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            with torch.set_grad_enabled(gradient):
                scores = found.model(x.clone().requires_grad_(gradient))
                if gradient:
                    scores.sum().backward()
            best = min(best, time.perf_counter() - start)
        seconds[kind] = best / len(x)
    runs.write_json(Path(out), seconds)


@contextmanager
def quiet() -> Iterator[None]:
    """Captum warns of the hooks that it sets and takes away again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def private_randomness(seed: int) -> Iterator[None]:
    """Captum draws from the global generators of torch and numpy; they are put back afterwards."""
    before = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            np.random.seed(seed)
            yield
    finally:
        np.random.set_state(before)
