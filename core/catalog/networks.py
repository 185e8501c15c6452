"""Networks as data: what each is, what it receives, and where its parts are.

The named ones stand here; networks.csv holds the facts of all others of torchvision and timm, made by core.ml.registry.
"""

from __future__ import annotations

import csv
import difflib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from core.catalog import layers
from core.errors import Invalid
from core.types import Architecture, Preprocess, RunConfig

CATALOGUE = Path(__file__).parent / "networks.csv"
COLUMNS = (
    "name", "family", "parameters", "per_class", "input_size", "any_shape", "multiple", "smallest", "head", "cam_layer", "resize", "mean", "std",
    "weights", "url", "licence", "source", "left_out", "batch_norm",
)  # fmt: skip
MAP_SIDE = 16  # pixels: convolutions of large pictures are pooled to this side, or the next layer would have 10^9 weights
LEAST = 32  # pixels: smaller pictures are enlarged for a network made for photographs
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _convnet(channels: int, side: int, classes: int) -> int:
    return (25 * channels + 1) * 32 + (25 * 32 + 1) * 64 + (64 * min(side // 4, MAP_SIDE) ** 2 + 1) * 1000 + 1001 * classes


def _cnn3(channels: int, side: int, classes: int) -> int:
    convolutions = (9 * channels + 1) * 16 + (9 * 16 + 1) * 32 + (9 * 32 + 1) * 64
    return convolutions + (64 * min(side // 8, MAP_SIDE) ** 2 + 1) * 1000 + 1001 * 96 + 97 * classes


def _torchvision(
    name: str, title: str, summary: str, *, head: str, cam_layer: str, parameters: int, source: str, **rest: Any
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
        source=source,
        parameters=parameters,
        any_shape=True,
        **rest,
    )


ARCHITECTURES: dict[str, Architecture] = {
    a.name: a
    for a in (
        # Networks made here: each is a class of core.ml.scratch.
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
            tutorial=(1, 28),
            formula=lambda channels, side, classes: (channels * side * side + 1) * classes,
            sketch=(),
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
            tutorial=(1, 28),
            formula=_convnet,
            sketch=(("planes", 3), ("planes", 4), ("dots", 6)),
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
            largest=100,
            tutorial=(3, 100),
            formula=_cnn3,
            sketch=(("planes", 2), ("planes", 3), ("planes", 4), ("dots", 6), ("dots", 4)),
        ),
        # Networks of torchvision and timm.
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
            parameters=4_652_008,
            any_shape=True,
        ),
        _torchvision(
            "resnet18",
            "ResNet-18",
            "Eighteen layers with shortcuts; the usual first choice.",
            head="fc",
            cam_layer="layer4",
            parameters=11_689_512,
            source="He et al. 2015, arXiv:1512.03385",
        ),
        _torchvision(
            "vgg11",
            "VGG-11",
            "Eleven plain layers and 129 million weights; large and slow, easy to explain.",
            head="classifier.6",
            cam_layer="features.18",
            parameters=132_863_336,
            source="Simonyan and Zisserman 2014, arXiv:1409.1556",
            learning_rate=1e-4,
            sketch=(("bars", 11),),
        ),
        _torchvision(
            "resnext50_32x4d",
            "ResNeXt-50",
            "Fifty layers in 32 parallel paths; accurate and slow without a GPU.",
            head="fc",
            cam_layer="layer4",
            parameters=25_028_904,
            source="Xie et al. 2016, arXiv:1611.05431",
        ),
        Architecture(
            "own",
            "Your own layers",
            "Build a network row by row and see at once what comes out of each layer.",
            "own:",
            head="head",
            cam_layer="",
            batch_size=32,
            source="Yours",
            sketch=(),
        ),
    )
}


def _similarity(name: str, title: str, distance: str) -> Architecture:
    return Architecture(
        name,
        title,
        f"Averages the images of each class and answers with the nearest average, by {distance}. Nothing is trained.",
        f"similarity:{name.removeprefix('similarity_')}",
        head="",
        cam_layer="",
        source="Howard and Gugger 2020, Deep Learning for Coders, chapter 4",
    )


# What a network has to beat. They compare pixels in 0..1 as they are, and have no weights.
BASELINES: dict[str, Architecture] = {
    a.name: a
    for a in (
        _similarity("similarity_l1", "Pixel similarity (L1)", "the mean absolute difference of the pixels"),
        _similarity("similarity_l2", "Pixel similarity (L2)", "the root mean square difference of the pixels"),
    )
}


@dataclass(frozen=True)
class Facts:
    """What networks.csv says of a network beyond its Architecture."""

    family: str
    library: str
    smallest: int  # pixels: the shortest side of a square picture that works
    multiple: int  # of which a side must be a multiple; 0: the input size and no other
    url: str  # of the weights
    licence: str  # of the weights, where it is known
    per_class: int  # parameters of the head for each class


@lru_cache(maxsize=1)
def catalogue() -> dict[str, dict[str, str]]:
    """The rows of networks.csv by name; those with left_out cannot be trained here."""
    with open(CATALOGUE, newline="", encoding="utf-8") as f:
        return {row["name"]: row for row in csv.DictReader(f)}


@lru_cache(maxsize=1)
def _named_by_factory() -> dict[str, Architecture]:
    return {a.factory: a for a in ARCHITECTURES.values()}


def find(name: str) -> Architecture | None:
    """A named network, or one of the catalogue such as “timm:convnext_tiny”."""
    return ARCHITECTURES.get(name) or BASELINES.get(name) or _named_by_factory().get(name) or _find(name)


@lru_cache(maxsize=256)
def _find(name: str) -> Architecture | None:
    row = catalogue().get(name)
    if row is None or row["left_out"]:
        return None
    library, _, short = name.partition(":")
    mean, std = (tuple(float(v) for v in row[key].split()) for key in ("mean", "std"))
    return Architecture(
        name,
        short,
        f"Of the family {row['family']} of {library}.",
        name,
        head=row["head"],
        cam_layer=row["cam_layer"],
        input_size=int(row["input_size"]),
        resize=int(row["resize"]),
        mean=mean,
        std=std,
        weights=row["weights"],
        batch_size=32,
        learning_rate=1e-4 if row["family"] == "vgg" else 1e-3,
        source=row["source"],
        parameters=int(row["parameters"]),
        any_shape=row["any_shape"] == "1",
    )


def facts(arch: Architecture) -> Facts | None:
    """None for a network made here."""
    row = catalogue().get(arch.factory)
    if row is None or row["left_out"]:
        return None
    library = arch.factory.partition(":")[0]
    sides = int(row["smallest"]), int(row["multiple"])
    return Facts(row["family"], library, *sides, row["url"], row["licence"], int(row["per_class"]))


def learns_batch_norm(config: RunConfig) -> bool:
    """Whether the run trains layers of batch normalisation; in a frozen backbone they keep what they know."""
    arch = of(config)
    if arch.factory.startswith("own"):
        return any(layer.kind == "normalisation" for layer in config.layers)
    frozen = config.freeze and not config.unfreeze_after
    return not frozen and catalogue().get(arch.factory, {}).get("batch_norm") == "1"


def architecture(name: str) -> Architecture:
    found = find(name)
    if found is None:
        raise Invalid(unknown(name))
    return found


def of(config: RunConfig) -> Architecture:
    """The run's network; of one built by hand its own layers say where the parts are."""
    arch = architecture(config.architecture)
    return replace(arch, cam_layer=layers.cam_layer(config.layers)) if arch.name == "own" else arch


def unknown(name: str) -> str:
    """Why there is no such network, and what to choose."""
    if (row := catalogue().get(name)) is not None:
        return f"“{name}” cannot learn other classes here: {row['left_out']}. Choose another network."
    if near := [a.name for a in search(name)[0][:4]]:
        return f"There is no network called “{name}”. Near it: {', '.join(near)}."
    return f"There is no network called “{name}”. Choose one of: {', '.join(ARCHITECTURES)}, or one of torchvision and timm by its name."


# Search -------------------------------------------------------------------------------------------


def search(text: str, page: int = 0, size: int = 8) -> tuple[list[Architecture], int]:
    """One page of the networks that match every word, best first, and how many there are in all."""
    found = _ranked(text.strip().lower())
    return [architecture(name) for name in found[page * size : (page + 1) * size]], len(found)


@lru_cache(maxsize=64)
def _ranked(text: str) -> list[str]:
    words = [bare for word in text.split() if (bare := _bare(word))]
    whole = "".join(words)
    ranked = []
    for name, (short, everything) in _index().items():
        if all(word in everything for word in words):
            arch = architecture(name)
            # The very name, then names that begin with it, those that hold it, and those of which only the family does.
            place = 0 if short == whole else 1 if short.startswith(whole) else 2 if whole in short else 3
            ranked.append((place, name not in ARCHITECTURES, not arch.weights, name.startswith("timm:"), arch.parameters or 0, name))
    if ranked or not whole:
        return [name for *_, name in sorted(ranked)]
    by_short: dict[str, list[str]] = {}
    for name, (short, _) in _index().items():
        by_short.setdefault(short, []).append(name)
    return [name for short in difflib.get_close_matches(whole, by_short, 8, 0.75) for name in by_short[short]]


@lru_cache(maxsize=1)
def _index() -> dict[str, tuple[str, str]]:
    """The bare name of every network that can be trained, and all the text it is found by."""
    index = {
        a.name: (_bare(a.title), _bare(f"{a.name} {a.title} {a.factory} {a.source}")) for a in ARCHITECTURES.values() if a.name != "own"
    }
    for name, row in catalogue().items():
        if not row["left_out"] and name not in _named_by_factory():
            index[name] = (_bare(name.partition(":")[2]), _bare(f"{name} {row['family']} {row['weights']} {row['source']}"))
    return index


def _bare(text: str) -> str:
    """VGG-16 and vgg16 are the same word."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


# Pictures -----------------------------------------------------------------------------------------


def measured(config: RunConfig) -> bool:
    """Whether mean and std are those of the training images; pretrained weights want the ones they were trained with."""
    if config.architecture in BASELINES:
        return False
    return not config.pretrained or architecture(config.architecture).mean is None


def preprocess_for(config: RunConfig, sizes: Sequence[tuple[int, int, int]]) -> Preprocess:
    """Channels, resize and crop for a dataset whose pictures have these (width, height, channels).

    Where measured(config), mean and std are 0 and 1 here, to be measured on the training images, and nothing is cut off
    but what makes a picture square. Without sizes a network of the catalogue takes its own input size.
    """
    arch = architecture(config.architecture)
    shorter = Counter(min(w, h) for w, h, _ in sizes).most_common(1)
    if arch.input_size is None or arch.mean is None or arch.std is None:
        channels = max((c for _, _, c in sizes), default=3)
        side = config.image_size or max(8, min(shorter[0][0] if shorter else arch.largest, arch.largest))
        return Preprocess(channels, side, side, (0.0,) * channels, (1.0,) * channels, srgb=True)
    if config.pretrained:
        crop = config.image_size or arch.input_size
        resize = round(crop * (arch.resize or arch.input_size) / arch.input_size)
        return Preprocess(3, resize, crop, arch.mean, arch.std, config.rectangles, srgb=True)
    side = config.image_size or _natural(arch, shorter[0][0] if shorter else arch.input_size, arch.input_size)
    return Preprocess(3, side, side, (0.0,) * 3, (1.0,) * 3, config.rectangles, srgb=True)


def _natural(arch: Architecture, shorter: int, input_size: int) -> int:
    """The side at which a network with random weights sees pictures of this shorter side: small ones nearly as they are."""
    known = facts(arch)
    if known is None or not known.multiple:
        return input_size
    least = max(LEAST, known.smallest, min(shorter, input_size))
    return -(-least // known.multiple) * known.multiple


def wrong_size(arch: Architecture, side: int) -> str:
    """Why the network cannot take square pictures of this side, and which it can; "" if it can as far as is known."""
    known = facts(arch)
    if known is None or side == arch.input_size:
        return ""
    if not known.multiple:
        return f"{arch.title} takes pictures of {arch.input_size}×{arch.input_size} only, not {side}×{side}. Set image_size to 0."
    if side < known.smallest:
        return f"{arch.title} is too deep for pictures of {side}×{side}. The smallest image_size that works is {known.smallest}."
    if side % known.multiple:
        near = round(side / known.multiple) * known.multiple
        return f"{arch.title} takes sides that are multiples of {known.multiple}, not {side}. Set image_size to {near}, or to 0."
    return ""


def problem(config: RunConfig, sizes: Sequence[tuple[int, int, int]], classes: int) -> str:
    """Why the network cannot learn this many classes from pictures of these (width, height, channels); "" if it can."""
    arch, how = architecture(config.architecture), preprocess_for(config, sizes)
    if arch.name == "own":
        return layers.problem(layers.walk(config.layers, how.channels, how.crop, classes, config.output))
    return wrong_size(arch, how.crop)


def parameters(arch: Architecture, channels: int, side: int, classes: int) -> int | None:
    """With a head for this many classes: of the networks for any size by their formula. None where it is not known."""
    if arch.formula:
        return arch.formula(channels, side, classes)
    known = facts(arch)
    return arch.parameters - (1000 - classes) * known.per_class if arch.parameters and known else None


# Weights ------------------------------------------------------------------------------------------


def weights_file(arch: Architecture) -> str:
    """The name under which the pretrained weights lie in weights_folder(); "" where there is no file to fetch."""
    known = facts(arch)
    if known is None or not known.url or arch.weights == "embedded":
        return ""
    name = PurePosixPath(known.url).name
    if known.library == "torchvision" or "huggingface.co" not in known.url:
        return name
    return f"{arch.factory.partition(':')[2]}.{arch.weights}{PurePosixPath(name).suffix}"  # there all are called model.safetensors


def weights_folder() -> Path:
    """Where torch.hub keeps what it has downloaded."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("TORCH_HOME") or f"{cache}/torch").expanduser() / "hub" / "checkpoints"


def download_bytes(arch: Architecture) -> int:
    """About how large the file of the pretrained weights is: four bytes for each parameter, with the classes it was trained on."""
    return 4 * (arch.parameters or 0)


def weights_here(arch: Architecture) -> bool:
    """Whether the pretrained weights are on this machine, as far as their file's name tells."""
    return arch.weights == "embedded" or weights_path(arch) is not None


def weights_path(arch: Architecture) -> Path | None:
    """The file of the pretrained weights, where torch.hub or huggingface_hub keeps it; None where neither does."""
    file, known = weights_file(arch), facts(arch)
    if not file or known is None:
        return None
    if (path := weights_folder() / file).is_file():
        return path
    if "huggingface.co" not in known.url:
        return None
    owner, model, *_, name = known.url.removeprefix("https://huggingface.co/").split("/")
    return next(_hub_cache().glob(f"models--{owner}--{model}/snapshots/*/{name}"), None)


def _hub_cache() -> Path:
    """Where huggingface_hub keeps what it has downloaded."""
    if given := os.environ.get("HF_HUB_CACHE"):
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{cache}/huggingface").expanduser() / "hub"
