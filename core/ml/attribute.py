"""Which pixels spoke for a class: Captum's methods on a run's own network and preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import captum.attr
import numpy as np
import torch
from torch import Tensor

from core import catalog, images
from core.errors import Invalid
from core.ml.infer import loaded, normalised, probabilities, read
from core.ml.model import LoadedModel

STEPS = 32  # of the path from the mean picture to this one
PER_CALL = 8  # pictures in one forward pass: about 1 GB for VGG-11
SHAP_SAMPLES = 16
WINDOWS = 7  # occlusion squares across the picture

Answer = tuple[Tensor, float | None]  # (1, C, H, W) or (1, 1, H, W), and the completeness error


def attribute(run_folder: str, file: str, method: str, target: int | None) -> dict[str, Any]:
    """The map of one picture for one class's logit (None: the likeliest), beside the picture the network saw.

    image (H, W, 3) uint8, map (H, W) float32, target, probability, probabilities, delta.
    """
    catalog.method(method)
    found = loaded(run_folder)
    if target is not None and not 0 <= target < len(found.classes):
        raise Invalid(f"There is no class number {target}.", f"This run has {len(found.classes)} classes, counted from 0.")
    array = read(file, found.preprocess)
    x = normalised([array], found.preprocess)  # (1, C, H, W); zero is the mean picture
    with torch.inference_mode():
        chances = probabilities(found.model(x))[0]
    wanted = int(np.argmax(chances)) if target is None else target
    with private_randomness(seed=0), torch.enable_grad():
        raw, delta = METHODS[method](found, x, wanted)
    return {
        "image": images.as_seen(array),
        "map": raw.detach().sum(1)[0].numpy().astype(np.float32),
        "target": wanted,
        "probability": chances[wanted],
        "probabilities": chances,
        "delta": delta,
    }


def saliency(found: LoadedModel, x: Tensor, target: int) -> Answer:
    return captum.attr.Saliency(found.model).attribute(x.requires_grad_(), target=target, abs=False), None


def integrated_gradients(found: LoadedModel, x: Tensor, target: int) -> Answer:
    method = captum.attr.IntegratedGradients(found.model)
    raw, delta = method.attribute(x, target=target, n_steps=STEPS, internal_batch_size=PER_CALL, return_convergence_delta=True)
    return raw, float(delta)


def gradient_shap(found: LoadedModel, x: Tensor, target: int) -> Answer:
    # A picture of one colour has no shape that could be mistaken for evidence; the colour is drawn from 0..255.
    low, high = (normalised([np.full(x.shape[1:], v, np.uint8)], found.preprocess) for v in (0, 255))
    baselines = low + (high - low) * torch.rand(SHAP_SAMPLES, x.shape[1], 1, 1)
    method = captum.attr.GradientShap(found.model)
    # Captum runs all samples of a call at once, so they are drawn in several calls.
    parts = [method.attribute(x, baselines=baselines, n_samples=PER_CALL, target=target) for _ in range(SHAP_SAMPLES // PER_CALL)]
    return torch.stack(parts).mean(0), None


def grad_cam(found: LoadedModel, x: Tensor, target: int) -> Answer:
    if not found.architecture.cam_layer:
        others = [m.title for m in catalog.METHODS.values() if m.name != "grad_cam"]
        raise Invalid(f"Grad-CAM needs a convolution, and {found.architecture.title} has none.", f"Use {', '.join(others)}.")
    layer = found.model.get_submodule(found.architecture.cam_layer)
    method = captum.attr.LayerGradCam(found.model, layer)
    coarse = method.attribute(x.requires_grad_(), target=target, relu_attributions=False)
    return captum.attr.LayerAttribution.interpolate(coarse, x.shape[2:], "bilinear"), None


def occlusion(found: LoadedModel, x: Tensor, target: int) -> Answer:
    side = max(1, round(x.shape[2] / WINDOWS))
    step = max(1, side // 2)
    method = captum.attr.Occlusion(found.model)
    with torch.no_grad():
        raw = method.attribute(
            x,
            sliding_window_shapes=(x.shape[1], side, side),
            strides=(x.shape[1], step, step),
            baselines=0,
            target=target,
            perturbations_per_eval=2 * PER_CALL,
        )
    return raw, None


METHODS: dict[str, Callable[[LoadedModel, Tensor, int], Answer]] = {
    "saliency": saliency,
    "integrated_gradients": integrated_gradients,
    "gradient_shap": gradient_shap,
    "grad_cam": grad_cam,
    "occlusion": occlusion,
}


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
