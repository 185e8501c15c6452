"""Architectures, training parameters and attribution methods as data: the form, the worker and the tests read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import Invalid
from core.types import Architecture, Method, Param, RunConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _torchvision(
    name: str, title: str, summary: str, *, head: str, cam_layer: str, source: str, learning_rate: float = 1e-3
) -> Architecture:
    """A network of torchvision with its ImageNet weights, which all share one preprocessing."""
    return Architecture(
        name,
        title,
        summary,
        f"torchvision:{name}",
        head=head,
        cam_layer=cam_layer,
        input_size=224,
        resize=256,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        weights="IMAGENET1K_V1",
        batch_size=32,
        learning_rate=learning_rate,
        source=source,
    )


ARCHITECTURES: dict[str, Architecture] = {
    a.name: a
    for a in (
        Architecture(
            "linear",
            "Linear softmax",
            "Every pixel votes for every class. The simplest network there is: fast, and the figure to beat.",
            "scratch:linear",
            head="head",
            cam_layer="",
            batch_size=32,
            learning_rate=1e-3,
            source="Softmax regression; the Fashion-MNIST tutorial's first model",
        ),
        Architecture(
            "convnet",
            "Two-layer ConvNet",
            "Two 5×5 convolutions find strokes and corners, then 1,000 units decide. Right for digits and small pictures.",
            "scratch:convnet",
            head="head",
            cam_layer="conv2",
            batch_size=100,
            learning_rate=1e-3,
            source="LeCun et al. 1998, Gradient-based learning applied to document recognition; the MNIST tutorial",
        ),
        Architecture(
            "cnn3",
            "Three-block CNN",
            "Three small 3×3 convolution blocks with dropout. Learns colour pictures from scratch, needs many of them.",
            "scratch:cnn3",
            head="head",
            cam_layer="conv3",
            batch_size=32,
            learning_rate=1e-3,
            source="The car, frog and lizard tutorial",
        ),
        Architecture(
            "efficientnet_lite0",
            "EfficientNet-Lite0",
            "Has already seen 1.2 million photographs; only learns your classes on top. Best for few photos, and works offline.",
            "timm:tf_efficientnet_lite0",
            head="classifier",
            cam_layer="conv_head",
            input_size=224,
            resize=256,
            mean=(127 / 255,) * 3,
            std=(128 / 255,) * 3,
            weights="embedded",
            batch_size=32,
            source="Tan and Le 2019, arXiv:1905.11946; Lite variant without squeeze-and-excitation",
        ),
        _torchvision(
            "resnet18",
            "ResNet-18",
            "Eighteen layers with shortcuts; the usual first choice. Weights are downloaded on first use.",
            head="fc",
            cam_layer="layer4",
            source="He et al. 2015, arXiv:1512.03385",
        ),
        _torchvision(
            "vgg11",
            "VGG-11",
            "Eleven plain layers and 129 million weights; large and slow, easy to explain. Weights are downloaded on first use.",
            head="classifier.6",
            cam_layer="features.18",
            source="Simonyan and Zisserman 2014, arXiv:1409.1556",
            learning_rate=1e-4,
        ),
        _torchvision(
            "resnext50_32x4d",
            "ResNeXt-50",
            "Fifty layers in 32 parallel paths; accurate and slow without a GPU. Weights are downloaded on first use.",
            head="fc",
            cam_layer="layer4",
            source="Xie et al. 2016, arXiv:1611.05431",
        ),
    )
}

TRAIN_PARAMS: tuple[Param, ...] = (
    Param(
        "architecture",
        "Network",
        "choice",
        "convnet",
        "The kind of network that learns. Start simple; a larger one must beat it.",
        options=tuple(ARCHITECTURES),
    ),
    Param(
        "pretrained",
        "Start from pretrained weights",
        "bool",
        True,
        "Begin with what the network learned from ImageNet's photographs instead of random numbers.",
    ),
    Param(
        "freeze",
        "Freeze the backbone",
        "bool",
        True,
        "Keep the pretrained layers as they are and train only the last one: much faster, and safer with few images.",
    ),
    Param(
        "image_size",
        "Image size",
        "int",
        0,
        "Side of the square the network sees. 0 takes the network's own size, or the images' own if they are small.",
        low=0,
        high=512,
        unit="pixels, 0 = automatic",
    ),
    Param(
        "epochs",
        "Epochs",
        "int",
        10,
        "How many times the network sees every training image, at most.",
        low=1,
        high=1000,
    ),
    Param(
        "batch_size",
        "Batch size",
        "int",
        64,
        "How many images are looked at before the weights change once.",
        low=1,
        high=4096,
        unit="images",
    ),
    Param(
        "optimizer",
        "Optimiser",
        "choice",
        "adam",
        "The rule that turns the error into a change of weights. Adam works almost everywhere.",
        options=("sgd", "adam", "adamw"),
    ),
    Param(
        "learning_rate",
        "Learning rate",
        "float",
        1e-3,
        "The size of each change. Too large and the loss jumps about, too small and nothing moves.",
        low=1e-7,
        high=10.0,
    ),
    Param(
        "patience",
        "Early stopping patience",
        "int",
        5,
        "Stop when validation loss has not fallen for this many epochs. 0 never stops early.",
        low=0,
        high=1000,
        unit="epochs",
    ),
    Param(
        "seed",
        "Seed",
        "int",
        0,
        "The same seed, data and settings give the same run on the same machine.",
        low=0,
        high=2**31 - 1,
    ),
    Param(
        "device",
        "Device",
        "choice",
        "auto",
        "Where the arithmetic runs. Auto takes a GPU if there is one.",
        options=("auto", "cuda", "mps", "cpu"),
    ),
)
OPTIMIZER_TITLES = {"sgd": "SGD with momentum", "adam": "Adam", "adamw": "AdamW"}

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
            "integrated_gradients",
            "Integrated Gradients",
            "Adds up the sensitivity on the way from an average picture to this one.",
            "The parts add up to the change in score; the error of that sum is shown as delta.",
            "Sundararajan et al. 2017, arXiv:1703.01365",
        ),
        Method(
            "gradient_shap",
            "Gradient SHAP",
            "Integrated Gradients averaged over several random starting pictures.",
            "An estimate from random samples: small details differ from run to run, large regions should not.",
            "Lundberg and Lee 2017, arXiv:1705.07874",
        ),
        Method(
            "grad_cam",
            "Grad-CAM",
            "Which regions the last convolution used for this class.",
            "Coarse: it names regions, not edges. A good first look.",
            "Selvaraju et al. 2016, arXiv:1610.02391; negative evidence is kept here, the paper drops it",
        ),
        Method(
            "occlusion",
            "Occlusion",
            "Covers one square after another and watches the score fall.",
            "A real experiment on the picture, so it can be trusted where the square fits the object.",
            "Zeiler and Fergus 2013, arXiv:1311.2901",
        ),
    )
}


def architecture(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        raise Invalid(f"There is no network called “{name}”.", f"Choose one of: {', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[name]


def method(name: str) -> Method:
    if name not in METHODS:
        raise Invalid(f"There is no method called “{name}”.", f"Choose one of: {', '.join(METHODS)}.")
    return METHODS[name]


def run_config(values: Mapping[str, Any]) -> RunConfig:
    """A checked RunConfig from partial values; all problems are reported at once.

    Missing values take the architecture's default, then the parameter's.
    """
    values = dict(values)
    problems: list[str] = []
    params = {p.name: p for p in TRAIN_PARAMS}
    for name in values.keys() - params.keys():
        problems.append(f"“{name}” is not a setting. Settings are: {', '.join(params)}.")
    arch = ARCHITECTURES.get(str(values.get("architecture", params["architecture"].default)))
    defaults = {p.name: p.default for p in TRAIN_PARAMS}
    if arch is not None:
        defaults |= {"batch_size": arch.batch_size, "learning_rate": arch.learning_rate}
        if not arch.weights:
            defaults |= {"pretrained": False, "freeze": False}
    checked: dict[str, Any] = {}
    for param in TRAIN_PARAMS:
        value, problem = _checked(param, values.get(param.name, defaults[param.name]))
        checked[param.name] = value
        if problem:
            problems.append(problem)
    if arch is not None and not problems:
        if checked["pretrained"] and not arch.weights:
            problems.append(f"{arch.title} has no pretrained weights. Set pretrained to false.")
        elif checked["freeze"] and not checked["pretrained"]:
            problems.append("Freezing a network with random weights learns little. Set freeze to false, or pretrained to true.")
        if checked["image_size"] and checked["image_size"] < 8:
            problems.append(f"image_size is {checked['image_size']}. Use 0, or a whole number from 8 to 512.")
        elif arch.input_size and 0 < checked["image_size"] < 32:
            problems.append(f"image_size is {checked['image_size']}. {arch.title} needs 32 or more, or 0 for its own size.")
    if problems:
        raise Invalid("Please correct the settings: " + " ".join(problems))
    return RunConfig(**checked)


def _checked(param: Param, value: Any) -> tuple[Any, str]:
    """The value in its own type, and the sentence that says what is wrong with it ("" if nothing)."""
    if param.kind == "choice":
        if value not in param.options:
            return value, f"{param.title} ({param.name}) is “{value}”. Choose one of: {', '.join(param.options)}."
        return value, ""
    if param.kind == "bool":
        if isinstance(value, bool):
            return value, ""
        text = str(value).lower()
        if text in ("true", "1", "yes", "false", "0", "no"):
            return text in ("true", "1", "yes"), ""
        return value, f"{param.title} ({param.name}) is “{value}”. Use true or false."
    whole = param.kind == "int"
    allowed = f"Use a {'whole ' if whole else ''}number from {param.low:g} to {param.high:g}."
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value, f"{param.title} ({param.name}) is “{value}”. {allowed}"
    inside = (param.low is None or number >= param.low) and (param.high is None or number <= param.high)
    if not inside or (whole and number != int(number)):
        return value, f"{param.title} ({param.name}) is {value}. {allowed}"
    return (int(number) if whole else number), ""
