"""What the tutorials trained that Loupe grew from, as settings with the figures they published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from core.metrics import TOO_FEW
from core.names import FASHION
from core.types import Evaluation, Interval, Layer

DIGITS = tuple("0123456789")
THREE_OR_SEVEN = ("3", "7")
RELU = Layer("activation", function="relu")

# Of the data set that the source used and published its figure for; "" stands for images of one's own.
CLASSES: Mapping[str, tuple[str, ...]] = {"MNIST": DIGITS, "Fashion-MNIST": FASHION}
SIDE = 28  # pixels, of both

OF_THE_TRAINING = "15% of the training images choose the epoch that is kept, so the network learns from 85% of what the source had."
COUNTED = "The accuracy is counted once over all test images: it is no average over batches, and the last batch is not left out."
ON_SCORES = "The cross-entropy receives the scores themselves: no softmax stands before it."
OWN_IMAGES = "The source used images of its own, so on yours the figure will be another."


@dataclass(frozen=True)
class Preset:
    name: str
    title: str
    sentence: str
    data: str  # a key of CLASSES, or ""
    settings: Mapping[str, Any]  # for catalog.run_config
    published: float  # a share
    published_text: str
    note: str  # where the settings or the counting differ from the source's, and why
    n: int  # images that the source judged by; 0 where it names no number
    split: Literal["test", "validation"] = "test"
    per_class: bool = False  # the figure is the mean of the classes' accuracies
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # the same with these settings changed, by name

    @property
    def needs_weights(self) -> bool:
        return bool(self.settings.get("pretrained"))


def _hidden(*units: int) -> tuple[Layer, ...]:
    return tuple(layer for size in units for layer in (Layer("dense", size=size), RELU))


PRESETS: Mapping[str, Preset] = {
    p.name: p
    for p in (
        Preset(
            "similarity",
            "Pixel similarity, 3 versus 7",
            "The mean image of each class; the nearer one is the answer. Nothing is trained, and this is what a network has to beat.",
            "MNIST",
            {"architecture": "similarity_l1", "classes": THREE_OR_SEVEN, "epochs": 1, "patience": 0},
            0.951,
            "95.1%, the mean of 91.7% of the 3s and 98.5% of the 7s",
            "By L1, the mean absolute difference, as the mean of the two classes’ accuracies. The mean images come from 85% of what the "
            "source had, for Loupe sets 15% of the training images aside.",
            2_038,
            per_class=True,
            variants={"L2": {"architecture": "similarity_l2"}},
        ),
        Preset(
            "linear_3_7",
            "Linear, 3 versus 7",
            "Each pixel has a weight, and a sigmoid makes one answer of their sum: 785 numbers that learn.",
            "MNIST",
            {
                "architecture": "own", "layers": (), "output": "sigmoid", "classes": THREE_OR_SEVEN, "optimizer": "sgd", "momentum": 0.0,
                "learning_rate": 1.0, "batch_size": 256, "epochs": 20, "patience": 0,
            },
            0.97,
            "about 97%",
            "The loss is the binary cross-entropy, where the source took 1 − p, and pixels are normalised: learning rate 1 is a large step "
            f"then, and the epoch with the lowest validation loss is kept. {COUNTED} {OF_THE_TRAINING}",
            2_038,
        ),
        Preset(
            "net_3_7",
            "Small net, 3 versus 7",
            "Thirty hidden units between the pixels and the answer: the smallest network that bends.",
            "MNIST",
            {
                "architecture": "own", "layers": _hidden(30), "output": "sigmoid", "classes": THREE_OR_SEVEN, "optimizer": "sgd",
                "momentum": 0.0, "learning_rate": 0.1, "batch_size": 256, "epochs": 40, "patience": 0,
            },
            0.98,
            "about 98%",
            f"The loss is the binary cross-entropy, where the source took 1 − p. {COUNTED} {OF_THE_TRAINING}",
            2_038,
        ),
        Preset(
            "resnet18_3_7",
            "ResNet-18 from scratch, 3 versus 7",
            "Eighteen layers from random numbers, and a single look at each image with a learning rate that rises and falls.",
            "MNIST",
            {
                "architecture": "resnet18", "pretrained": False, "freeze": False, "image_size": 28, "classes": THREE_OR_SEVEN,
                "optimizer": "adam", "learning_rate": 0.1, "schedule": "one_cycle", "batch_size": 64, "epochs": 1, "patience": 0,
            },
            0.99,
            "over 99%",
            "Optimiser and batch size are not published; here they are Adam and 64. The grey pictures are repeated as red, green "
            f"and blue. {OF_THE_TRAINING}",
            2_038,
        ),
        Preset(
            "dense_mnist",
            "Fully connected, MNIST",
            "Two hidden layers of 200 units: a plain network without a convolution.",
            "MNIST",
            {
                "architecture": "own", "layers": _hidden(200, 200), "optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.01,
                "batch_size": 64, "epochs": 10, "patience": 0, "stop_on": "accuracy",
            },
            0.9783,
            "98% (9,783 of 10,000)",
            "Cross-entropy on the scores is the same as log-softmax with the negative log-likelihood. The batch size is not published; "
            f"here it is 64. {OF_THE_TRAINING}",
            10_000,
        ),
        Preset(
            "convnet_mnist",
            "ConvNet, MNIST",
            "Two layers of 5×5 convolutions find strokes and corners, 1,000 units put them together.",
            "MNIST",
            {
                "architecture": "convnet", "optimizer": "adam", "learning_rate": 1e-3, "batch_size": 100, "epochs": 6, "patience": 0,
                "stop_on": "accuracy",
            },
            0.9903,
            "99.03%",
            f"{ON_SCORES} {COUNTED} {OF_THE_TRAINING}",
            10_000,
        ),
        Preset(
            "linear_fashion",
            "Linear softmax, Fashion-MNIST",
            "Every pixel of a piece of clothing votes for every class.",
            "Fashion-MNIST",
            {
                "architecture": "linear", "optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.01, "batch_size": 32, "epochs": 3,
                "patience": 0,
            },
            0.815,
            "81.5%",
            f"The learning rate is not published; here it is 0.01. {ON_SCORES} {COUNTED} {OF_THE_TRAINING}",
            10_000,
        ),
        Preset(
            "hidden_5_8_fashion",
            "5-8 hidden units, Fashion-MNIST",
            "Everything has to pass through five numbers: a look at what too narrow a network costs.",
            "Fashion-MNIST",
            {
                "architecture": "own", "layers": _hidden(5, 8), "optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.01,
                "batch_size": 32, "epochs": 3, "patience": 0,
            },
            0.719,
            "71.9%",
            f"The learning rate is not published; here it is 0.01. {ON_SCORES} {COUNTED} {OF_THE_TRAINING}",
            10_000,
        ),
        Preset(
            "cnn3_photos",
            "Three-block CNN, few colour images",
            "Three blocks of convolutions learn photographs from scratch; with few of them they soon memorise.",
            "",
            {
                "architecture": "cnn3", "image_size": 100, "optimizer": "adam", "learning_rate": 1e-4, "batch_size": 8, "epochs": 100,
                "patience": 7,
            },
            6 / 8,
            "6 of 8",
            f"{OWN_IMAGES} Eight images are a count, not an accuracy. {ON_SCORES}",
            8,
        ),
        Preset(
            "resnext50_photos",
            "ResNeXt-50 frozen, few colour images",
            "A network that knows photographs keeps what it knows; only a new last layer learns your classes.",
            "",
            {
                "architecture": "resnext50_32x4d", "pretrained": True, "freeze": True, "image_size": 224, "optimizer": "adam",
                "learning_rate": 1e-3, "batch_size": 8, "epochs": 100, "patience": 7,
            },
            7 / 8,
            "7 of 8",
            f"{OWN_IMAGES} Eight images are a count, not an accuracy. How the last layer was trained is not published; here it is as in the "
            "three-block CNN, with learning rate 0.001. The frozen layers are run once, not in every epoch.",
            8,
        ),
        Preset(
            "vgg11_moderation",
            "VGG-11 frozen, three moderation classes",
            "Eleven plain layers stay as they are, and the last one learns three classes to moderate by.",
            "",
            {
                "architecture": "vgg11", "pretrained": True, "freeze": True, "image_size": 224, "optimizer": "adam",
                "learning_rate": 1e-4, "batch_size": 100, "epochs": 10, "patience": 0,
            },
            0.622,
            "62.2% on validation",
            f"{OWN_IMAGES} It is a figure of validation images, which also choose the epoch, and so a little too good. "
            "The frozen layers are run once, not in every epoch.",
            0,
            split="validation",
        ),
    )
}  # fmt: skip


def find(name: str) -> Preset | None:
    return PRESETS.get(name)


# Which images -----------------------------------------------------------------------------------------

Fit = Literal["same", "possible", "own", "other"]


def fit(preset: Preset, classes: Sequence[str], size: tuple[float, float, int] | None, test_images: int) -> Fit:
    """Whether a dataset is the one the figure was published for.

    size: the middle one's shorter and longer side and channels; test_images: of the classes that are learned. possible: the same
    classes, but other pictures; own: made for images of one's own; other: it has not the classes.
    """
    if not preset.data:
        return "own"
    wanted, expected = preset.settings.get("classes", ()), CLASSES[preset.data]
    if not set(wanted or expected) <= set(classes) or (not wanted and len(classes) != len(expected)):
        return "other"
    same = set(classes) == set(expected) and size == (SIDE, SIDE, 1) and test_images == preset.n
    return "same" if same else "possible"


# Beside the published figure --------------------------------------------------------------------------


def figure(preset: Preset, evaluation: Evaluation) -> Interval | None:
    """The share that the published one is compared with; None without images of every class it needs.

    The interval of a mean of classes joins those of the classes (Newcombe 1998's square-and-add).
    """
    if not preset.per_class:
        return evaluation.accuracy
    recalls = [c.recall for c in evaluation.per_class if c.recall is not None]
    if not recalls or len(recalls) < len(evaluation.per_class):
        return None
    mean = sum(r.value for r in recalls) / len(recalls)
    below = sum((r.value - r.low) ** 2 for r in recalls) ** 0.5 / len(recalls)
    above = sum((r.high - r.value) ** 2 for r in recalls) ** 0.5 / len(recalls)
    return Interval(mean, mean - below, mean + above)


def published_line(preset: Preset, evaluation: Evaluation) -> str:
    """The published figure and the run's own, with its n and interval, as a sentence."""
    ours, n = figure(preset, evaluation), evaluation.n
    if ours is None:
        return f"Published: {preset.published_text}."
    own = f"{evaluation.confusion.trace()} of {n}" if n < TOO_FEW else f"{ours.value:.1%} ({ours.low:.1%} to {ours.high:.1%}) of {n:,}"
    return f"Published: {preset.published_text}. This run: {own} {evaluation.split} images."
