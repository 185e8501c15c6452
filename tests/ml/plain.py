"""Networks of all kinds with random weights, and every attribution method as Captum's documentation calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import captum.attr
import numpy as np
import torch
from captum.attr._utils.lrp_rules import EpsilonRule
from torch import Tensor, nn

from core.catalog import methods, networks
from core.ml.baselines import extremes
from core.ml.infer import normalised
from core.ml.model import LoadedModel, create, set_module
from core.ml.superpixels import superpixels
from core.types import Layer, Preprocess


class Plain(nn.Sequential):
    """A network that Captum knows as it is: every module used once, none in place, and no pooling after a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.relu2 = nn.ReLU()
        self.flatten = nn.Flatten()
        self.head = nn.Linear(8 * 12 * 12, 3)


def preprocess(side: int, channels: int = 3) -> Preprocess:
    return Preprocess(channels, side, side, (0.5, 0.4, 0.45)[:channels], (0.25, 0.3, 0.2)[:channels])


def network(name: str, side: int, layers: tuple[Layer, ...] = (), output: str = "softmax") -> LoadedModel:
    """With random weights, biases and statistics, so that nothing is right because it is zero."""
    torch.manual_seed(5)
    how = preprocess(side)
    if name == "plain":
        arch = replace(networks.architecture("own"), cam_layer="second")
        model: nn.Module = Plain()
    else:
        arch = networks.architecture(name)
        model = create(arch, 2 if output == "sigmoid" else 3, how, layers, output)
    if name == "vgg11":  # as narrow as may be: of its 129 million weights 119 million are these, and all are read for each picture
        for at, width in (("classifier.0", 512 * 7 * 7), ("classifier.3", 16)):
            set_module(model, at, nn.Linear(width, 16))
        set_module(model, arch.head, nn.Linear(16, 3))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d) and module.bias is not None:
            nn.init.normal_(module.bias, 0, 0.1)
    model = model.eval().requires_grad_(False)
    return LoadedModel(model, arch, ("a", "b", "c")[: 2 if output == "sigmoid" else 3], how, 1)


def pictures(count: int, side: int, channels: int = 3) -> Tensor:
    """Smooth ones, so that superpixels have edges to follow."""
    noise = np.random.default_rng(3)
    rough = noise.integers(0, 256, (count, channels, 4, 4)).repeat(-(-side // 4), 2).repeat(-(-side // 4), 3)[..., :side, :side]
    arrays = np.clip(rough + noise.integers(-20, 21, rough.shape), 0, 255).astype(np.uint8)
    return normalised(list(arrays), preprocess(side, channels))


# What Captum answers when it is called as its documentation says: of a network, a picture, a class, settings.
Call = Callable[[LoadedModel, Tensor, int, dict[str, Any]], Tensor]
PLAIN: dict[str, Call] = {}


def plain(call: Call) -> Call:
    PLAIN[call.__name__] = call
    return call


@plain
def saliency(found: LoadedModel, x: Tensor, target: int, settings: dict[str, Any]) -> Tensor:
    return captum.attr.Saliency(found.model).attribute(x, target=target, abs=False)


@plain
def input_x_gradient(found: LoadedModel, x: Tensor, target: int, settings: dict[str, Any]) -> Tensor:
    return captum.attr.InputXGradient(found.model).attribute(x, target=target)


@plain
def smoothgrad(found: LoadedModel, x: Tensor, target: int, settings: dict[str, Any]) -> Tensor:
    low, high = extremes(found.preprocess)
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(found.model))
    noise = settings["noise"] * float((high - low).mean())
    return tunnel.attribute(x, nt_samples=settings["samples"], stdevs=noise, target=target, abs=False)


@plain
def integrated_gradients(found: LoadedModel, x: Tensor, target: int, settings: dict[str, Any]) -> Tensor:
    return captum.attr.IntegratedGradients(found.model).attribute(x, target=target, n_steps=settings["steps"])


@plain
def deep_lift(found: LoadedModel, x: Tensor, target: int, settings: dict[str, Any]) -> Tensor:
    return captum.attr.DeepLift(found.model).attribute(x, target=target)


@plain
def lrp(found: LoadedModel, x: Tensor, target: int, settings: dict[str, Any]) -> Tensor:
    for flatten in (m for m in found.model.modules() if isinstance(m, nn.Flatten)):
        flatten.rule = EpsilonRule()  # type: ignore[assignment]
    return captum.attr.LRP(found.model).attribute(x, target=target)


@plain
def gradient_shap(found: LoadedModel, x: Tensor, target: int, settings: dict[str, Any]) -> Tensor:
    low, high = extremes(found.preprocess)
    colours = low + (high - low) * torch.rand(settings["samples"], 3, 1, 1)
    method = captum.attr.GradientShap(found.model)
    return method.attribute(x, colours.expand(-1, *x.shape[1:]), n_samples=settings["samples"], target=target)


@plain
def grad_cam(found: LoadedModel, x: Tensor, target: int, settings: dict[str, Any]) -> Tensor:
    layer = found.model.get_submodule(found.architecture.cam_layer)
    coarse = captum.attr.LayerGradCam(found.model, layer).attribute(x, target=target)
    return nn.functional.interpolate(coarse, x.shape[2:], mode="bilinear")


@plain
def guided_grad_cam(found: LoadedModel, x: Tensor, target: int, settings: dict[str, Any]) -> Tensor:
    layer = found.model.get_submodule(found.architecture.cam_layer)
    return captum.attr.GuidedGradCam(found.model, layer).attribute(x, target=target, interpolate_mode="bilinear")


@plain
def occlusion(found: LoadedModel, x: Tensor, target: int, settings: dict[str, Any]) -> Tensor:
    side, step = settings["window"], settings["stride"]
    return captum.attr.Occlusion(found.model).attribute(x, (3, side, side), (3, step, step), baselines=0, target=target)


@plain
def feature_ablation(found: LoadedModel, x: Tensor, target: int, settings: dict[str, Any]) -> Tensor:
    return captum.attr.FeatureAblation(found.model).attribute(x, baselines=0, target=target, feature_mask=regions(found, x, settings))


@plain
def kernel_shap(found: LoadedModel, x: Tensor, target: int, settings: dict[str, Any]) -> Tensor:
    method, mask = captum.attr.KernelShap(found.model), regions(found, x, settings)
    return method.attribute(x, baselines=0, target=target, feature_mask=mask, n_samples=settings["samples"])


def regions(found: LoadedModel, x: Tensor, settings: dict[str, Any]) -> Tensor:
    return torch.from_numpy(superpixels(x[0].detach(), found.preprocess, settings["superpixels"]))[None, None]


def plain_call(found: LoadedModel, x: Tensor, method: str, target: int, settings: dict[str, Any]) -> Tensor:
    """(N, H, W), over colours the sum, or where these are covered together the mean; with the seed that Loupe takes."""
    torch.manual_seed(0)
    np.random.seed(0)
    parts = PLAIN[method](found, x, target, settings)
    return parts.sum(1) if methods.METHODS[method].gradient else parts.mean(1)
