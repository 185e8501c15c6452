"""Networks as data: what each is, what it receives, and where its parts are."""

from __future__ import annotations

from core.errors import Invalid
from core.types import Architecture

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


def find(name: str) -> Architecture | None:
    return ARCHITECTURES.get(name)


def architecture(name: str) -> Architecture:
    found = find(name)
    if found is None:
        raise Invalid(unknown(name))
    return found


def unknown(name: str) -> str:
    return f"There is no network called “{name}”. Choose one of: {', '.join(ARCHITECTURES)}."
