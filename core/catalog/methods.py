"""Attribution methods as data: the forms, the model worker and the tests read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.catalog.params import checked_settings
from core.errors import Invalid
from core.types import Method, Param

WINDOWS = 7  # occlusion squares across the picture, unless the settings say more
BASELINE = Param(
    "baseline", "Compared with", "choice", "mean",
    "The picture without evidence that this one is compared with: the average colour, black, white, or the picture itself, blurred.",
    "method", options=("mean", "black", "white", "blur"),
)  # fmt: skip
COVER = replace(
    BASELINE,
    title="Covered with",
    help="What a part of the picture is hidden behind: the average colour, black, white, or the picture itself, blurred.",
)
LAYER = Param(
    "layer", "Layer", "choice", "", "The layer whose regions are weighed: late layers know things, early ones edges and colours.", "method",
)  # fmt: skip


def _samples(default: int, high: int, help: str) -> Param:
    return Param("samples", "Samples", "int", default, help, "method", low=2, high=high)


def _superpixels(default: int) -> Param:
    return Param(
        "superpixels", "Superpixels", "int", default,
        "Into how many connected regions of like colour the picture is divided, about.", "method", low=4, high=400,
    )  # fmt: skip


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method(
            "saliency",
            "Saliency",
            "The slope at every pixel: where red, a little more brightness would raise the score; where blue, lower it.",
            "Noisy: it shows where the network is sensitive, not why it decided.",
            "Simonyan et al. 2013, arXiv:1312.6034",
        ),
        Method(
            "input_x_gradient",
            "Input × Gradient",
            "The slope at every pixel times how far the pixel lies from the average colour.",
            "As noisy as Saliency, and silent where the picture has the average colour.",
            "Shrikumar et al. 2016, arXiv:1605.01713",
        ),
        Method(
            "smoothgrad",
            "SmoothGrad",
            "Saliency averaged over copies of the picture with random noise, which calms it.",
            "Smoother than Saliency and easier to read, but still sensitivity, not cause.",
            "Smilkov et al. 2017, arXiv:1706.03825; the noise is a share of all possible values, not of the picture's own",
            (
                _samples(16, 256, "How many noisy copies are averaged: more give a smoother map and take longer."),
                Param(
                    "noise",
                    "Noise",
                    "float",
                    0.1,
                    "Standard deviation, as a share of the way from black to white.",
                    "method",
                    low=0.001,
                    high=1.0,
                ),
            ),
        ),
        Method(
            "integrated_gradients",
            "Integrated Gradients",
            "Adds up the sensitivity on the way from an average picture to this one.",
            "The parts should add up to the change in score; how nearly they do stands under the map.",
            "Sundararajan et al. 2017, arXiv:1703.01365",
            (
                Param(
                    "steps",
                    "Steps",
                    "int",
                    32,
                    "Points on the way; more bring the sum nearer to the change in score.",
                    "method",
                    low=4,
                    high=512,
                ),
                BASELINE,
            ),
        ),
        Method(
            "deep_lift",
            "DeepLift",
            "Follows the difference from an average picture through the layers and shares the change in score out by it.",
            "The parts should add up to the change in score; how nearly they do stands under the map. Fast: a single pass.",
            "Shrikumar et al. 2017, arXiv:1704.02685, rescale rule",
            (BASELINE,),
        ),
        Method(
            "lrp",
            "LRP",
            "Hands the score back from layer to layer, to whatever made it, down to the pixels.",
            "The parts add up to the score less what biases add, which belongs to no pixel.",
            "Bach et al. 2015, doi:10.1371/journal.pone.0130140; rules of Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10",
            (
                Param(
                    "gamma",
                    "Gamma",
                    "float",
                    0.25,
                    "How much more counts what speaks for the class, which calms the map; 0 treats both alike.",
                    "method",
                    low=0.0,
                    high=10.0,
                ),
            ),
        ),
        Method(
            "gradient_shap",
            "Gradient SHAP",
            "Integrated Gradients averaged over several random starting pictures.",
            "An estimate from random samples: small details differ from run to run, large regions should not.",
            "Lundberg and Lee 2017, arXiv:1705.07874",
            (_samples(16, 256, "How many pictures of one random colour are started from."),),
        ),
        Method(
            "grad_cam",
            "Grad-CAM",
            "Which regions one convolution, usually the last, used for this class.",
            "Coarse: it names regions, not edges. A good first look.",
            "Selvaraju et al. 2016, arXiv:1610.02391; negative evidence is kept here, the paper drops it",
            (LAYER,),
        ),
        Method(
            "guided_grad_cam",
            "Guided Grad-CAM",
            "Grad-CAM's regions with fine lines in them: only slopes that speak for the class are followed back.",
            "Looks crisp, but the lines are largely edges of the picture, whatever the network has learned.",
            "Selvaraju et al. 2016, arXiv:1610.02391; Springenberg et al. 2014, arXiv:1412.6806",
            (LAYER,),
        ),
        Method(
            "occlusion",
            "Occlusion",
            "Covers one square after another and watches the score fall.",
            "A real experiment on the picture, so it can be trusted where the square fits the object.",
            "Zeiler and Fergus 2013, arXiv:1311.2901",
            (
                Param(
                    "window",
                    "Window",
                    "int",
                    0,
                    "Side of the square; 0 takes a seventh of the picture's shorter side.",
                    "method",
                    low=0,
                    high=1024,
                    unit="pixels, 0 = automatic",
                ),
                Param(
                    "stride",
                    "Stride",
                    "int",
                    0,
                    "How far the square moves between two answers; 0 takes half of the window.",
                    "method",
                    low=0,
                    high=1024,
                    unit="pixels, 0 = automatic",
                ),
                COVER,
            ),
            gradient=False,
        ),
        Method(
            "feature_ablation",
            "Feature Ablation",
            "Covers one region of like colour after another, along the edges of things, and watches the score fall.",
            "A real experiment on the picture, but one region at a time: what two regions both show is missed.",
            "Regions: SLIC, Achanta et al. 2012, doi:10.1109/TPAMI.2012.120",
            (_superpixels(50), COVER),
            gradient=False,
        ),
        Method(
            "kernel_shap",
            "Kernel SHAP",
            "Covers many random sets of regions and shares the score out fairly among them (Shapley values).",
            "The parts add up to the change in score. An estimate: with few samples small regions are guesses.",
            "Lundberg and Lee 2017, arXiv:1705.07874; regions: SLIC, Achanta et al. 2012",
            (
                _superpixels(40),
                _samples(200, 5000, "How many sets of regions are tried; at least twice as many as there are regions."),
                COVER,
            ),
            gradient=False,
        ),
    )
}


def method(name: str) -> Method:
    if name not in METHODS:
        raise Invalid(f"There is no method called “{name}”.", f"Choose one of: {', '.join(METHODS)}.")
    return METHODS[name]


def method_settings(name: str, values: Mapping[str, Any], layers: Sequence[str] = ()) -> dict[str, Any]:
    """Checked settings of an attribution method from partial values; all problems are reported at once.

    layers: those of the network, its default first; without them the choice is not checked.
    """
    facts = method(name)
    checked = checked_settings(facts.title, [with_layers(p, layers) for p in facts.params], values)
    if {"samples", "superpixels"} <= checked.keys() and checked["samples"] < 2 * checked["superpixels"]:
        least = 2 * checked["superpixels"]
        raise Invalid(
            f"Please correct the settings: Samples (samples) is {checked['samples']}: {checked['superpixels']} superpixels need {least} or more."
        )
    return checked


def passes(name: str, settings: Mapping[str, Any], height: int, width: int) -> int:
    """How often one picture goes through the network, about: superpixels are as many as the picture allows."""
    if name == "occlusion":
        side, step = window(settings, height, width)
        return 1 + (1 + -(-(height - side) // step)) * (1 + -(-(width - side) // step))
    if name == "feature_ablation":
        return 1 + int(settings["superpixels"])
    return int(settings.get("steps", settings.get("samples", 1)))


def window(settings: Mapping[str, Any], height: int, width: int) -> tuple[int, int]:
    """Side and step of the square that covers a part of a picture, in pixels; no larger than the picture."""
    side = min(settings["window"] or max(1, round(min(height, width) / WINDOWS)), height, width)
    return side, min(settings["stride"], side) or max(1, side // 2)


def with_layers(param: Param, layers: Sequence[str]) -> Param:
    """A choice among the layers of a network; any other parameter as it is."""
    return replace(param, options=tuple(layers), default=layers[0]) if param.name == "layer" and layers else param
